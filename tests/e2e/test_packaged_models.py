"""Denoising with models that come with the package, and making such models of runs."""

import json

import jax
import msgspec
import numpy as np
import pytest
from module_datasets import DETECTOR, run_settings, simulate_module, track_rows, whole_of, write_tracks

from tofae_jax.cli import app
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError, concatenate
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.write import open_hit_file
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run
from tofae_jax.engine.denoise import denoise_run
from tofae_jax.engine.evaluate import with_degradation
from tofae_jax.engine.evaluator import evaluation_key, run_evaluator
from tofae_jax.engine.events import evaluation_source, open_events
from tofae_jax.engine.load import load_run
from tofae_jax.engine.pretrained import pack, packaged_model

pytestmark = pytest.mark.slow


def kept_of(path):
    events = concatenate(read_events(path, detector=DETECTOR))
    return events, events.hit_columns["kept"].astype(bool)


def test_denoise_packaged_model_with_tracks(tmp_path, measured, capsys):
    """From the dataset's own tracks, and from a file of tracks beside a file of hits."""
    out = tmp_path / "a.npz"
    words = ["denoise", "--model", "lhcb_torch_tracks", str(measured.path), str(out), "--all-hits"]
    assert app.main(words) == 0
    events, kept = kept_of(out)
    is_signal = whole_of(measured).hit_columns["origin"] == 0
    true = np.sum(kept & is_signal)
    assert true / kept.sum() > 0.8 and true / is_signal.sum() > 0.75
    own = whole_of(measured).hit_columns["track"]
    chosen = kept & is_signal
    assert np.mean(events.hit_columns["track"][chosen] == own[chosen]) > 0.85

    hits = tmp_path / "hits.npz"
    bare = whole_of(measured)._replace(
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


def test_denoise_packaged_model_mistakes_are_named(tmp_path, measured, capsys):
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
        packaged_model.load_packaged("nothing")
    with pytest.raises(ValueError, match="either a run or a packaged model"):
        denoise_run(None, measured.path, out)


def test_evaluate_packaged_model_gives_the_numbers_of_its_parts(tmp_path, measured, capsys):
    words = ["evaluate", "--model", "lhcb_torch_tracks", "--signal", "20", "--noise", "50", "--seed", "3"]
    assert app.main([*words, "--data", str(measured.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["split"], found["events"]) == ("lhcb_torch_tracks", "all", 12)
    ready = packaged_model.load_packaged("lhcb_torch_tracks")
    config = with_degradation(ready.setup.config, n_signal=20, n_noise=50)
    setup = build_run(config)
    source = evaluation_source(config, measured, np.arange(12))
    details = run_evaluator(setup).details(ready.variables, source, evaluation_key(3), setup.step_settings())
    assert found["masked"]["f1"] == pytest.approx(details.result["masked"]["f1"], rel=1e-12)


def test_evaluate_packaged_model_mistakes_are_named(tmp_path, measured, capsys):
    for words, expected in (
        (["evaluate"], "either RUN or --model is needed"),
        (["evaluate", "run", "--model", "lhcb_torch"], "either RUN or --model is needed, got run and lhcb_torch"),
        (["evaluate", "--model", "lhcb_torch"], "model lhcb_torch has no dataset of its own: name one with --data"),
        (["evaluate", "--model", "none", "--data", str(measured.path)], "model 'none' does not come with the package"),
    ):
        assert app.main(words) == 2
        assert expected in capsys.readouterr().err


def test_denoise_run_dataset_of_another_module_raises(tmp_path):
    other = simulate_module(tmp_path / "data", events=2, height_mm=1000.0)
    rebinned = Detector(window_ns=2 * DETECTOR.window_ns)
    slow = write_dataset(tmp_path / "slow", other.events(), detector=rebinned, provenance={})
    with pytest.raises(DataError, match=r"time bins are 0.05 ns long, those of the model 0.025 ns"):
        denoise_run(None, slow.path, tmp_path / "out.npz", model="lhcb_torch_tracks")
    with pytest.raises(DataError, match=r"height_mm = 1000.0, the model was made for 1250.0"):
        denoise_run(None, other.path, tmp_path / "out.npz", model="lhcb_torch_tracks")
    toy = simulated_dataset(tmp_path / "toy", detector=DETECTOR, weights={"v": 1}, n_events=2, seed=1)
    with pytest.raises(DataError, match="contains toy patterns; model lhcb_torch needs LHCb TORCH events"):
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


def test_pack_run_model_scores_like_the_run(tmp_path, measured, blind_run, monkeypatch):
    monkeypatch.setattr(packaged_model, "FOLDER", tmp_path)
    pack.pack_run(blind_run, "lhcb_torch", parent=tmp_path)
    model = packaged_model.load_packaged("lhcb_torch")
    for old, new in zip(*(jax.tree.leaves(v["params"]) for v in (blind_run.variables, model.variables)), strict=True):
        step = np.abs(old).max() / pack.MOST
        assert np.abs(np.asarray(old) - np.asarray(new)).max() <= 0.51 * step + 1e-7
    assert str(blind_run.paths.folder.parent) not in (tmp_path / "lhcb_torch/model.json").read_text()
    scores = [tmp_path / f"{name}.npz" for name in ("run", "model")]
    denoise_run(blind_run.paths.folder, measured.path, scores[0], write="all")
    report = denoise_run(None, measured.path, scores[1], model="lhcb_torch", write="all")
    assert report.run == "lhcb_torch" and report.counts.events == 12
    ours, theirs = (kept_of(path)[0].hit_columns["score"] for path in scores)
    assert np.mean(np.abs(ours - theirs) < 0.2) > 0.8
    assert "track" in concatenate(read_events(scores[1], detector=DETECTOR)).hit_columns  # the input's own

    weights = tmp_path / "lhcb_torch/weights.npz"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"weights.npz: missing or damaged"):
        packaged_model.load_packaged("lhcb_torch")


def test_pack_command_measures_with_the_counts_given(tmp_path, blind_run, monkeypatch, capsys):
    (tmp_path / "made").touch()
    given = []
    monkeypatch.setattr(pack, "pack_run", lambda run, name, config: given.append((name, config)) or tmp_path)
    for words in ([], ["--signal", "30", "--noise", "0", "200"]):
        assert app.main(["pack", str(blind_run.paths.folder), "mine", *words]) == 0
    assert [name for name, _ in given] == ["mine", "mine"]
    assert [(c.degradation.n_signal, c.degradation.n_noise) for _, c in given] == [(30, 50), (30, (0, 200))]
    assert "0.00 MB" in capsys.readouterr().out
    assert app.main(["pack", str(tmp_path / "none"), "mine"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("none: no such run")


def interrupted(*_):
    raise KeyboardInterrupt


def test_pack_run_interrupted_leaves_the_old_model(tmp_path, blind_run, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/weights.npz").write_bytes(b"old")
    (tmp_path / "mine/model.json").touch()
    monkeypatch.setattr(pack, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.pack_run(blind_run, "mine", parent=tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size] == ["weights.npz"]
    assert (tmp_path / "mine/weights.npz").read_bytes() == b"old"


def test_load_packaged_blind_model_finds_tracks():
    """Far above what its network has alone, 0.71, from few guesses already."""
    model = packaged_model.load_packaged("lhcb_torch")
    settings = model.setup.config
    quick = msgspec.structs.replace(settings.model.lhcb_torch, samples=512, improved=64, refined=16)
    config = msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, lhcb_torch=quick))
    evaluator, numbers = run_evaluator(build_run(config)), build_run(config).step_settings()
    source = evaluation_source(config, open_events(config, print), np.arange(16))
    found = evaluator.result(model.variables, source, evaluation_key(7), numbers)
    assert found["events"] == 16
    assert found["masked"]["f1"] > 0.8


def test_load_packaged_every_model_loads(tmp_path, capsys):
    """Each loads, the command line offers it, and all of it is small."""
    assert app.main(["denoise", "--model", "nothing", "in.npz", str(tmp_path / "out.npz")]) == 2
    offered = capsys.readouterr().err.partition("known: ")[2].strip().split(", ")
    assert offered == list(packaged_model.packaged_names()) == ["lhcb_torch", "lhcb_torch_tracks"]
    for name in packaged_model.packaged_names():
        model = packaged_model.load_packaged(name)
        assert model.setup.model.name == name
    sizes = [path.stat().st_size for path in packaged_model.FOLDER.rglob("*") if path.suffix != ".pyc"]
    assert sum(sizes) < 2_000_000


def test_train_without_the_tracks_needed_makes_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model.name=lhcb_torch", "--loss.name=hit_bce", "--data.source=simulate", "--data.simulate.pattern=v"]
    assert app.main(["train", *words]) == 2
    assert "contains toy patterns; model lhcb_torch needs LHCb TORCH events" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
