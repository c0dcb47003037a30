"""Recorder, timer, profilers and the timeline: real files, odd input, and every way out."""

import io
import math
import os
import pstats
import subprocess
import sys
import tempfile
import threading
import time
import types
from contextlib import contextmanager
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from places import ROOT

from tofae_jax import plots
from tofae_jax.engine.monitoring.profiler import StepProfiler, python_profile
from tofae_jax.engine.monitoring.recorder import Recorder, activations_of, read_recording, split_parameters
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.models import build_model
from tofae_jax.runs.timeline import Span, read_timeline

BIG = 1 << 30


class Interrupted(Exception):
    """What goes wrong inside a context."""


def record_epochs(recorder, epochs, value=0.0):
    for epoch in epochs:
        recorder.record(epoch, "weights", {"down_0/kernel": np.full(4, epoch + value)})
        recorder.record(epoch, "biases", {"up_2/bias": np.full(1, -epoch - value)})


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def epochs_in(path):
    with np.load(path) as file:
        return sorted({int(key.split("-")[0]) for key in file.files})


@contextmanager
def without_privileges():
    """Root may write anywhere: not while in here."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def recorder_in(folder):
    return Recorder(folder, flush_every=1, memory_cap_bytes=BIG)


def profiler_in(folder):
    return StepProfiler(folder, first_step=0, n_steps=1)


def python_profile_in(folder):
    with python_profile(folder / "profile.pstats", viewer=False, say=pytest.fail):
        pytest.fail("the block was entered")


@pytest.mark.backlog("B26")
@pytest.mark.parametrize("use", [recorder_in, profiler_in, python_profile_in])
def test_a_folder_that_is_a_file_is_refused_by_name(use, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for folder in (taken, taken / "beneath"):
        with pytest.raises(ValueError, match=f"^{folder}: not a folder that can be written: .+$"):
            use(folder)
    assert taken.read_text() == "mine"


@pytest.mark.backlog("B26")
@pytest.mark.skipif(os.name == "nt", reason="permissions of folders are a matter of POSIX")
@pytest.mark.parametrize("use", [recorder_in, profiler_in, python_profile_in])
def test_a_read_only_folder_is_refused_by_name(use):
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies in a folder that others may not even enter
        folder = Path(name)
        folder.chmod(0o555)
        with without_privileges():
            for path in (folder, folder / "new"):
                with pytest.raises(ValueError, match=f"^{path}: not a folder that can be written: Permission denied$"):
                    use(path)
        assert files_in(folder) == []


@pytest.mark.backlog("B23", "B24")
def test_a_flush_writes_all_epochs_since_the_last(tmp_path):
    with Recorder(tmp_path / "new" / "recording", flush_every=3, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, range(1, 8))
        assert recorder.held_bytes == 5 * 8  # epoch 7: the first six are written
    folder = tmp_path / "new" / "recording"
    assert files_in(folder) == [
        "flush-000001-epochs-000001-000003.npz",
        "flush-000002-epochs-000004-000006.npz",
        "flush-000003-epochs-000007-000007.npz",
    ]
    assert [epochs_in(folder / name) for name in files_in(folder)] == [[1, 2, 3], [4, 5, 6], [7]]
    recording = read_recording(folder)
    assert list(recording) == list(range(1, 8))
    for epoch, kinds in recording.items():
        np.testing.assert_array_equal(kinds["weights"]["down_0/kernel"], np.full(4, float(epoch)))
        np.testing.assert_array_equal(kinds["biases"]["up_2/bias"], [-float(epoch)])


@pytest.mark.backlog("B23")
def test_files_are_read_by_plain_numpy_with_the_documented_keys(tmp_path):
    with recorder_in(tmp_path) as recorder:
        recorder.record(3, "weights", {"down_0/kernel": jnp.arange(6.0).reshape(2, 3)})
        path = recorder.flush()
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["000003-weights-down_0%2Fkernel"]
        np.testing.assert_array_equal(file["000003-weights-down_0%2Fkernel"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.backlog("B23", "B24")
def test_the_memory_cap_forces_an_earlier_flush(tmp_path):
    cap = 1000
    with Recorder(tmp_path, flush_every=100, memory_cap_bytes=cap) as recorder:
        for epoch in range(10):
            for layer in range(5):
                recorder.record(epoch, "activations", {f"layer_{layer}": np.full(10, epoch + layer / 10)})
                assert recorder.held_bytes <= cap
    assert len(files_in(tmp_path)) == math.ceil(10 * 5 * 80 / (cap // 80 * 80))
    recording = read_recording(tmp_path)
    for epoch in range(10):  # epochs that were cut by a flush are whole again
        assert {name: array[0] for name, array in recording[epoch]["activations"].items()} == {
            f"layer_{layer}": epoch + layer / 10 for layer in range(5)
        }


@pytest.mark.backlog("B23", "B24")
def test_an_array_larger_than_the_cap_is_written_at_once(tmp_path):
    with Recorder(tmp_path, flush_every=100, memory_cap_bytes=16) as recorder:
        recorder.record(1, "biases", {"small": np.zeros(1)})
        recorder.record(1, "weights", {"large": np.arange(1000.0)})
        assert recorder.held_bytes == 0
        assert len(files_in(tmp_path)) == 2
        recorder.record(1, "weights", {"small": np.ones(2)})
        assert recorder.held_bytes == 16
    assert read_recording(tmp_path)[1]["weights"]["large"][999] == 999


@pytest.mark.backlog("B24")
def test_growth_is_bounded_and_nothing_is_shared(tmp_path):
    first, second = (Recorder(tmp_path / name, flush_every=2, memory_cap_bytes=BIG) for name in "ab")
    with first, second:
        largest = 0
        for epoch in range(50):
            record_epochs(first, [epoch])
            largest = max(largest, first.held_bytes)
        assert largest == 2 * 40
        assert second.held_bytes == 0
        first.flush()
        assert first.held_bytes == 0
        assert first.flush() is None
    assert len(read_recording(tmp_path / "a")) == 50
    assert read_recording(tmp_path / "b") == {}


@pytest.mark.backlog("B23", "B38")
@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_leaving_on_an_exception_writes_what_is_left(error, tmp_path):
    with pytest.raises(error), Recorder(tmp_path, flush_every=9, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, [1, 2])
        raise error
    assert list(read_recording(tmp_path)) == [1, 2]
    with pytest.raises(ValueError, match="the recorder is not open"):
        record_epochs(recorder, [3])


@pytest.mark.backlog("B23")
def test_a_resume_that_repeats_epochs_replaces_no_file_and_counts_in_the_end(tmp_path):
    with Recorder(tmp_path, flush_every=3, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, [3, 4, 5])
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    with Recorder(tmp_path, flush_every=3, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, [5, 4, 3, 6], value=0.5)
        record_epochs(recorder, [6], value=0.25)  # twice before a flush: the later one, counted once
        assert recorder.held_bytes == 40
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert len(files_in(tmp_path)) == 3
    recording = read_recording(tmp_path)
    weights = {epoch: kinds["weights"]["down_0/kernel"][0] for epoch, kinds in recording.items()}
    assert list(weights.items()) == [(3, 3.5), (4, 4.5), (5, 5.5), (6, 6.25)]


def test_the_order_of_writing_is_that_of_numbers(tmp_path):
    for order, value in ((999_999, 1.0), (1_000_000, 2.0)):
        np.savez(tmp_path / f"flush-{order:06d}-epochs-000001-000001.npz", **{"000001-biases-b": np.array(value)})
    assert read_recording(tmp_path)[1]["biases"]["b"] == 2
    with recorder_in(tmp_path) as recorder:
        recorder.record(1, "biases", {"b": 3.0})
    assert "flush-1000001-epochs-000001-000001.npz" in files_in(tmp_path)
    assert read_recording(tmp_path)[1]["biases"]["b"] == 3


@pytest.mark.backlog("B23")
def test_a_flush_that_fails_forgets_nothing_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    with Recorder(tmp_path, flush_every=1, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, [1])
        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", fail)
            with pytest.raises(OSError, match="disk full"):
                recorder.flush()
            for epoch in (2, 3):
                with pytest.raises(OSError, match="disk full"):
                    record_epochs(recorder, [epoch])
        assert files_in(tmp_path) == []
        assert recorder.held_bytes == 40
    assert list(read_recording(tmp_path)) == [1]


def test_recorded_arrays_are_copies(tmp_path):
    array = np.ones(3)
    with recorder_in(tmp_path) as recorder:
        recorder.record(0, "weights", {"a": array})
        array[:] = 7
    np.testing.assert_array_equal(read_recording(tmp_path)[0]["weights"]["a"], np.ones(3))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (jnp.array([1.5, math.nan, -math.inf], jnp.bfloat16), np.float32),
        (jnp.array([0.5, 2], jnp.float8_e4m3fn), np.float32),
        (jnp.array([1.5], jnp.float16), np.float16),
        (np.array([1e-300]), np.float64),
        (jnp.array([3, -4], jnp.int32), np.int32),
        (np.array([True, False]), np.bool_),
        (np.zeros((0, 3), np.float32), np.float32),
        (2.5, np.float64),
        (np.broadcast_to(np.float32(1), (2, 2)), np.float32),
        (np.arange(6.0).reshape(2, 3).T, np.float64),
    ],
    ids=str,
)
def test_numbers_of_every_kind_come_back(array, dtype, tmp_path):
    with recorder_in(tmp_path) as recorder:
        recorder.record(0, "activations", {"a": array})
    found = read_recording(tmp_path)[0]["activations"]["a"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.asarray(array).astype(dtype))


@pytest.mark.parametrize(
    "array",
    ["text", np.array([None]), np.array(["a"]), jax.random.key(0), object()],
    ids=["text", "objects", "words", "key", "object"],
)
def test_what_is_no_number_is_refused_by_name(array, tmp_path):
    with recorder_in(tmp_path) as recorder:
        with pytest.raises(ValueError, match=r"^weights 'a/b' of epoch 4 has type .+: only numbers can be recorded$"):
            recorder.record(4, "weights", {"a/b": array})
        assert recorder.held_bytes == 0
    assert files_in(tmp_path) == []


def test_bad_settings_are_named(tmp_path):
    for settings in ({"flush_every": 0, "memory_cap_bytes": 1}, {"flush_every": 1, "memory_cap_bytes": -5}):
        with pytest.raises(ValueError, match=r"^(flush_every is 0|memory_cap_bytes is -5), must be at least 1$"):
            Recorder(tmp_path / "new", **settings)
    assert files_in(tmp_path) == []
    with recorder_in(tmp_path) as recorder:
        with pytest.raises(ValueError, match="kind is 'gradients', allowed are 'activations', 'weights', 'biases'"):
            recorder.record(0, "gradients", {})
        with pytest.raises(ValueError, match="epoch is -1, must not be negative"):
            recorder.record(-1, "weights", {})
        recorder.record(0, "weights", {})
    assert files_in(tmp_path) == []
    with pytest.raises(ValueError, match="the recorder is not open"):
        recorder_in(tmp_path).record(0, "weights", {})


@given(names=st.sets(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_any_name_comes_back(names, tmp_path_factory):
    names |= {"a", "a.npy", "a.npy.npy", "../../a", "a/b", "a%2Fb", "a-b", "file", "A"}
    folder = tmp_path_factory.mktemp("recording")
    arrays = {name: np.array(index) for index, name in enumerate(sorted(names))}
    with recorder_in(folder) as recorder:
        recorder.record(1_234_567, "weights", arrays)
    [name] = files_in(folder)
    with np.load(folder / name) as file:
        assert not any(set(key) & set('/\\:."\n') for key in file.files)
    assert read_recording(folder) == {1_234_567: {"weights": arrays}}


def test_damaged_recordings_are_refused_by_name(tmp_path):
    with recorder_in(tmp_path) as recorder:
        record_epochs(recorder, [1])
        path = recorder.flush()
    whole = path.read_bytes()
    np.save(other := io.BytesIO(), np.zeros(3))
    np.savez(unknown := io.BytesIO(), **{"1-gradients-a": np.zeros(3)})
    flipped = whole.replace(np.float64(1).tobytes(), np.float64(2).tobytes(), 1)
    assert flipped != whole
    for content in (b"", b"text", whole[:100], whole[:-30], flipped, other.getvalue(), unknown.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{path}: cannot be read as a recording"):
            read_recording(tmp_path)
    with pytest.raises(ValueError, match="nowhere: no such recording"):
        read_recording(tmp_path / "nowhere")


def test_other_files_are_no_part_of_a_recording(tmp_path):
    for name in (".flush-000001-epochs-000001-000001.npz.9.partial", "notes.txt", "flush-x-epochs-1-1.npz"):
        (tmp_path / name).write_text("half")
    assert read_recording(tmp_path) == {}


@pytest.fixture(scope="module")
def small_model():
    model = build_model("autoencoder", shape_xyt=(7, 9, 5), latent=3, fc=8)
    return model, model.init(jax.random.key(0))


def test_parameters_are_split_without_loss(small_model):
    _, variables = small_model
    weights, biases = split_parameters(variables["params"])
    assert weights["down_0/kernel"].shape == (3, 3, 1, 8)
    assert weights["down_0/BatchNorm_0/scale"].shape == (8,)
    assert biases["latent/bias"].shape == (3,)
    assert {name.rsplit("/")[-1] for name in biases} == {"bias"}
    assert {name.rsplit("/")[-1] for name in weights} == {"kernel", "scale"}
    assert len(weights) + len(biases) == len(jax.tree.leaves(variables["params"]))
    assert split_parameters({}) == ({}, {})
    assert split_parameters({"bias": 1, "a": {"bias": {"kernel": 2}, "b": {}}}) == ({"a/bias/kernel": 2}, {"bias": 1})


def test_activations_are_those_of_the_model(small_model):
    model, variables = small_model
    x = jax.random.uniform(jax.random.key(1), (2, 9, 7))
    found = activations_of(model, variables, x)
    np.testing.assert_array_equal(found["__call__"], model.apply(variables, x).image)
    np.testing.assert_array_equal(found["latent"], found["latent_vector"])
    np.testing.assert_array_equal(found["down_0"], nn.relu(found["down_0/BatchNorm_0"]))
    assert found["down_0"].shape == (2, 11, 7, 8)
    assert np.ptp(found["latent"]) > 0
    compiled = jax.jit(lambda variables, x: activations_of(model, variables, x))(variables, x)
    assert compiled.keys() == found.keys()
    np.testing.assert_allclose(compiled["up_2"], found["up_2"], atol=1e-5)


class Twice(nn.Module):
    """A layer that is used twice, another that gives two arrays."""

    @nn.compact
    def __call__(self, image, train=False):
        layer = nn.Dense(image.shape[-1], name="shared")
        first, second = Pair(name="pair")(layer(layer(image)))
        return first + second


class Pair(nn.Module):
    """An array and its double."""

    def __call__(self, x):
        return x, 2 * x


def test_several_activations_of_one_name_are_numbered(small_model):
    model = small_model[0]._replace(module=Twice())
    x = jnp.ones((1, 2, 3))
    variables = model.module.init(jax.random.key(0), x)
    found = activations_of(model, variables, x)
    assert sorted(found) == ["__call__", "pair/0", "pair/1", "shared/0", "shared/1"]
    np.testing.assert_array_equal(found["pair/1"], 2 * found["shared/1"])
    assert np.any(found["shared/0"] != found["shared/1"])


@pytest.mark.backlog("B23", "B24")
def test_a_model_is_recorded_and_read_back(small_model, tmp_path):
    model, variables = small_model
    weights, biases = split_parameters(variables["params"])
    activations = activations_of(model, variables, jnp.ones((2, 9, 7)))
    with Recorder(tmp_path, flush_every=2, memory_cap_bytes=2000) as recorder:
        for kind, arrays in (("weights", weights), ("biases", biases), ("activations", activations)):
            recorder.record(1, kind, arrays)
    found = read_recording(tmp_path)[1]
    for kind, arrays in (("weights", weights), ("biases", biases), ("activations", activations)):
        assert found[kind].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[kind][name], array)


def brief(span):
    return span.name, span.depth, span.closed_at_exit


@pytest.mark.backlog("B37")
def test_spans_nest_and_last_as_long_as_they_did():
    with Timer() as timer:
        before = time.perf_counter()
        with timer.span("epoch"):
            for _ in range(2):
                with timer.span("train"):
                    time.sleep(0.02)
        elapsed = time.perf_counter() - before
    assert [brief(span) for span in timer.spans] == [("epoch", 0, False), ("train", 1, False), ("train", 1, False)]
    epoch, first, second = timer.spans
    assert 0 <= epoch.start_s <= first.start_s < first.stop_s <= second.start_s < second.stop_s <= epoch.stop_s
    assert first.stop_s - first.start_s >= 0.02
    assert epoch.stop_s - epoch.start_s <= elapsed
    totals = timer.totals()
    assert {name: total.count for name, total in totals.items()} == {"epoch": 1, "train": 2}
    assert totals["epoch"].seconds >= totals["train"].seconds >= 0.04
    assert timer.problems == {}


@pytest.mark.backlog("B39")
def test_missing_starts_and_stops_are_survived_and_counted():
    with Timer() as timer:
        timer.stop("never started")
        timer.stop("never started")
        timer.start("a")
        timer.start("a")  # nested in the first
        timer.start("left open")
        timer.stop("a")
        timer.stop("a")
        timer.stop("a")
        with timer.span("stopped by hand"):
            timer.stop("stopped by hand")
    assert timer.problems == {"never started": 2, "a": 1, "stopped by hand": 1}
    assert [brief(span) for span in timer.spans] == [
        ("a", 0, False),
        ("a", 1, False),
        ("left open", 2, True),
        ("stopped by hand", 1, False),
    ]
    outer, inner, *_ = timer.spans
    assert outer.stop_s >= inner.stop_s >= inner.start_s >= outer.start_s


@pytest.mark.backlog("B38", "B39")
@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, SystemExit])
def test_all_open_spans_are_closed_on_an_unexpected_end(error):
    started, may_end = threading.Event(), threading.Event()

    def work(timer):
        timer.start("work")
        started.set()
        may_end.wait()

    with pytest.raises(error), Timer() as timer:
        thread = threading.Thread(target=work, args=(timer,), name="worker")
        thread.start()
        started.wait()
        timer.start("epoch")
        with timer.span("train"):
            timer.start("step")
            raise error
    may_end.set()
    thread.join()
    found = {span.name: span for span in timer.spans}
    flags = {name: span.closed_at_exit for name, span in found.items()}
    assert flags == {"work": True, "epoch": True, "train": False, "step": True}
    assert all(span.stop_s >= span.start_s for span in found.values())
    assert (found["work"].thread, found["work"].depth) == ("worker", 0)
    assert found["step"].depth == 2
    assert timer.problems == {}


def test_threads_do_not_disturb_each_other():
    def work(timer):
        for _ in range(200):
            with timer.span("outer"), timer.span("inner"):
                timer.stop("of another thread")

    with Timer() as timer:
        timer.start("of another thread")
        threads = [threading.Thread(target=work, args=(timer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: total.count for name, total in timer.totals().items()} == {
        "outer": 800,
        "inner": 800,
        "of another thread": 1,
    }
    assert timer.problems == {"of another thread": 800}
    assert {span.depth for span in timer.spans if span.name == "outer"} == {0}
    assert {span.depth for span in timer.spans if span.name == "inner"} == {1}


@pytest.mark.backlog("B37")
def test_a_timer_that_is_off_stands_in_for_a_real_one(tmp_path):
    with Timer(enabled=False) as timer:
        with timer.span("a"):
            timer.start("b")
        timer.stop("c")
        with pytest.raises(Interrupted), timer.span("a"):
            raise Interrupted
    assert timer.spans == []
    assert timer.totals() == timer.problems == {}
    assert read_timeline(timer.save(tmp_path / "timeline.json")).spans == []


@pytest.mark.backlog("B37")
def test_a_timer_that_is_off_costs_next_to_nothing():
    """In a process of its own, since here every call is checked for its types."""
    code = """
import timeit
from tofae_jax.engine.monitoring.timer import Timer
for enabled in (False, True):
    timer = Timer(enabled=enabled, most_spans=0)
    def measure():
        with timer.span("a"):
            pass
    print(min(timeit.repeat(measure, number=2000, repeat=50)) / 2000)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    off_s, on_s = map(float, answer.stdout.split())
    assert off_s < 1e-6
    assert off_s < on_s


def test_memory_is_bounded_by_the_most_spans(tmp_path):
    with Timer(most_spans=3) as timer:
        for _ in range(10):
            with timer.span("a"):
                pass
    assert len(timer.spans) == 3
    assert timer.totals()["a"].count == 10
    assert read_timeline(timer.save(tmp_path / "timeline.json")).n_not_kept == 7
    with pytest.raises(ValueError, match="most_spans is -1, must not be negative"):
        Timer(most_spans=-1)


@pytest.mark.backlog("B39")
def test_a_timeline_comes_back_with_what_is_still_open(tmp_path):
    with Timer() as timer:
        timer.stop('odd "name"\n')
        with timer.span("é"):
            timer.start("open")
            path = timer.save(tmp_path / "timeline.json")
        assert path == tmp_path / "timeline.json"
        early = read_timeline(path)
        assert [(span.name, span.stop_s) for span in early.spans] == [("é", None), ("open", None)]
        assert early.problems == {'odd "name"\n': 1}
        assert early.totals == {}
    timeline = read_timeline(timer.save(path))
    assert timeline.spans == timer.spans
    assert timeline.totals == timer.totals()
    assert timeline.n_not_kept == 0
    assert files_in(tmp_path) == ["timeline.json"]


def test_other_files_are_no_timelines(tmp_path):
    path = tmp_path / "timeline.json"
    with pytest.raises(ValueError, match=f"^{path}: cannot be read as a timeline: "):
        read_timeline(path)
    for content in (b"", b"{", b"[]", b'{"spans": 3}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: cannot be read as a timeline: "):
            read_timeline(path)
    path.write_text('{"schema_version": 99, "totals": {}, "problems": {}, "n_not_kept": 0, "spans": []}')
    with pytest.raises(ValueError, match="schema version 99 is newer than this package's 1"):
        read_timeline(path)


def span(name, start_s, stop_s, closed_at_exit=False):
    return Span(name=name, start_s=start_s, stop_s=stop_s, depth=0, thread="t", closed_at_exit=closed_at_exit)


def drawn(figure):
    """The figure as a file, and its rows: label, first and last x of each bar by hatch."""
    with plots.style.style():
        figure.savefig(buffer := io.BytesIO(), format="png")
    assert imread(io.BytesIO(buffer.getvalue()))[..., :3].std() > 0.01  # a blank page has none
    axes = figure.axes[0]
    bars = {}
    for collection in axes.collections:
        extents = [path.get_extents() for path in collection.get_paths()]
        bars[collection.get_label(), collection.get_hatch() or ""] = [(box.x0, box.x1) for box in extents]
    return bars, [label.get_text().split("\n") for label in axes.get_yticklabels()]


def notes(figure):
    return "" if figure._supxlabel is None else figure._supxlabel.get_text()


@pytest.mark.backlog("B37", "B39")
def test_the_timeline_shows_each_span_in_the_row_of_its_name():
    spans = [span("train", 1, 5), span("load", 0, 1), span("train", 6, 8), span("validate", 5, 6)]
    bars, labels = drawn(plots.timer_timeline(spans, title="a run"))
    assert bars == {("load", ""): [(0, 1)], ("train", ""): [(1, 5), (6, 8)], ("validate", ""): [(5, 6)]}
    assert labels == [["load", "1 × 1 s = 1 s"], ["train", "2 × 3 s = 6 s"], ["validate", "1 × 1 s = 1 s"]]


@pytest.mark.backlog("B39")
def test_spans_without_a_proper_end_are_hatched():
    spans = [span("a", 0, 2), span("a", 3, 4, True), span("b", 1, None), span("b", 2, math.nan)]
    figure = plots.timer_timeline(spans)
    bars, _ = drawn(figure)
    assert bars == {("a", ""): [(0, 2)], ("a", "/////"): [(3, 4)], ("b", "....."): [(1, 4), (2, 4)]}
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["closed at exit", "not closed"]
    assert plots.timer_timeline(spans[:1]).axes[0].get_legend() is None


@pytest.mark.backlog("B37", "B39")
@pytest.mark.parametrize(
    ("spans", "note"),
    [
        ([], ""),
        ([span("a", math.nan, 1)], "1 span has no usable times"),
        ([span("a", math.inf, 1), span("b", 3, 2), span("c", -math.inf, None)], "3 spans have no usable times"),
        ([span("a", math.nan, math.nan), span("a", 1e300, 2e300)], "2 spans have no usable times"),
    ],
)
def test_a_timeline_of_nothing_says_so(spans, note):
    figure = plots.timer_timeline(spans)
    assert drawn(figure) == ({}, [])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no spans"]
    assert notes(figure) == note


@pytest.mark.backlog("B37", "B39")
@pytest.mark.parametrize(
    ("spans", "n_rows"),
    [
        ([span("one", 0.5, 0.75)], 1),
        ([span("no length", 0, 0)], 1),
        ([span("no length", 1e9, 1e9), span("no length", 1e9, 1e9)], 1),
        ([span("open and alone", 3, None)], 1),
        ([span("tiny", 5e-324, 1e-320)], 1),
        ([span("long", -1e9, 1e9), span("short", 0, 1e-9)], 2),
        ([span("bad", math.nan, 1), span("good", 0, 1)], 1),
        ([span("$x_{$", 0, 1), span("", 1, 2), span("a\nb\x00\ud800", 2, 3), span("$" * 999, 3, 4)], 4),
        ([span(f"name {i % 5}", i * 1e-3, i * 1e-3 + 1e-4 * (i % 7), i % 999 == 0) for i in range(5000)], 5),
        ([span(f"name {i}", 0, i) for i in range(3000)], 30),
    ],
    ids=lambda value: value if isinstance(value, int) else value[0].name[:20].strip("$\n\x00") or "names",
)
def test_odd_timelines_are_drawn(spans, n_rows):
    _, labels = drawn(plots.timer_timeline(spans))
    assert len(labels) == n_rows
    assert max(len(line) for label in labels for line in label) <= 40


def test_the_names_that_took_longest_are_kept():
    figure = plots.timer_timeline([span(f"name {i}", 0, i) for i in range(100)])
    _, labels = drawn(figure)
    assert {label[0] for label in labels} == {f"name {i}" for i in range(70, 100)}
    assert notes(figure) == "70 more names took no longer"


@pytest.mark.backlog("B37", "B39")
def test_values_of_other_types_do_not_stop_a_run():
    odd = types.SimpleNamespace(name=None, start_s="?", stop_s=[], closed_at_exit=None)
    whole = types.SimpleNamespace(name=3, start_s=np.float32(1), stop_s=np.int64(2), closed_at_exit=0)
    bars, labels = drawn(plots.timer_timeline([odd, whole]))
    assert bars == {("3", ""): [(1, 2)]}
    assert labels == [["3", "1 × 1 s = 1 s"]]


def test_a_real_timer_is_drawn_as_it_is_and_from_its_file(tmp_path):
    with Timer() as timer, timer.span("epoch"), timer.span("train"):
        timer.start("open")
    bars, _ = drawn(plots.timer_timeline(timer.spans))
    assert list(bars) == [("epoch", ""), ("train", ""), ("open", "/////")]
    assert drawn(plots.timer_timeline(read_timeline(timer.save(tmp_path / "t.json")).spans))[0] == bars


def traced_steps(folder):
    """Numbers of the steps that the trace in a folder names."""
    [path] = folder.rglob("*.xplane.pb")
    events = [
        event
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    assert all(event.duration_ns > 0 for event in events)
    return sorted(dict(event.stats)["step_num"] for event in events)


def run_steps(profiler, steps):
    double = jax.jit(lambda x: 2 * x)
    x = jnp.ones(3)
    active = []
    for step in steps:
        profiler.at_step(step, x)
        active.append(profiler.is_active)
        with profiler.step_annotation(step):
            x = double(x).block_until_ready()
    return active


@pytest.mark.backlog("B26")
def test_the_trace_holds_the_active_steps_and_no_warm_up(tmp_path):
    folder, said = tmp_path / "new" / "profile", []
    with StepProfiler(folder, first_step=2, n_steps=3, say=said.append) as profiler:
        assert run_steps(profiler, range(7)) == [False, False, True, True, True, False, False]
    assert traced_steps(folder) == [2, 3, 4]
    [line] = said
    assert line.startswith("profile of steps 2 to 4; to view it: ")
    assert line.endswith(f"tensorboard --logdir {folder}")


@pytest.mark.backlog("B26", "B38")
@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_the_trace_is_closed_on_every_way_out(error, tmp_path):
    said = []
    with pytest.raises(error), StepProfiler(tmp_path, first_step=0, n_steps=9, say=said.append) as profiler:
        run_steps(profiler, range(2))
        raise error
    assert traced_steps(tmp_path) == [0, 1]
    assert said[0].startswith("profile of steps 0 to 1;")
    assert not profiler.is_active
    jax.profiler.start_trace(tmp_path / "another")  # would fail if one were still open
    jax.profiler.stop_trace()


@pytest.mark.backlog("B26")
def test_a_resumed_run_is_profiled_from_its_first_step(tmp_path):
    with StepProfiler(tmp_path, first_step=3, n_steps=2, say=lambda _: None) as profiler:
        run_steps(profiler, range(100, 105))
    assert traced_steps(tmp_path) == [100, 101]


@pytest.mark.backlog("B26")
def test_a_run_that_ends_in_the_warm_up_says_so(tmp_path):
    said = []
    with StepProfiler(tmp_path, first_step=5, n_steps=1, say=said.append) as profiler:
        run_steps(profiler, range(5))
    assert said == ["no step was profiled: training ended before step 5"]
    assert files_in(tmp_path) == []


class Pending:
    """An array that notes when it was waited for."""

    def __init__(self):
        self.waited_at = []

    def block_until_ready(self):
        self.waited_at.append(self.step)
        return self


@pytest.mark.backlog("B26")
def test_work_under_way_is_waited_for_where_the_trace_begins_and_ends_only(tmp_path):
    state = Pending()
    with StepProfiler(tmp_path, first_step=2, n_steps=3, say=lambda _: None) as profiler:
        for state.step in range(8):
            profiler.at_step(state.step, {"state": state})
    assert state.waited_at == [2, 5]


def test_bad_steps_are_named(tmp_path):
    with pytest.raises(ValueError, match="first_step is -1, must not be negative"):
        StepProfiler(tmp_path, first_step=-1, n_steps=1)
    with pytest.raises(ValueError, match="n_steps is 0, must be at least 1"):
        StepProfiler(tmp_path, first_step=0, n_steps=0)
    with pytest.raises(ValueError, match="the profiler is not open"):
        StepProfiler(tmp_path, first_step=0, n_steps=1).at_step(0)


def work():
    return sum(len(str(i)) for i in range(1000))


def profiled_functions(path):
    return {name for _, _, name in pstats.Stats(str(path)).stats}


@pytest.mark.backlog("B27")
def test_the_python_profile_is_read_by_pstats(tmp_path):
    path, said = tmp_path / "new" / "run.pstats", []
    with python_profile(path, viewer=False, say=said.append):
        work()
    assert "work" in profiled_functions(path)
    assert said[0] == f"Python profile: {path}; to read it: python -m pstats {path}"
    assert any("(work)" in line for line in said)
    assert not any("\n" in line for line in said)
    assert files_in(path.parent) == ["run.pstats"]


@pytest.mark.backlog("B27", "B38")
def test_the_python_profile_is_written_on_an_exception(tmp_path, no_viewer):
    path, said = tmp_path / "run.pstats", []
    path.write_text("old")
    with pytest.raises(Interrupted), python_profile(path, viewer=True, say=said.append):
        work()
        raise Interrupted
    assert "work" in profiled_functions(path)
    assert not any("snakeviz" in line for line in said)
    with python_profile(path, viewer=False, say=said.append):
        pass
    assert "work" not in profiled_functions(path)


@pytest.mark.backlog("B27")
def test_a_profile_over_a_folder_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=f"^{tmp_path}: is a folder, not a file that can be written$"),
        python_profile(tmp_path, viewer=False, say=pytest.fail),
    ):
        pytest.fail("the block was entered")


@pytest.fixture
def no_viewer(monkeypatch):
    """Neither snakeviz nor a display."""
    monkeypatch.setattr("tofae_jax.engine.monitoring.profiler.find_spec", lambda _: None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture
def viewer(tmp_path, monkeypatch):
    """A package called snakeviz that notes what it was asked for; the file with its notes."""
    notes = tmp_path / "notes.txt"
    (tmp_path / "snakeviz").mkdir()
    (tmp_path / "snakeviz" / "__init__.py").touch()
    code = f"import sys\nopen({str(notes)!r}, 'w').write(sys.argv[1])\nsys.exit('fail' in sys.argv[1])"
    (tmp_path / "snakeviz" / "__main__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    return notes


@pytest.mark.backlog("B27")
def test_a_missing_viewer_is_named_with_its_cure(tmp_path, no_viewer):
    path, said = tmp_path / "run.pstats", []
    with python_profile(path, viewer=True, say=said.append):
        work()
    assert said[-1] == f"the viewer snakeviz is missing: pip install snakeviz, then python -m snakeviz {path}"


@pytest.mark.backlog("B27")
def test_the_viewer_is_opened_where_it_can_be(tmp_path, viewer):
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert viewer.read_text() == str(tmp_path / "run.pstats")
    assert said[-1] == f"snakeviz shows {tmp_path / 'run.pstats'}; Ctrl-C ends it"
    with python_profile(tmp_path / "fail.pstats", viewer=True, say=said.append):
        work()
    assert said[-1] == "snakeviz failed with exit code 1"
    viewer.unlink()
    with python_profile(tmp_path / "run.pstats", viewer=False, say=said.append):
        work()
    assert not viewer.exists()


@pytest.mark.backlog("B27")
def test_ctrl_c_closes_the_viewer_not_the_run(tmp_path, viewer, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert said[-1].endswith("Ctrl-C ends it")


@pytest.mark.backlog("B27")
def test_without_a_display_the_viewer_stays_closed(tmp_path, viewer, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    said = []
    with python_profile(tmp_path / "run.pstats", viewer=True, say=said.append):
        work()
    assert said[-1].startswith("the viewer is not opened: this machine has no display")
    assert not viewer.exists()
