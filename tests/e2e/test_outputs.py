"""What is at the place of an output is never lost: races between real processes, sources, links, interruptions."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hit_files import ROWS, columns_of, read, run_command, write_flat

from tofae_jax.data.dataset import Dataset

D = ("--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "50")
MANY = ("--events", "300000")


def start(folder, *words):
    """The command in another process, in a folder of its own, already at work."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tofae_jax", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, *, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def hidden(folder):
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.slow
def test_folder_that_appears_meanwhile_is_kept(tmp_path):
    run = start(tmp_path, "simulate", "race", *MANY, *D)
    wait_for(lambda: hidden(tmp_path))
    (tmp_path / "race").mkdir()
    (tmp_path / "race" / "thesis.txt").write_text("all my work")
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 2
    assert errors == "tofae_jax: race: appeared meanwhile; it stays as it is, and nothing was written\n"
    assert os.listdir(tmp_path) == ["race"] and (tmp_path / "race" / "thesis.txt").read_text() == "all my work"


@pytest.mark.slow
def test_of_simultaneous_writers_one_succeeds(tmp_path):
    """Each has another seed: what is there is what the one that reports success has made."""
    runs = [start(tmp_path, "simulate", "two", "--seed", str(seed), *MANY, *D) for seed in range(3)]
    codes = [(run.communicate(timeout=200), run.returncode)[1] for run in runs]
    assert sorted(codes) == [0, 2, 2]
    assert Dataset(tmp_path / "two").provenance["seed"] == codes.index(0)
    assert os.listdir(tmp_path) == ["two"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_writers_leave_nothing(tmp_path, number):
    write_flat(tmp_path / "a.parquet", columns_of(ROWS))
    run = start(tmp_path, "simulate", "deep/er/out", *MANY, *D)
    wait_for(lambda: os.path.isdir(tmp_path / "deep/er") and hidden(tmp_path / "deep/er"))
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (128 + number, "tofae_jax: interrupted\n")
    assert os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.slow
def test_leftovers_of_a_kill_are_removed_by_the_next_command(tmp_path, capsys):
    run = start(tmp_path, "simulate", "out", *MANY, *D)
    wait_for(lambda: hidden(tmp_path))
    run.kill()
    run.communicate()
    assert len(hidden(tmp_path)) == 1
    write_flat(tmp_path / "a.parquet", columns_of(ROWS))
    assert run_command(capsys, "convert", tmp_path / "a.parquet", tmp_path / "b.csv", *D)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["a.parquet", "b.csv"]


def test_output_never_replaces_its_source(tmp_path, capsys, monkeypatch):
    """Neither a dataset that holds the source, nor one of several sources, nor a file through a link."""
    monkeypatch.chdir(tmp_path)
    assert run_command(capsys, "simulate", "dd", "--events", 3, *D)[0] == 0
    assert run_command(capsys, "convert", "dd", "dd/raw.csv")[0] == 0
    write_flat(tmp_path / "run1.parquet", columns_of(ROWS))
    os.symlink("run1.parquet", "link.parquet")
    os.mkdir("many")
    write_flat(tmp_path / "many" / "a.parquet", columns_of(ROWS))
    for source, out, words in (
        ("dd/raw.csv", "dd", "dd: holds raw.csv, which is read"),
        ("run*.parquet", "run1.parquet", "run1.parquet: is the input too"),
        ("run1.parquet", "link.parquet", "link.parquet: is the input too"),
        ("link.parquet", "run1.parquet", "run1.parquet: is the input too"),
        ("many", "many/a.parquet", "many/a.parquet: is the input too"),
    ):
        code, _, errors = run_command(capsys, "convert", source, out, "--overwrite", *D)
        assert (code, errors) == (2, f"tofae_jax: {words}; give another name\n")
    assert len(Dataset("dd")) == 3 and read(tmp_path / "run1.parquet").n_events == 3


def test_links_at_the_place_of_an_output(tmp_path, capsys, monkeypatch):
    """A link to a dataset is written through; one that leads nowhere is not replaced."""
    monkeypatch.chdir(tmp_path)
    assert run_command(capsys, "simulate", "there/dd", "--events", 3, *D)[0] == 0
    os.symlink("there/dd", "link")
    assert run_command(capsys, "simulate", "link", "--events", 5, "--overwrite", *D)[0] == 0
    assert os.path.islink("link") and len(Dataset("there/dd")) == 5 and os.listdir("there") == ["dd"]
    os.symlink("missing", "dangling")
    os.symlink("missing", "dangling.csv")
    for words in (("simulate", "dangling"), ("convert", "there/dd", "dangling.csv")):
        code, _, errors = run_command(capsys, *words, "--overwrite")
        assert code == 2 and errors.endswith(": is a link to missing, where nothing is; give another name\n")
    assert os.path.islink("dangling") and os.path.islink("dangling.csv") and not os.path.exists("missing")


def test_figure_of_inspect_needs_overwrite(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(capsys, "simulate", "dd", "--events", 3, *D)[0] == 0
    assert run_command(capsys, "inspect", "dd", "--plot-file", "a.png")[0] == 0
    code, _, errors = run_command(capsys, "inspect", "dd", "--plot-file", "a.png")
    assert (code, errors) == (2, "tofae_jax: a.png: exists already; give another name, or --overwrite\n")
    assert run_command(capsys, "inspect", "dd", "--plot-file", "a.png", "--overwrite")[0] == 0
    (tmp_path / "a.png").write_text("a letter")
    code, _, errors = run_command(capsys, "inspect", "dd", "--plot-file", "a.png", "--overwrite")
    assert code == 2 and "a.png: exists already and is a file of another kind" in errors
    assert (tmp_path / "a.png").read_text() == "a letter"
    code, _, errors = run_command(capsys, "inspect", "dd", "--overwrite")
    assert code == 2 and "overwrite has no effect without plot_file" in errors


def test_dataset_with_other_files_is_not_replaced(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(capsys, "simulate", "dd", "--events", 3, *D)[0] == 0
    (tmp_path / "dd" / "notes.txt").write_text("mine")
    code, _, errors = run_command(capsys, "simulate", "dd", "--events", 5, "--overwrite", *D)
    assert code == 2 and "dd: exists already and holds 'notes.txt', which is not part of a dataset" in errors
    assert json.loads((tmp_path / "dd" / "dataset.json").read_text())["n_events"] == 3
