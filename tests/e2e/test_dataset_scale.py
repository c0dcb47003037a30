"""Datasets with physical lengths of their own: in training, evaluation, denoising, resuming, reports and packages."""

import json
import re
import shutil
from pathlib import Path

import pytest
from sealing import reseal
from small_run import DETECTOR, RECIPE, config, inside, newest, programs, resumed, stopped  # noqa: F401

from tofae_jax.cli import app
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.denoise import denoise
from tofae_jax.engine.evaluate import evaluate
from tofae_jax.engine.load import load_run
from tofae_jax.engine.pretrained.pack import pack_run
from tofae_jax.engine.training import train
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.record import read_record

pytestmark = pytest.mark.slow

WIDE = Detector(**DETECTOR, width_mm=66.0, window_ns=250.0)
RESULTS = ("loss", "input", "masked", "counts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same hits in two datasets: `d` of a window of 25 ns, `w` of 250 ns and a tenth of the width."""
    path = tmp_path_factory.mktemp("scale")
    own = simulated_dataset(path / "d", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=160, seed=1)
    write_dataset(path / "w", own.events(), detector=WIDE, provenance={"source": "made for this test"})
    (path / "r.toml").write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(folder):
    """A run on `d`, which chose a ToF tolerance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train.train(config(train={"epochs": 1}, mask={"choose": "f1"}))[0]


def said_by(capsys, *words, code=0):
    assert app.main(list(map(str, words))) == code
    return capsys.readouterr()


def evaluated(capsys, run, *words):
    said = said_by(capsys, "evaluate", run.folder, "--split", "all", *words)
    result = json.loads(said.out)
    return {name: result[name] for name in RESULTS}, said.err


def test_evaluate_smears_by_the_scale_of_the_events(run, capsys):
    there, warning = evaluated(capsys, run, "--data", "w", "--smear-t-ns", "5")
    assert "w: its detector has width_mm = 66, window_ns = 250, that of the training width_mm = 660, window" in warning
    here, silent = evaluated(capsys, run, "--data", "d", "--smear-t-ns", "0.5")
    assert silent == ""
    other, _ = evaluated(capsys, run, "--data", "d", "--smear-t-ns", "5")
    assert there == here
    assert there != other  # the check can fail


def test_evaluate_tolerances_and_widths_beyond_the_window_are_refused(run, capsys, tmp_path):
    words = ["evaluate", run.folder, "--smear-t-ns"]
    assert "smear_t_ns = 65: at most 25, which is detector.window_ns" in said_by(capsys, *words, "65", code=2).err
    assert "at most 25" in said_by(capsys, *words, "0", "65", code=2).err
    assert json.loads(said_by(capsys, *words, "65", "--data", "w").out)["smear_t_ns"] == 65
    words = ["denoise", run.folder, "d", tmp_path / "out.csv", "--tof-tolerance-ns", "65"]
    assert "tof_tolerance_ns = 65: at most 25, which is detector.window_ns" in said_by(capsys, *words, code=2).err
    assert not (tmp_path / "out.csv").exists()


def kept_of(capsys, run, source, out, *words):
    said = said_by(capsys, "denoise", run.folder, source, out, *words)
    return json.loads(said.out), Path(out).read_text(), said.err


def test_denoise_converts_given_times_and_keeps_chosen_bins(run, capsys, tmp_path):
    here, hits, silent = kept_of(capsys, run, "d", tmp_path / "a.csv")
    there, hits_there, warning = kept_of(capsys, run, "w", tmp_path / "b.csv")
    assert silent == "" and "mm and ns are those of the dataset" in warning
    assert hits_there == hits
    if here["tof_tolerance_ns"] is not None:
        assert there["tof_tolerance_ns"] == pytest.approx(10 * here["tof_tolerance_ns"])
    _, hits, _ = kept_of(capsys, run, "d", tmp_path / "c.csv", "--tof-tolerance-ns", "2.5", "--score-threshold", "0.3")
    words = ["--score-threshold", "0.3", "--tof-tolerance-ns"]
    assert kept_of(capsys, run, "w", tmp_path / "e.csv", *words, "25")[1] == hits
    assert kept_of(capsys, run, "w", tmp_path / "f.csv", *words, "2.5")[1] != hits


def test_train_records_the_lengths_of_its_dataset(capsys, tmp_path):
    words = ["train", "--config", "r.toml", "--data.path", "w", "--train.epochs", "1", "--tracking.tensorboard"]
    said = said_by(capsys, *words, "--runs.folder", tmp_path)
    assert "detector: width_mm = 66, window_ns = 250, of w" in said.err
    paths = RunPaths(said.out.splitlines()[-1])
    tree = json.loads(paths.record.read_text())
    assert tree["config"]["detector"] == {**DETECTOR, "width_mm": 66.0, "height_mm": 53.0, "window_ns": 250.0}
    assert tree["seeds"] == {"seed": 0, "data.split_seed": 0}
    assert "simulate" not in tree["config"]["data"] and "schedules" not in tree["config"]
    said_by(capsys, "report", paths.folder, "--plots", "none")
    report = re.sub("<[^>]*>", " ", paths.report.read_text())
    log = next(paths.tensorboard.glob("events.*")).read_bytes()
    assert b"data/path" in log
    texts = [paths.summary.read_text(), report, paths.record.read_text()]
    assert all(re.search(r"window_ns\W+250", text) for text in texts)
    for unused in ("simulate.", "cluster_sigma_ns", "dashboard_port", "record_flush_every", "loss_scale", "max_tracks"):
        assert not any(unused in text for text in texts)
        assert unused.replace(".", "/").encode() not in log
    result, _ = evaluated(capsys, paths, "--data", "w")
    assert result["counts"]["pattern_hits"] > 0


@pytest.mark.parametrize("words", [["r.toml", "--detector.window-ns", "25"], ["s.toml"]])
def test_train_lengths_that_contradict_the_dataset_are_refused(words, capsys):
    Path("s.toml").write_text(RECIPE.replace("n_t = 40", "n_t = 40, window_ns = 25.0"))
    before = sorted(Path().iterdir())
    said = said_by(capsys, "train", "--config", *words, "--data.path", "w", code=2)
    assert said.err == (
        "tofae_jax: w: its detector has window_ns = 250, the settings say window_ns = 25; leave detector.window_ns "
        "out, or give another dataset\n"
    )
    assert sorted(Path().iterdir()) == before


def test_resume_of_an_older_run_goes_on_with_its_own_lengths(tmp_path, caplog):
    """Earlier versions ignored the dataset's lengths: a run that they began must end as it would have."""
    whole = train.train(config(runs={"folder": str(tmp_path / "whole")}))[0]
    paths = RunPaths(shutil.copytree(stopped(config(), 9).folder, tmp_path / "halted"))
    tree = json.loads(paths.record.read_text())
    tree["config"]["data"]["path"] = tree["data"]["path"] = str(Path("w").resolve())
    reseal(paths.record, tree)
    with caplog.at_level("WARNING"):
        assert resumed(paths).status == "finished"
    assert "window_ns = 250, that of the run width_mm = 660, window_ns = 25, with which it goes on" in caplog.text
    assert newest(paths).checksums == newest(whole).checksums
    assert read_record(paths.folder)[1].config["detector"]["window_ns"] == 25


def test_train_from_a_run_of_another_scale_warns(run, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        child = config(
            data={"path": "w"}, start={"run": str(run.folder)}, train={"epochs": 1}, runs={"folder": str(tmp_path)}
        )
        _, record = train.train(child)
    assert "its detector has width_mm = 660, window_ns = 25, that of this training width_mm = 66" in caplog.text
    assert record.config["detector"]["window_ns"] == 250


def test_denoise_function_dataset_of_another_scale_raises(run, tmp_path):
    loaded = load_run(run.folder)
    given = {"options": loaded.setup.options, "settings": loaded.setup.step_settings()}
    inputs = loaded.variables, loaded.setup.model, "w", tmp_path / "out.csv"
    with pytest.raises(DataError, match="w: its detector has width_mm = 66, window_ns = 250, the one given"):
        denoise(*inputs, detector=loaded.setup.config.detector, **given)
    assert denoise(*inputs, detector=Dataset("w").detector, **given).events == 160
    assert evaluate(loaded.variables, loaded.setup.model, "w", **given)["events"] == 160  # its numbers are in bins


def test_pack_run_measures_on_the_run_s_own_dataset(tmp_path):
    sizes = {"width": 8, "hidden": 8, "layers": 1, "queries": 2, "value_width": 2, "event_width": 8}
    changes = {"model": {"name": "hit_transformer", "hit_transformer": sizes}, "loss": {"name": "hit_bce"}}
    paths, _ = train.train(config(data={"path": "w"}, train={"epochs": 1}, **changes))
    before = sorted(Path().iterdir())
    pack_run(load_run(paths.folder), "mine", parent=tmp_path)
    described = json.loads((tmp_path / "mine/model.json").read_text())
    assert described["config"]["detector"]["window_ns"] == 250
    assert described["results"]["events"] == 24
    assert not {"runs", "start", "tracking", "instruments", "schedules"} & set(described["config"])
    assert not {"path", "simulate"} & set(described["config"]["data"])
    assert sorted(Path().iterdir()) == before  # nothing was simulated
    Path("w").rename("gone")
    try:
        with pytest.raises(DataError, match="the run's dataset is not there any more"):
            pack_run(load_run(paths.folder), "mine", parent=tmp_path)
    finally:
        Path("gone").rename("w")
