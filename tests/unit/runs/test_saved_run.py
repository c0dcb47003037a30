"""What a run's folder tells: read back as it was written, and named where it is damaged, whatever the damage."""

import json
import shutil

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import change, latents, made_up_result, make_run, small_views
from plotted import SMALL, v_shape
from sealing import reseal

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.runs.arrays import load_arrays, save_arrays
from tofae_jax.runs.event_views import save_views
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.lineage import family_of
from tofae_jax.runs.saved_run import load_events, load_latents, read_saved, save_latents


@pytest.fixture
def paths(tmp_path):
    return make_run(tmp_path / "runs" / "a")


@pytest.mark.backlog("B50", "B63")
def test_read_saved_all_that_a_run_left_is_read(paths):
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


def test_read_saved_what_was_never_written_is_empty(tmp_path):
    paths = make_run(tmp_path / "old", with_plots=False, results={})
    paths.metrics.unlink()
    run = read_saved(paths.folder)
    assert (run.history, run.views, run.events, run.latents, run.spans, run.problems) == ([], [], {}, None, [], [])
    assert run.test is None


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ("", "")),
        ({"loss": {"name": "hit_bce"}}, ("hit_bce", "hit_bce")),
        ({"loss": {"name": "acb_mse"}, "evaluation_loss": {"name": "same"}}, ("acb_mse", "acb_mse")),
        ({"loss": {"name": "acb_mse"}, "evaluation_loss": {"name": "hit_bce"}}, ("acb_mse", "hit_bce")),
        ({"loss": {"name": "mse"}, "evaluation_loss": {"name": "mse"}}, ("mse", "mse")),
        (
            {"loss": {"name": "acb_mse"}, "evaluation_loss": {"name": "acb_mse", "acb_mse": {"hit_weight": 5}}},
            ("acb_mse", "acb_mse, other settings"),
        ),
        ({"loss": "mse", "evaluation_loss": 3}, ("", "")),
        ({"loss": {"name": None}, "evaluation_loss": {"name": ["x"]}}, ("", "['x']")),
    ],
)
def test_loss_names_of_training_and_validation(paths, config, names):
    run = read_saved(paths.folder)
    run = run._replace(record=msgspec.structs.replace(run.record, config=config))
    assert tuple(run.loss_names) == names


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
def test_read_saved_damaged_file_is_named_rest_is_read(paths, name):
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


def test_read_saved_folder_in_a_files_place_is_named(paths):
    for path in (paths.plot_data, paths.plot_events, paths.plot_latents, paths.timeline):
        path.unlink()
        path.mkdir()
    problems = read_saved(paths.folder).problems
    assert [problem.partition(":")[0] for problem in problems] == [
        str(path) for path in (paths.plot_data, paths.plot_events, paths.plot_latents, paths.timeline)
    ]


def test_load_arrays_odd_errors_are_data_errors(tmp_path):
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
def test_load_latents_that_do_not_match_are_named(tmp_path, changed):
    path = save_arrays(tmp_path / "l.npz", {k: np.asarray(v) for k, v in latents()._asdict().items()} | changed)
    with pytest.raises(DataError, match=r"l\.npz: its arrays"):
        load_latents(path)


def test_load_arrays_other_version_or_length_is_named(tmp_path):
    np.savez(tmp_path / "v.npz", version=np.asarray(9))
    with pytest.raises(DataError, match=r"v\.npz: of version 9, this program reads 1"):
        load_arrays(tmp_path / "v.npz")
    save_arrays(tmp_path / "e.npz", {"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(DataError, match="do not match"):
        load_events(tmp_path / "e.npz")


def test_read_saved_data_of_another_detector_is_left_out(paths):
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
def test_read_saved_nonsense_in_the_record_is_named(paths, name, value, said):
    change(paths, **{name: value})
    with pytest.raises(ValueError, match=rf"run\.json: damaged: .*{said}"):
        read_saved(paths.folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_saved_any_change_of_a_record_is_read_or_named(paths, data):
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
        reseal(paths.record, tree)
        read_saved(paths.folder)
    except (RunError, DataError) as error:
        assert "run.json" in str(error)
    finally:
        paths.record.write_text(whole)


def test_family_of_reads_each_folder_once(tmp_path, monkeypatch):
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


def test_load_arrays_that_declare_more_than_a_run_has_are_refused(tmp_path, monkeypatch):
    path = save_arrays(tmp_path / "a.npz", {"a": np.zeros(1_000_000)})
    assert path.stat().st_size < 20_000
    assert load_arrays(path)["a"].shape == (1_000_000,)
    monkeypatch.setattr("tofae_jax.runs.arrays._MOST_BYTES", 5_000_000)
    with pytest.raises(DataError, match=r"a\.npz: cannot be read: its arrays have 0.008 GB; arrays of a run have at"):
        load_arrays(path)
