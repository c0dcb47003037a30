"""Tracks of events: from simulations, datasets and files to the models that are given them."""

import csv
import json
import re
from typing import get_args, get_type_hints

import jax
import msgspec
import numpy as np
import pytest

from tofae_jax.cli import app
from tofae_jax.cli.denoise import DenoiseCommand
from tofae_jax.config import Config, SimulateConfig, from_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import split_events
from tofae_jax.data.dataset import write_dataset
from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.track_files import read_tracks
from tofae_jax.data.files.write import open_hit_file
from tofae_jax.data.simulated.dataset import simulated_dataset
from tofae_jax.data.tracks import GIVEN, LIMITS, Tracks, track_table, tracks_of
from tofae_jax.engine import events as simulated
from tofae_jax.engine.build import build_run, step_settings
from tofae_jax.engine.denoise import denoise_run
from tofae_jax.engine.evaluator import Evaluator, evaluation_key
from tofae_jax.engine.events import evaluation_source, open_events, train_source
from tofae_jax.engine.load import load_run
from tofae_jax.engine.pretrained import load, pack
from tofae_jax.lhcb_torch.module import RANGE_LIMITS
from tofae_jax.lhcb_torch.optics import MASSES_GEV
from tofae_jax.models import TRACK_COLUMNS, TRUTH_COLUMNS

DETECTOR = Detector()
QUIET = {"n_other_tracks": 0.0, "n_dark": 60.0, "n_hot": 0.0, "afterpulse_chance": 0.0}


def simulate(path, *, events=12, tracks=1, photons="detected", **module):
    settings = {"photons": photons, "background": QUIET, "module": {"dense_factor": 3.0, **module}}
    tree = {"pattern": "lhcb_torch", "events": events, "tracks": tracks, "seed": 8, "lhcb_torch": settings}
    return simulated.write_simulation(str(path), from_tree(tree, SimulateConfig, "test"), detector=DETECTOR)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A dataset of events as a detector sees them, with one to two tracks."""
    return simulate(tmp_path_factory.mktemp("measured") / "data", tracks=(1, 2))


def table(n=3, **columns):
    known = {name: np.linspace(1, 2, n) for name in GIVEN} | {"particle": np.arange(n) % 3, "arrival_ns": np.ones(n)}
    return known | columns


def test_the_table_of_tracks():
    tracks = Tracks(np.array([2, 0, 1]), table(), np.array([5.0, 6.0, 7.0]))
    found = track_table(tracks, slots=2, with_truth=True)
    assert found.shape == (3, 2, len(TRACK_COLUMNS) + len(TRUTH_COLUMNS)) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, :5], np.linspace(1, 2, 3)[:2, None].repeat(5, 1), rtol=1e-6)
    assert np.all(found[1] == 0) and np.all(found[2, 1] == 0)
    assert found[2, 0, 5] == -7 and found[2, 0, 6] == 1 - 7  # collision and arrival, from the start of the window
    momentum, mass = 2.0, MASSES_GEV[2]
    assert found[2, 0, 7] == pytest.approx(momentum / np.hypot(momentum, mass))
    without = track_table(tracks, slots=4)
    assert without.shape == (3, 4, 8) and np.all(without[..., 6:] == 0)
    nothing = Tracks(np.zeros(2, np.int64), table(0), np.zeros(2))
    assert np.all(track_table(nothing, slots=1) == 0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"momentum_gev": np.array([1.0, 0.0, 2.0])}, r"momentum_gev is 0 \(1 such tracks\), allowed: 0.001 to"),
        ({"x_mm": np.array([1.0, np.nan, 2.0])}, "x_mm is nan"),
        ({"y_mm": np.array([1.0, 1e300, 1e300])}, r"y_mm is 1e\+300 \(2 such"),
        ({"slope_x": np.array([1.0, -11.0, 0.0])}, "slope_x is -11"),
        ({"arrival_ns": np.array([1.0, np.inf, 0.0])}, "not finite"),
        ({"momentum_gev": np.array([1.0, 5e3, 2.0])}, r"momentum_gev is 5000 \(1 such"),  # MeV
        ({"particle": np.array([0, 1, 3])}, "particle must be from 0 to 2, got 3"),
    ],
)
def test_tracks_that_mean_nothing(change, message):
    tracks = Tracks(np.array([2, 1]), table(**change), np.zeros(2))
    with pytest.raises(DataError, match=message):
        track_table(tracks, slots=2, with_truth=True, where="here")


@pytest.mark.parametrize("start", [89_100.0, 1e9, np.nan])
def test_windows_that_start_nowhere_near(start):
    tracks = Tracks(np.array([2, 1]), table(), np.array([0.0, start]))
    with pytest.raises(
        DataError, match=rf"here: window_start_ns is {re.escape(f'{start:g}')} \(1 such tracks\), allowed: -10000 to"
    ):
        track_table(tracks, slots=2, where="here")


def test_what_may_be_simulated_may_be_read():
    for name in GIVEN:
        assert LIMITS[name] == RANGE_LIMITS[name]


def test_tracks_that_are_missing():
    with pytest.raises(DataError, match="here: no tracks are known"):
        track_table(None, slots=1, where="here")
    known = {name: values for name, values in table().items() if name not in ("slope_x", "particle")}
    with pytest.raises(DataError, match=r"lack slope_x, particle, window_start_ns; there are x_mm"):
        track_table(Tracks(np.array([3]), known, None), slots=3, with_truth=True)
    with pytest.raises(DataError, match=r"has 3 tracks, data.max_tracks is 2"):
        track_table(Tracks(np.array([3]), table(), np.zeros(1)), slots=2)


def run_settings(**sections):
    simulate = {"pattern": "lhcb_torch", "events": 20, "tracks": [1, 2], "seed": 8}
    simulate["lhcb_torch"] = {"background": QUIET, "module": {"dense_factor": 3.0}}
    data = {"source": "simulate", "simulate": simulate, "max_hits": 256} | sections.pop("data", {})
    tree = {"data": data, "train": {"batch": 4}, "loss": {"name": "hit_bce"}, **sections}
    return from_tree(tree, Config, "test")


@pytest.mark.parametrize("name", ["lhcb_torch", "lhcb_torch_tracks", "hit_transformer"])
def test_batches_have_the_tracks_that_a_model_needs(name):
    config = run_settings(model={"name": name})
    store = simulated.simulated_events(config)
    splits = split_events(20, train=0.5, validation=0.2, test=0.3, seed=0)
    training = train_source(config, store, splits)[1]
    held_out = evaluation_source(config, store, splits.test)[1]  # 2 events, and filling
    if name == "hit_transformer":
        assert training.tracks is None and held_out.tracks is None
        return
    own = tracks_of(concatenate(store._draw(np.array([n])) for n in training.event))
    np.testing.assert_array_equal((training.tracks[..., 4] > 0).sum(axis=1), own.counts)
    np.testing.assert_allclose(training.tracks[training.tracks[..., 4] > 0][:, 0], own.columns["x_mm"])
    knows_truth = np.any(training.tracks[..., 6:] != 0)
    assert knows_truth == (name == "lhcb_torch")
    if name == "lhcb_torch":
        assert held_out.tracks is None  # nothing to look up where it is tested
    else:
        assert np.all(held_out.tracks[2:] == 0) and np.all(held_out.tracks[:2, 0, 4] > 0)
        assert np.all(held_out.tracks[..., 6:] == 0)


def test_a_dataset_gives_the_tracks_that_were_simulated(measured):
    numbers = np.array([7, 2, 2])
    found = measured.per_event_tracks(numbers)
    whole = [tracks_of(part) for part in measured.events()]
    assert len(whole) == 1
    first = np.concatenate([[0], np.cumsum(whole[0].counts)])
    rows = np.concatenate([np.arange(first[n], first[n + 1]) for n in numbers])
    np.testing.assert_array_equal(found.counts, whole[0].counts[numbers])
    np.testing.assert_array_equal(found.columns["slope_y"], whole[0].columns["slope_y"][rows])
    np.testing.assert_array_equal(found.window_start_ns, whole[0].window_start_ns[numbers])


def events_of(dataset) -> Events:
    return concatenate(dataset.events())


def track_rows(dataset):
    events = events_of(dataset)
    counts = np.diff(events.track_offsets)
    columns = {"event": np.repeat(np.arange(events.n_events), counts)}
    columns |= {name: np.asarray(events.track_columns[name], float) for name in GIVEN}
    return columns | {"window_start_ns": np.repeat(events.event_columns["window_start_ns"], counts).astype(float)}


def write_tracks(path, columns):
    """A table by the library that users would take."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    elif path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table(columns), path)
    else:
        uproot = pytest.importorskip("uproot")
        with uproot.recreate(path) as file:
            file["tracks"] = columns
    return path


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet", ".root"])
def test_tracks_from_files(tmp_path, measured, ending):
    columns = track_rows(measured)
    order = np.random.default_rng(0).permutation(len(columns["event"]))
    path = write_tracks(tmp_path / f"tracks{ending}", {name: values[order] for name, values in columns.items()})
    events = events_of(measured)
    bare = events._replace(track_offsets=None, track_columns={}, event_columns={"event": np.arange(12)})
    found = read_tracks(path).given_to(bare)
    np.testing.assert_array_equal(found.track_offsets, events.track_offsets)
    for i in range(12):  # in any order within an event
        rows = slice(events.track_offsets[i], events.track_offsets[i + 1])
        own, theirs = (sorted(e.track_columns["x_mm"][rows]) for e in (events, found))
        np.testing.assert_allclose(own, theirs, rtol=1e-6)
    np.testing.assert_allclose(found.event_columns["window_start_ns"], events.event_columns["window_start_ns"])
    same = read_tracks(measured.path).given_to(bare)
    np.testing.assert_array_equal(same.track_columns["x_mm"], events.track_columns["x_mm"])


def test_files_of_tracks_that_are_wrong(tmp_path, measured):
    columns = track_rows(measured)
    events = events_of(measured)._replace(event_columns={"event": np.arange(12)})

    def refuses(message, changed, name="t.csv"):
        with pytest.raises(DataError, match=message):
            read_tracks(write_tracks(tmp_path / name, changed)).given_to(events)

    refuses("lacks slope_x", {name: values for name, values in columns.items() if name != "slope_x"})
    refuses("no column 'slope_x'", {n: v for n, v in columns.items() if n != "slope_x"}, "t.parquet")
    refuses("has no window_start_ns, and", {n: v for n, v in columns.items() if n != "window_start_ns"})
    refuses("x_mm of track 1 ", columns | {"x_mm": np.where(np.arange(len(columns["x_mm"])) == 1, np.nan, 0.0)})
    refuses("not a table of numbers", columns | {"event": columns["event"] + 0.5})
    shifted = columns["window_start_ns"] + np.arange(len(columns["event"]))
    refuses("one for the event and all its tracks", columns | {"window_start_ns": shifted})
    (tmp_path / "text.csv").write_text("event,x_mm\n1,2,3\n")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no zip")
    for name, message in (("text.csv", "a row has not 2 values"), ("bad.npz", "damaged"), ("no.csv", "does not exist")):
        with pytest.raises(DataError, match=message):
            read_tracks(tmp_path / name)
    with pytest.raises(DataError, match="unknown ending"):
        read_tracks(tmp_path / "tracks.txt")
    table = read_tracks(write_tracks(tmp_path / "e.csv", columns | {"event": columns["event"] + 99}))
    assert table.given_to(events).track_offsets[-1] == 0
    assert table.n_unused == len(columns["event"]) and table.n_events_without == 12
    windows = events._replace(event_columns={"event": np.arange(12), "window_start_ns": np.full(12, 3.0)})
    np.testing.assert_array_equal(table.given_to(windows).event_columns["window_start_ns"], np.full(12, 3.0))
    with pytest.raises(DataError, match="window_start_ns of event 0 is"):
        read_tracks(write_tracks(tmp_path / "w.csv", columns)).given_to(windows)


def test_tables_as_other_programs_write_them(tmp_path, measured):
    """Upper case, byte order mark, comments, quotes, spaces, text columns, one row, large event numbers."""
    header = "event,x_mm,y_mm,slope_x,slope_y,momentum_gev,window_start_ns,name"
    row = "9007199254740993, 1.5 ,2,0.1,0,4,30,a pion"
    quoted = ",".join(f'"{cell}"' for cell in row.split(","))
    events = Events(np.zeros((0, 3), np.int16), np.zeros(2, np.int64), {}, {"event": np.array([2**53 + 1])})
    for i, text in enumerate((f"{header}\n{row}\n", f"\ufeff# made by hand\n\n{header}\r\n{quoted}\r\n")):
        path = tmp_path / f"{i}.CSV"
        path.write_text(text, encoding="utf-8")
        found = read_tracks(path).given_to(events)
        assert found.track_columns["x_mm"].tolist() == [1.5]
        assert found.event_columns["window_start_ns"].tolist() == [30]
    with (tmp_path / "T.NPZ").open("wb") as file:
        np.savez(file, **track_rows(measured))
    assert read_tracks(tmp_path / "T.NPZ").n_unused == len(track_rows(measured)["event"])


def test_the_tree_called_tracks_is_taken(tmp_path, measured):
    uproot = pytest.importorskip("uproot")
    columns = track_rows(measured)
    for name, other in (("tracks", "hits"), ("a", "b")):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            file[other] = {"x": np.arange(3)}
            file[name] = columns
    assert read_tracks(tmp_path / "tracks.root").n_unused == len(columns["event"])
    with pytest.raises(DataError, match="several tables, and none of them is called tracks: b, a"):
        read_tracks(tmp_path / "a.root")


def kept_of(path):
    events = concatenate(read_events(path, detector=DETECTOR))
    return events, events.hit_columns["kept"].astype(bool)


def test_denoise_given_tracks_by_a_model_that_comes_along(tmp_path, measured, capsys):
    """From the dataset's own tracks, and from a file of tracks beside a file of hits."""
    out = tmp_path / "a.npz"
    words = ["denoise", "--model", "lhcb_torch_tracks", str(measured.path), str(out), "--all-hits"]
    assert app.main(words) == 0
    events, kept = kept_of(out)
    is_signal = events_of(measured).hit_columns["origin"] == 0
    true = np.sum(kept & is_signal)
    assert true / kept.sum() > 0.8 and true / is_signal.sum() > 0.75
    own = events_of(measured).hit_columns["track"]
    chosen = kept & is_signal
    assert np.mean(events.hit_columns["track"][chosen] == own[chosen]) > 0.85

    hits = tmp_path / "hits.npz"
    bare = events_of(measured)._replace(
        hit_columns={}, track_offsets=None, track_columns={}, event_columns={"event": np.arange(12)}
    )
    with open_hit_file(hits) as file:
        file.append(bare)
    words = ["denoise", "--model", "lhcb_torch_tracks", str(hits), str(tmp_path / "b.npz"), "--all-hits"]
    assert app.main(words) == 2
    assert "the input, without --tracks: no tracks are known" in capsys.readouterr().err
    tracks = write_tracks(tmp_path / "tracks.csv", track_rows(measured))
    assert app.main([*words, "--tracks", str(tracks), "--overwrite"]) == 0
    assert "warning" not in capsys.readouterr().err
    again, kept_again = kept_of(tmp_path / "b.npz")
    np.testing.assert_allclose(again.hit_columns["score"], events.hit_columns["score"], atol=1e-3)
    np.testing.assert_array_equal(kept_again, kept)

    columns = track_rows(measured)
    fewer = {name: values[columns["event"] != 5] for name, values in columns.items()}
    fewer["event"] = np.where(fewer["event"] == 11, 99, fewer["event"])
    tracks = write_tracks(tmp_path / "fewer.csv", fewer)
    assert app.main([*words, "--tracks", str(tracks), "--overwrite"]) == 0
    n_unused = np.sum(fewer["event"] == 99)
    errors = capsys.readouterr().err
    assert f"{n_unused} tracks have no event" in errors and "2 events no track" in errors
    found, kept = kept_of(tmp_path / "b.npz")
    of_event = np.repeat(found.event_columns["event"], found.counts)
    alone = np.isin(of_event, (5, 11))
    assert not kept[alone].any() and np.all(found.hit_columns["track"][alone] == -1) and kept.any()

    elsewhere = write_tracks(tmp_path / "elsewhere.csv", columns | {"x_mm": columns["x_mm"] + 2000})
    assert app.main([*words, "--tracks", str(elsewhere), "--overwrite"]) == 0
    said = capsys.readouterr()
    assert "no hit was kept of 12 of 12 events; do they belong to" in said.err and "elsewhere.csv" in said.err
    assert json.loads(said.out)["events_emptied"] == 12

    assert app.main([*words[:3], str(hits), str(elsewhere), "--tracks", str(elsewhere), "--overwrite"]) == 2
    assert "is the input too" in capsys.readouterr().err

    assert app.main([*words, "--tracks", str(tracks), "--overwrite"]) == 0
    tracks = write_tracks(tmp_path / "none.csv", fewer | {"event": fewer["event"] + 1000})
    assert app.main([*words, "--tracks", str(tracks), "--overwrite"]) == 2
    assert "none of its tracks is of an event of" in capsys.readouterr().err
    assert kept_of(tmp_path / "b.npz")[1].any()  # nothing is lost


def test_mistakes_of_denoise_with_models(tmp_path, measured, capsys):
    out = str(tmp_path / "out.npz")
    cases = {
        "expected INPUT OUTPUT with --model": ["--model", "lhcb_torch_tracks", "run", str(measured.path), out],
        "expected RUN INPUT OUTPUT": [str(measured.path), out],
        "to choose a cut by; give --score-threshold": [
            "--model", "lhcb_torch_tracks", "--keep", "f1", str(measured.path), out,
        ],
    }  # fmt: skip
    for message, words in cases.items():
        assert app.main(["denoise", *words]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="does not come with the package; known: "):
        load.load_packaged("nothing")
    with pytest.raises(ValueError, match="either a run or a packaged model"):
        denoise_run(None, measured.path, out)


def test_a_dataset_of_another_module_is_refused(tmp_path):
    other = simulate(tmp_path / "data", events=2, height_mm=1000.0)
    rebinned = Detector(window_ns=2 * DETECTOR.window_ns)
    slow = write_dataset(tmp_path / "slow", other.events(), detector=rebinned, provenance={})
    with pytest.raises(DataError, match=r"time bins are 0.05 ns long, those of the model 0.025 ns"):
        denoise_run(None, slow.path, tmp_path / "out.npz", model="lhcb_torch_tracks")
    with pytest.raises(DataError, match=r"height_mm = 1000.0, the model was made for 1250.0"):
        denoise_run(None, other.path, tmp_path / "out.npz", model="lhcb_torch_tracks")
    toy = simulated_dataset(tmp_path / "toy", detector=DETECTOR, weights={"v": 1}, n_events=2, seed=1)
    with pytest.raises(DataError, match="has toy patterns, which are no light of the LHCb TORCH module"):
        denoise_run(None, toy.path, tmp_path / "out.npz", model="lhcb_torch")


@pytest.fixture(scope="module")
def blind_run(tmp_path_factory):
    """A tiny run of the blind model."""
    from tofae_jax.engine.training.train import train

    sizes = {"width": 16, "hidden": 16, "layers": 1, "queries": 4, "value_width": 4, "event_width": 32}
    search = {"samples": 16, "improved": 4, "refined": 2}
    config = run_settings(
        model={"name": "lhcb_torch", "lhcb_torch": sizes | search},
        degradation={"n_signal": 30, "n_noise": 50},
        mask={"choose": "f1"},
        train={"batch": 4, "epochs": 1, "plots": "none"},
        runs={"folder": str(tmp_path_factory.mktemp("runs"))},
        optimiser={"clip_norm": 1.0},
    )
    paths, _ = train(config)
    return load_run(paths.folder)


def test_a_run_becomes_a_packaged_model(tmp_path, measured, blind_run, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    pack.pack_run(blind_run, "lhcb_torch", parent=tmp_path)
    model = load.load_packaged("lhcb_torch")
    for old, new in zip(*(jax.tree.leaves(v["params"]) for v in (blind_run.variables, model.variables)), strict=True):
        step = np.abs(old).max() / pack.MOST
        assert np.abs(np.asarray(old) - np.asarray(new)).max() <= 0.51 * step + 1e-7
    assert str(blind_run.paths.folder.parent) not in (tmp_path / "lhcb_torch/model.json").read_text()
    scores = [tmp_path / f"{name}.npz" for name in ("run", "model")]
    denoise_run(blind_run.paths.folder, measured.path, scores[0], all_hits=True)
    report = denoise_run(None, measured.path, scores[1], model="lhcb_torch", all_hits=True)
    assert report.run == "lhcb_torch" and report.events == 12
    ours, theirs = (kept_of(path)[0].hit_columns["score"] for path in scores)
    assert np.mean(np.abs(ours - theirs) < 0.2) > 0.8
    assert "track" in concatenate(read_events(scores[1], detector=DETECTOR)).hit_columns  # the input's own

    weights = tmp_path / "lhcb_torch/weights.npz"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"weights.npz: missing or damaged"):
        load.load_packaged("lhcb_torch")


def test_packing_by_command_measures_with_the_counts_that_are_asked_for(tmp_path, blind_run, monkeypatch, capsys):
    from tofae_jax.engine.pretrained.pack import __main__ as command

    (tmp_path / "made").touch()
    given = []
    monkeypatch.setattr(command, "pack_run", lambda run, name, config: given.append((name, config)) or tmp_path)
    for words in ([], ["--signal", "30", "--noise", "0", "200"]):
        monkeypatch.setattr("sys.argv", ["packaged", str(blind_run.paths.folder), "mine", *words])
        command.main()
    assert [name for name, _ in given] == ["mine", "mine"]
    assert [(c.degradation.n_signal, c.degradation.n_noise) for _, c in given] == [(30, 50), (30, (0, 200))]
    assert "0.00 MB" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["packaged", str(tmp_path / "none"), "mine"])
    with pytest.raises(SystemExit):
        command.main()
    assert capsys.readouterr().err.splitlines()[-1].endswith("none: no such run")


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_packaged_model_stays_as_it_was_until_a_new_one_is_measured(tmp_path, blind_run, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/weights.npz").write_bytes(b"old")
    monkeypatch.setattr(packaged, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.pack_run(blind_run, "mine", parent=tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["weights.npz"]
    assert (tmp_path / "mine/weights.npz").read_bytes() == b"old"


def test_the_blind_model_that_comes_along_finds_tracks():
    """Far above what its network has alone, 0.71, from few guesses already."""
    model = load.load_packaged("lhcb_torch")
    settings = model.setup.config
    quick = msgspec.structs.replace(settings.model.lhcb_torch, samples=512, improved=64, refined=16)
    config = msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, lhcb_torch=quick))
    evaluator, numbers = Evaluator(build_run(config)), step_settings(config)
    source = evaluation_source(config, open_events(config, print), np.arange(16))
    found = evaluator.result(model.variables, source, evaluation_key(7), numbers)
    assert found["events"] == 16
    assert found["masked"]["f1"] > 0.8


def test_the_models_that_come_along():
    """Each loads, the command line offers it, and all of it is small."""
    offered = get_args(get_type_hints(DenoiseCommand)["model"])[0]
    assert set(get_args(offered)) == set(load.packaged_names())
    for name in load.packaged_names():
        model = load.load_packaged(name)
        assert model.setup.model.name == name
    sizes = [path.stat().st_size for path in load.FOLDER.rglob("*") if path.suffix != ".pyc"]
    assert sum(sizes) < 2_000_000


def test_a_training_without_the_tracks_it_needs_makes_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model.name=lhcb_torch", "--loss.name=hit_bce", "--data.source=simulate", "--data.simulate.pattern=v"]
    assert app.main(["train", *words]) == 2
    assert "no tracks are known of its events, and the model needs them" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
