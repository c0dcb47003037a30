"""Closed and full standard streams, and control characters in what is printed, with real shells."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from made_runs import make_run
from places import ROOT
from sealing import reseal

from tofae_jax.cli import app
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.runs.history import read_history

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full and a POSIX shell")
PROGRAM = f"{sys.executable} -m tofae_jax"
ESC, SHOWN = "\x1b[31m", "\\u001b[31m"
DETECTOR = Detector(n_x=8, n_y=8, n_t=10)
RECIPE = """
detector = {n_x = 8, n_y = 8, n_t = 10}
data = {path = "d", max_hits = 24}
degradation = {n_signal = 4, n_noise = 4}
model.autoencoder = {latent = 2, fc = 4}
train = {epochs = 1, batch = 8, plots = "none"}
tracking.tensorboard = false
"""


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shell(command, **environment):
    """Exit code and stderr of a command line of bash; `T` is the program."""
    done = subprocess.run(
        ["bash", "-c", f"T='{PROGRAM}'; {command}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_to_a_full_stdout_is_one_line_and_code_1():
    assert shell("$T --help > /dev/full") == (1, "", "tofae_jax: standard output: No space left on device\n")


def dataset(path, **provenance):
    """A small dataset, with more in its provenance."""
    simulated_dataset(path, detector=DETECTOR, weights={"v": 1}, n_events=40, seed=1)
    tree = json.loads((path / "dataset.json").read_text())
    reseal(path / "dataset.json", tree | {"provenance": tree["provenance"] | provenance})


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "inspect --help", "inspect d --plots none"])
def test_full_or_closed_stdout_is_one_line_and_code_1(tmp_path, words):
    dataset(tmp_path / "d")
    code, _, err = shell(f"$T {words} > /dev/full")
    assert (code, err) == (1, "tofae_jax: standard output: No space left on device\n")
    code, _, err = shell(f"$T {words} >&-")
    assert (code, err) == (1, "tofae_jax: standard output: closed\n")


@pytest.mark.slow
def test_every_command_says_in_one_line_that_stdout_is_full(tmp_path):
    dataset(tmp_path / "d")
    make_run(tmp_path / "runs/a", with_plots=False)
    for words in ("lineage", "report runs/a --plots none", "simulate e --events 3", "convert d e.csv"):
        code, _, err = shell(f"$T {words} > /dev/full")
        assert code == 1 and err.splitlines()[-1] == "tofae_jax: standard output: No space left on device"
        assert "Traceback" not in err and "ignored" not in err


@pytest.mark.slow
def test_reader_that_has_had_enough_ends_the_program_quietly():
    _, out, err = shell("set -o pipefail; $T --help | true; echo $?")
    assert out.strip() in ("0", "141") and err == ""
    _, _, err = shell("$T nonsense 2>&1 | true; echo ${PIPESTATUS[0]}")
    assert "Traceback" not in err


@pytest.mark.slow
def test_full_or_closed_stderr_is_no_failure(tmp_path):
    dataset(tmp_path / "d")
    assert shell("$T inspect d --plots none 2> /dev/full")[0] == 0
    assert shell("$T inspect d --plots none 2>&- <&-")[0] == 0
    assert shell("$T nonsense 2> /dev/full")[0] == 2
    code, out, _ = shell("$T nonsense 2>&-")
    assert code == 2 and out == ""  # Python would print to stdout instead


@pytest.mark.slow
def test_training_with_closed_streams_is_whole_and_can_be_resumed(tmp_path):
    dataset(tmp_path / "d")
    (tmp_path / "r.toml").write_text(RECIPE)
    assert shell("$T train --config r.toml >&- 2>&- <&-")[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert len(read_history(run / "metrics.jsonl", is_sealed=True)) == 1
    assert shell(f"$T train --resume {run} --train.epochs 2 --train.plots save --train.plots-every 1 >&- 2>&-")[0] == 0
    assert len(read_history(run / "metrics.jsonl", is_sealed=True)) == 2
    assert (run / "plots/curves.png").is_file()


def told(capsys, *words):
    """What a command says, which holds no control characters."""
    code = app.main([str(word) for word in words])
    said = capsys.readouterr()
    text = said.out + said.err
    assert all(sign == "\n" or sign.isprintable() for sign in text), text
    return code, text


def test_provenance_with_control_characters_is_shown_escaped(capsys, tmp_path):
    dataset(tmp_path / "d", note=f"{ESC}\r\x07\u202e\x9b\nline", **{f"{ESC}key": 1})
    code, text = told(capsys, "inspect", "d", "--plots", "none")
    assert code == 0 and f"{SHOWN}\\r\\u0007\\u202e\\u009b\\nline" in text and f"{SHOWN}key" in text


def test_run_with_control_characters_is_shown_escaped(capsys, tmp_path):
    paths = make_run(tmp_path / f"runs/{ESC}a", with_plots=False)
    tree = json.loads(paths.record.read_text())
    reseal(paths.record, tree | {"run_id": f"{ESC}\nid", "parent_run_id": f"{ESC}parent", "status": "stopped"})
    code, text = told(capsys, "lineage", "runs")
    assert code == 0 and f"{SHOWN}\\nid" in text and f"{SHOWN}parent (not here)" in text
    code, text = told(capsys, "report", "runs", "--plots", "none")
    assert code == 0 and SHOWN in text
    reseal(paths.record, tree | {"status": ESC})
    assert told(capsys, "report", paths.folder, "--plots", "none")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        [f"{ESC}command"],
        ["inspect", f"{ESC}.csv"],
        ["train", f"--{ESC}", "1"],
        ["train", "--train.epochs", ESC],
        ["train", "--config", f"{ESC}.toml"],
        ["train", "--data.path", f"{ESC}", "--model.name", f"\x9b{ESC}"],
        ["lineage", f"runs\x07{ESC}\n"],
        ["evaluate", f"\u202e{ESC}"],
    ],
)
def test_words_with_control_characters_are_shown_escaped(capsys, words):
    code, text = told(capsys, *words)
    assert code == 2 and text.count("\n") == 1


def test_recipe_with_control_characters_is_shown_escaped(capsys, tmp_path):
    for text in (f'"{SHOWN}" = 1', f'model.name = "{SHOWN}"', f'data.path = "{SHOWN}"\nseed = "x"', f"a = {ESC}"):
        (tmp_path / "r.toml").write_text(text)
        code, text = told(capsys, "train", "--config", "r.toml")
        assert code == 2 and text.count("\n") == 1


def test_names_in_files_with_control_characters_are_shown_escaped(capsys, tmp_path):
    name = f"{ESC}\n\u202e"
    np.savez(tmp_path / "a.npz", **{f"{ESC}x": np.ones((3, 4), int), f"{ESC}y": np.ones((2, 4), int)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for column in ("event", "x", "y", "t", name):
            file[f"{ESC}group/{column}"] = np.array([1, 1, 2])
        file["other/x"] = np.ones(2)
    (tmp_path / "a.csv").write_text(f"event,x,y,{ESC}t\n1,1,1,1\n")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({column: [1, 2] for column in ("event", "x", "y", "t", name)}), tmp_path / "a.parquet")
    for file in ("a.npz", "a.h5", "a.csv", "a.parquet"):
        told(capsys, "inspect", file)
        code, text = told(capsys, "convert", file, "out.csv", "--overwrite")
        assert code in (0, 2) and text.count("\n") == 1, text
