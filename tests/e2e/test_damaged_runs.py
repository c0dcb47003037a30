"""Runs whose files were damaged, edited or exchanged: named, and they go on from what is whole."""

import json
import shutil

import numpy as np
import pytest
from hit_files import run_command
from sealing import reseal
from small_run import (  # noqa: F401 (fixtures)
    assert_same,
    config,
    folder,
    halted,
    inside,
    original,
    programs,
    resumed,
    stopped,
    whole,
)

from tofae_jax.engine.checkpoint_format import CheckpointError
from tofae_jax.engine.load import load_run
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.history import read_history
from tofae_jax.runs.saved_run import read_saved

pytestmark = pytest.mark.slow


@pytest.fixture
def other(folder):
    """A run with the same data and settings, and another seed."""
    return stopped(config(seed=3), 9)


def without_checkpoints(paths):
    shutil.rmtree(paths.checkpoints)
    paths.checkpoints.mkdir()
    return paths


def test_checkpoints_of_another_run_are_named_and_not_used(halted, other, capsys):
    for checkpoint in other.checkpoints.glob("step_*"):
        shutil.copytree(checkpoint, without_checkpoints(halted).checkpoints / checkpoint.name)
    words = f"is of run {other.folder.name}, not of"
    with pytest.raises(CheckpointError, match=words):
        load_run(halted.folder)
    for command in (
        ["evaluate", halted.folder],
        ["denoise", halted.folder, "d", halted.folder / "o.csv"],
        ["train", "--resume", halted.folder],
        ["train", "--from", halted.folder, "--data.path", "d"],
    ):
        code, _, errors = run_command(capsys, *command)
        assert code == 2 and words in errors.splitlines()[-1]
    assert len(list(halted.checkpoints.glob("step_*"))) == 1  # it is no damage, so it stays


def test_checkpoint_of_another_run_beside_the_own_is_passed_over(halted, other, whole):
    later = halted.checkpoints / "step_000000011"
    shutil.copytree(next(other.checkpoints.glob("step_*")), later)
    assert load_run(halted.folder, best=False).epoch == 1
    assert resumed(halted).status == "finished"
    assert_same(halted, whole("plain"))
    assert later.is_dir()  # it is somebody's, and not ours to delete


@pytest.mark.parametrize(
    ("key", "value"), [("optimiser.learning_rate", 1.0), ("normalisation.threshold", 0.9), ("detector.window_ns", 3.0)]
)
def test_settings_edited_in_the_record_are_named(halted, key, value, capsys):
    """By the record's own checksum, and where that was made anew, by the checkpoint's settings."""
    tree = json.loads(halted.record.read_text())
    section, name = key.split(".")
    tree["config"][section][name] = value
    halted.record.write_text(json.dumps(tree))
    for command in (["train", "--resume", halted.folder], ["evaluate", halted.folder]):
        code, _, errors = run_command(capsys, *command)
        assert code == 2 and errors.endswith("run.json: damaged or edited: its checksum is not that of its content\n")
    reseal(halted.record, tree)
    for command in (["train", "--resume", halted.folder], ["evaluate", halted.folder]):
        code, _, errors = run_command(capsys, *command)
        assert code == 2 and f"was made with {key} = " in errors and f"but run.json has {value!r}" in errors


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "changed", "nonsense"])
def test_lost_history_is_restored_and_said(halted, whole, damage, capsys, messages):
    lines = halted.metrics.read_bytes()
    if damage == "missing":
        halted.metrics.unlink()
    else:
        changed = {"empty": b"", "cut": lines[:50], "nonsense": b"\0\n" * 9, "changed": lines.replace(b"0.", b"1.")}
        halted.metrics.write_bytes(changed[damage])
    assert resumed(halted).status == "finished"
    assert "metrics.jsonl: damaged or incomplete; restored from the checkpoint: epochs [1]" in capsys.readouterr().err
    assert_same(halted, whole("plain"))
    assert [record["epoch"] for record in read_history(halted.metrics, is_sealed=True)] == [1, 2, 3]


def test_any_flipped_bit_of_what_is_read_of_a_run_is_named(whole, tmp_path):
    """Record, history, scores and the data of figures; the checkpoints have a test of their own."""
    paths = RunPaths(shutil.copytree(whole("plain").folder, tmp_path / "run"))
    before = read_saved(paths.folder)
    rng = np.random.default_rng(0)
    files = [p for p in paths.folder.rglob("*") if p.suffix in (".json", ".jsonl", ".npz") and "check" not in str(p)]
    assert {path.name for path in files} >= {"run.json", "metrics.jsonl", "data.npz"}
    for path in files:
        content = path.read_bytes()
        for place in rng.integers(0, len(content), 60):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                found = read_saved(paths.folder)
            except RunError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                continue
            assert found.problems or is_same(found, before), (path, place)
        path.write_bytes(content)


def is_same(found, before):
    """Whether two readings of a run are equal, bit for bit; without a torn last line of the history."""
    histories = found.history, before.history
    return (
        found.record == before.record
        and histories[0] in (histories[1], histories[1][:-1])
        and same_arrays(found.events, before.events)
        and same_arrays(found.scores, before.scores)
        and all(same_arrays(a._asdict(), b._asdict()) for a, b in zip(found.views, before.views, strict=True))
    )


def same_arrays(first, second):
    pairs = [(np.asarray(first[name]), np.asarray(second.get(name))) for name in first]
    return first.keys() == second.keys() and all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
