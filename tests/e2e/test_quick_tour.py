"""Every command once, on tiny data, with real files and one real kill: what the quick tests have of whole runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT
from small_run import RECIPE

from tofae_jax.cli import app
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

DETECTOR = ["--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "40"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a recipe `a.toml`, its dataset `d`, and a run of it, all made by commands."""
    path = tmp_path_factory.mktemp("tour")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert app.main(["simulate", "d", "--pattern", "v", "--events", "160", "--seed", "1", *DETECTOR]) == 0
        Path("a.toml").write_text(RECIPE)
        words = ["--train.epochs", "2", "--train.plots", "save", "--mask.choose", "f1"]
        assert app.main(["train", "--config", "a.toml", *words]) == 0
    return path


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture
def run(folder):
    (name,) = (path for path in (folder / "runs").iterdir() if path.is_dir() and "killed" not in path.name)
    return name


def test_train_leaves_record_history_checkpoints_and_figures(run):
    paths, record = read_record(run)
    assert record.status == "finished"
    assert [line["epoch"] for line in read_history(paths.metrics)] == [1, 2]
    assert {"curves.png", "event_1_stages.png", "outputs.png"} <= {path.name for path in paths.plots.iterdir()}
    assert "operating_point" in record.results
    assert 0 < record.results["test"]["masked"]["f1"] < 1


def test_inspect_convert_and_lineage_tell_of_data_and_runs(run, capsys):
    assert app.main(["inspect", "d", "--plot-file", "d.png"]) == 0
    assert app.main(["convert", "d", "d.csv"]) == 0
    assert app.main(["convert", "d.csv", "e", *DETECTOR]) == 0
    assert app.main(["lineage", "runs"]) == 0
    said = capsys.readouterr().out
    assert "160 events" in said
    assert run.name in said
    assert Path("d.png").stat().st_size > 1000


def test_evaluate_denoise_and_report_use_the_run(run, capsys):
    assert (
        app.main(["evaluate", str(run), "--data", "d", "--noise", "15", "--keep", "efficiency", "--wanted", "0.5"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["events"] == 24  # the test events of its own data
    assert app.main(["denoise", str(run), "d", "kept.csv"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["events"] == 160
    assert Path("kept.csv").read_text().splitlines()[0].startswith("event,x,y,t")
    assert app.main(["report", str(run), "--csv", "numbers.csv", "--plots", "none"]) == 0
    assert run.name in (run / "report.html").read_text()
    assert len(Path("numbers.csv").read_text().splitlines()) == 2


def test_train_killed_by_sigkill_resumes_and_finishes():
    command = [sys.executable, "-m", "tofae_jax", "train", "--config", "a.toml", "--runs.name", "killed"]
    command += ["--train.epochs", "40", "--checkpoints.every-minutes", "0.01"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    saved = []
    while not saved and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        saved = [p for p in Path("runs").glob("*killed*/checkpoints/step_*") if "tmp" not in p.name]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (killed,) = Path("runs").glob("*killed*")
    assert read_record(killed)[1].status == "running"
    done = max(int(path.name.rpartition("_")[2]) for path in saved) // 7
    assert app.main(["train", "--resume", str(killed), "--train.epochs", str(done + 1)]) == 0
    paths, record = read_record(killed)
    assert (record.status, record.results["epochs"]) == ("finished", done + 1)
    assert [session.status for session in record.sessions] == ["stopped", "finished"]
    assert record.sessions[0].reason == "killed"
    assert [line["epoch"] for line in read_history(paths.metrics)] == list(range(1, done + 2))
