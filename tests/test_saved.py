"""What a run's folder tells: read back as it was written, and named where it is damaged, whatever the damage."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plotted import SMALL, v_shape

from tofae_jax.config import Config, to_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.metrics import metric_names
from tofae_jax.plots import EventView, save_views
from tofae_jax.runs.arrays import load_arrays, save_arrays
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.lineage import family_of
from tofae_jax.runs.record import RunRecord, Session, write_record
from tofae_jax.runs.saved_run import Latents, load_events, load_latents, read_saved, save_latents

OUTPUTS = ("input", "direct", "masked")


def made_up_result(f1=0.5):
    """Numbers as an evaluation gives them."""
    tree = {"events": 40, "loss": 0.25, "counts": {"pattern_hits": 1234}}
    for name in metric_names():
        output, _, metric = name.partition(".")
        if output in OUTPUTS:
            tree.setdefault(output, {})[metric] = f1
    tree["outputs"] = {"threshold": 0.5, "above": 3, "below": 5, "not_finite": 0, "histogram": [0, 8, 0]}
    tree["intervals"] = {"loss": [0.2, 0.3], **{output: {"f1": [f1 - 0.1, f1 + 0.1]} for output in OUTPUTS}}
    return tree


def epoch_record(epoch, f1=0.5):
    """A line of metrics.jsonl."""
    result = {name: part for name, part in made_up_result(f1).items() if name != "intervals"}
    return {
        "epoch": epoch,
        "step": 8 * epoch,
        "learning_rate": 1e-3,
        "train": {"loss": 1 / epoch, "gradient_norm": 0.5, "parameter_norm": 9.0, "relative_update": 0.01},
        "validation": result,
        "hits_dropped": 0,
        "time": {"epoch_s": 2.0, "train_s": 1.5, "validation_s": 0.5},
    }


def small_views(n=2):
    """Events of the small detector: three hits, one of signal and found, one of noise and kept."""
    hits = np.array([[0, 0, 1], [8, 6, 40], [4, 3, 20]], np.int16)
    direct = np.zeros((SMALL.n_y, SMALL.n_x), np.float32)
    direct[0, 0], direct[3, 4] = 1, 20
    view = EventView(hits[:1], hits[:1], hits[:1], hits, np.array([1, 0, 0], bool), direct, np.array([1, 0, 1], bool))
    return [view] * n


def make_run(folder, *, parent=None, status="finished", f1=0.5, detector=SMALL, with_plots=True, **changes):
    """The folder of a run as a training leaves it, without the training."""
    paths = RunPaths(folder)
    paths.plots.mkdir(parents=True)
    config = to_tree(Config(detector=detector))
    record = RunRecord(
        run_id=changes.pop("run_id", paths.folder.name),
        parent_run_id=parent,
        status=status,
        started="2026-11-23T10:00:00+0000",
        ended="2026-11-23T10:01:00+0000",
        command=["tofae_jax", "train"],
        config=config,
        data={"path": "/nowhere", "splits": {"train": 90, "validation": 10, "test": 40}},
        system={"devices": ["cpu"]},
        seeds={"seed": 0},
        sessions=[Session(started="2026-11-23T10:00:00+0000", status=status)],
        results={"best_epoch": 2, "epochs": 3, "training_s": 6.0, "parameters": 1234, "test": made_up_result(f1)},
    )
    write_record(paths, record)
    if changes:
        change(paths, **changes)
    paths.metrics.write_text("".join(json.dumps(epoch_record(epoch, f1)) + "\n" for epoch in (1, 2, 3)))
    if with_plots:
        save_views(paths.plot_data, small_views() if detector == SMALL else [v_shape()], detector)
        numbers = {name: np.arange(40) for name in ("n_signal_hits", "n_noise_hits", "n_occluded_hits")}
        save_arrays(paths.plot_events, {"event": np.arange(40), "label": np.array(["v"] * 40), **numbers})
        save_latents(paths.plot_latents, latents(detector))
        with (timer := Timer()), timer.span("training"):
            pass
        timer.save(paths.timeline)
    return paths


def latents(detector=SMALL, n=40):
    vectors = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    samples = np.zeros((2, detector.n_y, detector.n_x), np.float32)
    return Latents(vectors, np.array(["v"] * n), samples, True)


def change(paths, **parts):
    """Other values in `run.json`, by dotted name with __ for the dots."""
    tree = json.loads(paths.record.read_text())
    for name, value in parts.items():
        *above, last = name.split("__")
        branch = tree
        for key in above:
            branch = branch[key]
        branch[last] = value
    paths.record.write_text(json.dumps(tree))


@pytest.fixture
def paths(tmp_path):
    return make_run(tmp_path / "runs" / "a")


@pytest.mark.backlog("B50", "B63")
def test_all_that_a_run_leaves_is_read_back(paths):
    run = read_saved(paths.folder)
    assert run.problems == []
    assert (run.detector, len(run.views), run.test) == (SMALL, 2, made_up_result())
    assert [record["validation"]["masked"]["f1"] for record in run.history] == [0.5] * 3
    np.testing.assert_array_equal(run.views[0].hits, small_views()[0].hits)
    assert set(run.events) == {"event", "label", "n_signal_hits", "n_noise_hits", "n_occluded_hits"}
    assert run.latents is not None
    for found, made in zip(run.latents, latents(), strict=True):
        np.testing.assert_array_equal(found, made)
    assert [span.name for span in run.spans] == ["training"]


def test_what_was_never_written_is_empty(tmp_path):
    paths = make_run(tmp_path / "old", with_plots=False, results={})
    paths.metrics.unlink()
    run = read_saved(paths.folder)
    assert (run.history, run.views, run.events, run.latents, run.spans, run.problems) == ([], [], {}, None, [], [])
    assert run.test is None


def damages(data: bytes):
    """Ways in which a file may be damaged."""
    rng = np.random.default_rng(5)
    yield b""
    yield b"\0" * len(data)
    yield data[: len(data) // 2]
    yield data[:-3]
    yield b"PK\x03\x04" + b"\xff" * 40
    for start in range(0, len(data), max(1, len(data) // 25)):
        torn = bytearray(data)
        torn[start : start + 8] = rng.bytes(len(torn[start : start + 8]))
        yield bytes(torn)


@pytest.mark.parametrize("name", ["plot_data", "plot_events", "plot_latents", "metrics", "timeline"])
def test_a_damaged_file_is_named_and_the_rest_is_read(paths, name):
    """Every damage gives the file's name or does no harm; never an exception."""
    path = getattr(paths, name)
    whole, n_named = path.read_bytes(), 0
    for damaged in damages(whole):
        path.write_bytes(damaged)
        run = read_saved(paths.folder)
        assert run.test is not None
        assert len(run.problems) <= 1
        assert all(str(path) in problem for problem in run.problems)
        n_named += len(run.problems)
    assert n_named >= 4


def test_a_folder_in_a_file_s_place_is_named(paths):
    for path in (paths.plot_data, paths.plot_events, paths.plot_latents, paths.timeline):
        path.unlink()
        path.mkdir()
    problems = read_saved(paths.folder).problems
    assert [problem.partition(":")[0] for problem in problems] == [
        str(path) for path in (paths.plot_data, paths.plot_events, paths.plot_latents, paths.timeline)
    ]


def test_archives_that_raise_odd_errors_are_data_errors(tmp_path):
    """A method of compression that nobody knows, a torn stream, and more elements than any memory."""
    path = save_arrays(tmp_path / "a.npz", {"a": np.arange(1000)})
    whole = path.read_bytes()
    unknown = bytearray(whole)
    for at in (whole.find(b"PK\x03\x04") + 8, whole.find(b"PK\x01\x02") + 10):
        unknown[at] = 99
    torn = bytearray(whole)
    torn[80:120] = b"\xff" * 40
    for damaged in (unknown, torn):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz: cannot be read: ."):
            load_arrays(path)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + "\n"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", huge)
    with pytest.raises(DataError, match=r"a\.npz: cannot be read: ."):
        load_arrays(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": np.array(["v"])},
        {"vectors": np.zeros(40)},
        {"vectors": np.array([["a"] * 4] * 40)},
        {"has_time": np.zeros(2, bool)},
        {"samples": np.zeros((2, 3), np.float32)},
    ],
)
def test_latents_that_do_not_match_are_named(tmp_path, changed):
    path = save_arrays(tmp_path / "l.npz", {k: np.asarray(v) for k, v in latents()._asdict().items()} | changed)
    with pytest.raises(DataError, match=r"l\.npz: its arrays"):
        load_latents(path)


def test_arrays_of_other_versions_and_lengths_are_named(tmp_path):
    np.savez(tmp_path / "v.npz", version=np.asarray(9))
    with pytest.raises(DataError, match=r"v\.npz: of version 9, this program reads 1"):
        load_arrays(tmp_path / "v.npz")
    save_arrays(tmp_path / "e.npz", {"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(DataError, match="do not match"):
        load_events(tmp_path / "e.npz")


def test_data_of_another_detector_are_not_shown(paths):
    save_views(paths.plot_data, [v_shape()], Detector())
    save_latents(paths.plot_latents, latents(Detector()))
    run = read_saved(paths.folder)
    assert (run.views, run.latents) == ([], None)
    assert [problem.partition(": ")[2] for problem in run.problems] == ["made with another detector than the run's"] * 2


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("results__test", "good", r"results\.test"),
        ("results__test__masked__f1", "high", r"masked"),
        ("results__test__intervals__masked__f1", [1], r"intervals"),
        ("results__test__counts", [3], r"counts"),
        ("results__training_s", "long", r"training_s"),
        ("config__model", "big", r"config\.model"),
        ("config__detector__n_x", -3, r"n_x"),
        ("data__splits", {"test": "all"}, r"splits"),
        ("system__devices", "cpu", r"devices"),
    ],
)
def test_a_record_that_tells_nonsense_is_named(paths, name, value, said):
    change(paths, **{name: value})
    with pytest.raises(ValueError, match=rf"run\.json: damaged: .*{said}"):
        read_saved(paths.folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_record_is_read_or_named(paths, data):
    """Whatever stands in the place of any part of `run.json`."""
    whole = paths.record.read_text()
    tree = branch = json.loads(whole)
    while True:
        key = data.draw(st.sampled_from(sorted(branch)))
        if not isinstance(branch[key], dict) or not branch[key] or data.draw(st.booleans()):
            break
        branch = branch[key]
    branch[key] = data.draw(st.sampled_from([None, 0, -1.5, "<b>", [], {}, {"a": [1]}, [None], True, 10**30]))
    try:
        paths.record.write_text(json.dumps(tree))
        read_saved(paths.folder)
    except (RunError, DataError) as error:
        assert "run.json" in str(error)
    finally:
        paths.record.write_text(whole)


def test_a_family_is_read_once_per_folder_and_survives_what_it_cannot_read(tmp_path, monkeypatch):
    from tofae_jax.runs import lineage

    folders = [make_run(tmp_path / name, parent=parent, with_plots=False).folder for name, parent in ("a-", "ba", "cb")]
    make_run(tmp_path / "stranger", with_plots=False)
    shutil.copytree(tmp_path / "stranger", tmp_path / "broken")
    (tmp_path / "broken" / "run.json").write_text("{")
    read, n_read = lineage.read_record, []
    monkeypatch.setattr(lineage, "read_record", lambda folder: n_read.append(folder) or read(folder))
    assert [record.run_id for record in family_of(folders[1:2])] == ["a", "b", "c"]
    n_read.clear()
    assert [record.run_id for record in family_of(folders)] == ["a", "b", "c"]
    assert len(n_read) <= 3 + 5

    def forbidden(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", forbidden)
    assert [record.run_id for record in family_of(folders[:1])] == ["a"]
