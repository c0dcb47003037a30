"""Recordings: real files, odd input, and every way out."""

import io
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.engine.monitoring.recorder import Recorder, activations_of, read_recording, split_parameters
from tofae_jax.models import build_model

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


def recorder_in(folder):
    return Recorder(folder, flush_every=1, memory_cap_bytes=BIG)


@pytest.mark.backlog("B23", "B24")
def test_flush_writes_all_epochs_since_the_last(tmp_path):
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
def test_flush_file_is_read_by_plain_numpy(tmp_path):
    with recorder_in(tmp_path) as recorder:
        recorder.record(3, "weights", {"down_0/kernel": jnp.arange(6.0).reshape(2, 3)})
        path = recorder.flush()
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["000003-weights-down_0%2Fkernel"]
        np.testing.assert_array_equal(file["000003-weights-down_0%2Fkernel"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.backlog("B23", "B24")
def test_record_beyond_the_memory_cap_flushes_earlier(tmp_path):
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
def test_record_array_larger_than_the_cap_is_written(tmp_path):
    with Recorder(tmp_path, flush_every=100, memory_cap_bytes=16) as recorder:
        recorder.record(1, "biases", {"small": np.zeros(1)})
        recorder.record(1, "weights", {"large": np.arange(1000.0)})
        assert recorder.held_bytes == 0
        assert len(files_in(tmp_path)) == 2
        recorder.record(1, "weights", {"small": np.ones(2)})
        assert recorder.held_bytes == 16
    assert read_recording(tmp_path)[1]["weights"]["large"][999] == 999


@pytest.mark.backlog("B24")
def test_record_many_epochs_growth_is_bounded(tmp_path):
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
def test_recorder_left_by_an_exception_writes_the_rest(error, tmp_path):
    with pytest.raises(error), Recorder(tmp_path, flush_every=9, memory_cap_bytes=BIG) as recorder:
        record_epochs(recorder, [1, 2])
        raise error
    assert list(read_recording(tmp_path)) == [1, 2]
    with pytest.raises(ValueError, match="the recorder is not open"):
        record_epochs(recorder, [3])


@pytest.mark.backlog("B23")
def test_read_recording_repeated_epochs_last_one_counts(tmp_path):
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


def test_flush_order_of_writing_is_that_of_numbers(tmp_path):
    for order, value in ((999_999, 1.0), (1_000_000, 2.0)):
        np.savez(tmp_path / f"flush-{order:06d}-epochs-000001-000001.npz", **{"000001-biases-b": np.array(value)})
    assert read_recording(tmp_path)[1]["biases"]["b"] == 2
    with recorder_in(tmp_path) as recorder:
        recorder.record(1, "biases", {"b": 3.0})
    assert "flush-1000001-epochs-000001-000001.npz" in files_in(tmp_path)
    assert read_recording(tmp_path)[1]["biases"]["b"] == 3


@pytest.mark.backlog("B23")
def test_flush_that_fails_forgets_nothing(tmp_path, monkeypatch):
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


def test_record_arrays_are_copies(tmp_path):
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
def test_record_numbers_of_every_kind_come_back(array, dtype, tmp_path):
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
def test_record_what_is_no_number_is_refused(array, tmp_path):
    with recorder_in(tmp_path) as recorder:
        with pytest.raises(ValueError, match=r"^weights 'a/b' of epoch 4 has type .+: only numbers can be recorded$"):
            recorder.record(4, "weights", {"a/b": array})
        assert recorder.held_bytes == 0
    assert files_in(tmp_path) == []


def test_recorder_bad_settings_are_named(tmp_path):
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
def test_record_any_name_comes_back(names, tmp_path_factory):
    names |= {"a", "a.npy", "a.npy.npy", "../../a", "a/b", "a%2Fb", "a-b", "file", "A"}
    folder = tmp_path_factory.mktemp("recording")
    arrays = {name: np.array(index) for index, name in enumerate(sorted(names))}
    with recorder_in(folder) as recorder:
        recorder.record(1_234_567, "weights", arrays)
    [name] = files_in(folder)
    with np.load(folder / name) as file:
        assert not any(set(key) & set('/\\:."\n') for key in file.files)
    assert read_recording(folder) == {1_234_567: {"weights": arrays}}


def test_read_recording_damaged_file_is_refused(tmp_path):
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


def test_read_recording_other_files_are_ignored(tmp_path):
    for name in (".flush-000001-epochs-000001-000001.npz.9.partial", "notes.txt", "flush-x-epochs-1-1.npz"):
        (tmp_path / name).write_text("half")
    assert read_recording(tmp_path) == {}


@pytest.fixture(scope="module")
def small_model():
    model = build_model("autoencoder", shape_xyt=(7, 9, 5), latent=3, fc=8)
    return model, model.init(jax.random.key(0))


def test_split_parameters_of_a_model_loses_none(small_model):
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


@pytest.mark.slow
def test_activations_of_a_model_are_its_own(small_model):
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


def test_activations_of_one_name_are_numbered(small_model):
    model = small_model[0]._replace(module=Twice())
    x = jnp.ones((1, 2, 3))
    variables = model.module.init(jax.random.key(0), x)
    found = activations_of(model, variables, x)
    assert sorted(found) == ["__call__", "pair/0", "pair/1", "shared/0", "shared/1"]
    np.testing.assert_array_equal(found["pair/1"], 2 * found["shared/1"])
    assert np.any(found["shared/0"] != found["shared/1"])


@pytest.mark.slow
@pytest.mark.backlog("B23", "B24")
def test_recorder_model_is_read_back(small_model, tmp_path):
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
