"""Datasets, runs and results of version 0.1.0, before its packages moved, are read, used and resumed as they were.

`tests/reference/make_version_0_1.py` made them with that version and the compiler options of the tests.
"""

import json
import tarfile

import numpy as np
import pytest
from places import REFERENCE

from tofae_jax.cli import app
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.inspection import inspect_dataset
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

DATASETS = {"patterns": 80, "mixture": 40, "module": 20, "converted": 80, "small": 20}
QUICK = ["hit_transformer", "predecessor"]
SLOW = ["autoencoder", "unet", "lhcb_torch", "lhcb_torch_tracks"]
RUNS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
RESUMED = [pytest.param(name, marks=pytest.mark.slow) for name in ("hit_transformer", *SLOW)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(REFERENCE / "version_0_1.tar.xz") as archive:
        archive.extractall(path, filter="data")
    return path


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def expected(folder):
    return json.loads((folder / "expected.json").read_text())


@pytest.mark.parametrize("name", DATASETS)
def test_old_dataset_is_whole_and_has_its_events(name):
    dataset = Dataset(name)
    assert len(dataset) == DATASETS[name]
    assert inspect_dataset(dataset).problems == []
    if name in ("patterns", "mixture", "small"):
        assert dataset.provenance["generator"] == "tofae_jax.simulation.patterns"
    if name == "module":
        assert dataset.provenance["generator"] == "tofae_jax.simulation.lhcb_torch"


@pytest.mark.parametrize("name", RUNS)
def test_old_run_evaluates_to_the_same_numbers(name, expected, capsys):
    known = expected[name]
    words = ["--data", known["data"], "--split", "all", "--signal", "8", "--noise", "12"]
    assert app.main(["evaluate", name, *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["loss"] == pytest.approx(known["evaluated"]["loss"], rel=1e-4)
    for metric in ("f1", "efficiency"):
        assert result["masked"][metric] == pytest.approx(known["evaluated"][metric], abs=2e-3)


@pytest.mark.parametrize("name", RUNS)
def test_old_run_denoises_with_the_same_scores(name, expected, tmp_path):
    known, out = expected[name], tmp_path / "scored.csv"
    assert app.main(["denoise", name, known["data"], str(out), "--all-hits"]) == 0
    names, *rows = [line.split(",") for line in out.read_text().splitlines()]
    assert len(rows) == known["n_hits"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    scores = np.array(columns["score"][: len(known["score"])], float)
    np.testing.assert_allclose(scores, known["score"], atol=1e-4)
    assert abs(columns["kept"].count("1") - known["n_kept"]) <= 0.01 * known["n_hits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_old_run_resumes_to_the_same_numbers(name, expected, capsys):
    assert app.main(["train", "--resume", name, "--train.epochs", "2"]) == 0
    assert "resuming after step" in capsys.readouterr().err
    paths, record = read_record(name)
    assert record.status == "finished"
    history = read_history(paths.metrics)
    assert [line["epoch"] for line in history] == [1, 2]
    for line, known in zip(history, expected[name]["resumed"], strict=True):
        assert line["train"]["loss"] == pytest.approx(known["train_loss"], rel=1e-3)
        assert line["validation"]["loss"] == pytest.approx(known["loss"], rel=1e-3)
        assert line["validation"]["masked"]["f1"] == pytest.approx(known["f1"], abs=5e-3)


def test_old_run_with_a_changed_record_is_told_apart(expected, capsys):
    """The negative control: other events have other numbers."""
    known = expected["predecessor"]
    words = ["--data", known["data"], "--split", "all", "--signal", "8", "--noise", "12", "--seed", "1"]
    assert app.main(["evaluate", "predecessor", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["loss"] != pytest.approx(known["evaluated"]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lhcb_torch", "lhcb_torch_tracks"])
def test_packaged_model_gives_the_same_scores(name, tmp_path):
    """Bit for bit on the machine that made `packaged_scores.json`; another CPU may round otherwise."""
    known, out = json.loads((REFERENCE / "packaged_scores.json").read_text())[name], tmp_path / "scored.csv"
    assert app.main(["denoise", "--model", name, "module", str(out), "--all-hits"]) == 0
    names, *rows = [line.split(",") for line in out.read_text().splitlines()]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    assert len(rows) == known["n_hits"]
    scores = np.array(columns["score"][: len(known["score"])], float)
    close = np.isclose(scores, known["score"], atol=1e-4)
    assert close.mean() > 0.99  # a search may go another way where two tracks explain an event as well
    assert abs(columns["kept"].count("1") - known["n_kept"]) <= 0.01 * known["n_hits"]
