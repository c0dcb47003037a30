"""Runs that end early and go on: the same numbers as if nothing had happened, and clear words where that cannot be."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from places import ROOT
from sealing import reseal
from small_run import (  # noqa: F401 (fixtures)
    DETECTOR,
    STEPS,
    VARIANTS,
    assert_same,
    config,
    folder,
    halted,
    inside,
    newest,
    original,
    programs,
    resumed,
    stopped,
    stopping_after,
    whole,
)

from tofae_jax.cli import app
from tofae_jax.config import ConfigError
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.checkpoint_format import CheckpointError
from tofae_jax.engine.load import load_run
from tofae_jax.engine.training import train
from tofae_jax.runs import folder as folder_module
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.record import settings_of

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.backlog("B19", "B55", "B63")
@pytest.mark.parametrize(("variant", "steps"), [(name, 4 if name == "fallback" else STEPS + 2) for name in VARIANTS])
def test_a_run_stopped_within_an_epoch_and_resumed_is_the_same(whole, variant, steps, capsys, messages):
    paths = stopped(config(runs={"name": "halves"}, **VARIANTS[variant]), steps)
    epochs, rest = divmod(steps, STEPS)
    meta = newest(paths)
    assert (meta.epoch, meta.step, meta.partial_epoch.steps) == (epochs, steps, rest)
    capsys.readouterr()
    record = resumed(paths)
    assert f"resuming after step {steps} (epoch {epochs}, step {rest} of the next)" in capsys.readouterr().err
    assert record.status == "finished"
    assert_same(paths, whole(variant))
    assert [session.status for session in record.sessions] == ["stopped", "finished"]
    if variant == "float16":
        scales = [epoch["train"]["loss_scale"] for epoch in newest(paths).history]
        assert scales[0] < 2.0**24
        assert len(set(scales)) > 1
        assert record.results["steps_skipped"] > 0
    if variant == "fallback":
        assert record.results["precision"] == "mixed_bfloat16"


@pytest.mark.slow
def test_a_run_may_be_stopped_anywhere_and_often(whole):
    """Between looks at the losses, at the end of an epoch, after one step; each stop counts from the start."""
    stops = [2, STEPS, STEPS + 1]
    paths = stopped(config(runs={"name": "often"}), stops[0])
    for before, now in pairwise(stops):
        with pytest.MonkeyPatch.context() as patch:
            stopping_after(now, patch, asks=before + before // STEPS)
            record = resumed(paths)
        assert (record.status, record.results["steps"]) == ("stopped", now)
    record = resumed(paths)
    assert_same(paths, whole("plain"))
    assert len(record.sessions) == len(stops) + 1


@pytest.mark.slow
def test_other_runs_differ(whole, original):
    """The negative control."""
    with pytest.raises(AssertionError):
        assert_same(train.train(config(seed=1))[0], whole("plain"))
    with pytest.raises(AssertionError):
        assert_same(original, whole("plain"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["plain", "fallback"])
def test_saving_within_epochs_changes_nothing(whole, variant):
    c = config(checkpoints={"every_minutes": 1e-9}, runs={"name": "saves"}, **VARIANTS[variant])
    assert_same(train.train(c)[0], whole(variant))


@pytest.mark.slow
def test_a_run_asked_to_stop_in_its_last_epoch_s_last_step_is_finished():
    with pytest.MonkeyPatch.context() as patch:
        stopping_after(STEPS, patch)
        _, record = train.train(config(train={"epochs": 1}))
    assert (record.status, record.results["epochs"]) == ("finished", 1)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_is_the_same(tmp_path):
    spec = importlib.util.spec_from_file_location("stress_resume", ROOT / "benchmarks" / "stress_resume.py")
    stress = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stress)
    result = stress.stress(tmp_path, stress.Options(kills=2, epochs=8, spread_s=6.0, seed=4))
    assert result["problems"] == []
    assert result["kills"] >= 1


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def checkpoint_folder(paths):
    return max(path for path in paths.checkpoints.iterdir() if path.name.startswith("step_"))


@pytest.mark.slow
@pytest.mark.backlog("B21")
@pytest.mark.parametrize("damage", [flip_a_bit, cut])
def test_a_damaged_newest_checkpoint_costs_only_its_own_steps(whole, halted, damage, capsys, messages):
    files = [p for p in (checkpoint_folder(halted) / "model").rglob("*") if p.is_file() and "d" in p.parts]
    damage(max(files, key=lambda file: file.stat().st_size))
    resumed(halted)
    said = capsys.readouterr().err
    assert f"checkpoint {STEPS + 2}" in said
    assert f"using checkpoint {STEPS} (epoch 1) instead" in said
    assert_same(halted, whole("plain"))


def test_a_checkpoint_of_a_newer_package_is_not_deleted(halted):
    """It is not damaged: the newer package could still read it."""
    file = checkpoint_folder(halted) / "meta" / "metadata"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with contextlib.suppress(CheckpointError):
        resumed(halted)
    assert file.is_file()


@pytest.mark.backlog("B54")
@pytest.mark.parametrize("words", [[], ["--train.epochs", "2"]])
def test_a_finished_run_has_nothing_left_to_do(whole, capsys, words):
    run, before = str(whole("plain").folder), whole("plain").record.read_text()
    assert app.main(["train", "--resume", run, *words]) == 2
    assert "finished after 3 epochs; a larger --train.epochs goes on" in capsys.readouterr().err
    assert whole("plain").record.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optimiser.learning-rate", "0.1"], ("optimiser.learning_rate = 0.1", "its own, 0.003", "--from")),
        (["--train.batch", "8"], ("train.batch = 8", "its own, 16", "--from")),
        (["--checkpoints.metric", "loss"], ("checkpoints.metric",)),
        (["--checkpoints.better", "lower"], ("checkpoints.better",)),
        (["--config", "x.toml"], ("--resume goes on with a run's own settings",)),
    ],
)
def test_a_resumed_run_keeps_its_settings(halted, words, said, capsys):
    """Also how its epochs are compared: scores of two metrics have no common order."""
    before = halted.record.read_text()
    assert app.main(["train", "--resume", str(halted.folder), *words]) == 2
    line = capsys.readouterr().err
    assert all(part in line for part in said), line
    assert line.count("\n") == 1
    assert halted.record.read_text() == before


@pytest.mark.parametrize("option", ["--resume=", "--from="])
def test_an_empty_run_is_no_demo(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", lambda *_, **__: pytest.fail("a new run was started"))
    assert app.main(["train", option]) == 2
    assert f"{option[:-1]} needs a value" in capsys.readouterr().err


@pytest.mark.slow
def test_other_data_are_refused_and_none_are_made(whole, halted, tmp_path, monkeypatch):
    simulated_dataset(tmp_path / "e", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=160, seed=2)
    with pytest.raises(RunError, match=r"e: not the dataset that run .* was trained on"):
        resumed(halted, data={"path": str(tmp_path / "e")})
    monkeypatch.chdir(tmp_path)  # where there is no d: the run knows where its data are
    assert resumed(halted).status == "finished"
    assert not (tmp_path / "d").exists()
    assert_same(halted, whole("plain"))


def test_data_that_are_gone_are_named_and_none_are_made(halted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = json.loads(halted.record.read_text())
    record["data"]["path"] = str(tmp_path / "d")
    reseal(halted.record, record)
    assert app.main(["train", "--resume", str(halted.folder)]) == 2
    assert "--data.path" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


HOLDER = """
import sys
from tofae_jax.runs.folder import RunPaths, locked
with locked(RunPaths(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_works_on_is_refused(halted):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(halted.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    before = halted.record.read_text()
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=r"halted: another process works on this run"):
            resumed(halted)
        assert halted.record.read_text() == before
        process.send_signal(signal.SIGKILL)
    with folder_module.locked(halted):  # a killed process holds nothing
        pass


@pytest.mark.slow
def test_more_epochs_go_on_where_the_learning_rate_is_constant(whole, halted):
    paths, _ = train.train(config(train={"epochs": 1}))
    record = resumed(paths, train={"epochs": 3})
    assert record.results["epochs"] == 3
    assert_same(paths, whole("plain"))
    tree = json.loads(halted.record.read_text())
    tree["config"]["optimiser"]["schedule"] = "cosine"
    reseal(halted.record, tree)
    with pytest.raises(ConfigError, match=r"optimiser\.schedule and schedules run over all epochs"):
        resumed(halted, train={"epochs": 4})


def older(tree):
    """A `run.json` as the first version of the package wrote it."""
    config = {name: section for name, section in tree["config"].items() if name not in ("schedules", "start")}
    for name in ("precision", "checkpoints", "tracking", "metrics"):
        config.pop(name)
    config["train"] |= {"keep_checkpoints": 5}
    config["train"].pop("time_limit")
    config["runs"] |= {"tensorboard": False}
    tree.pop("checksum")
    return tree | {"schema_version": 1, "config": config}


@pytest.mark.slow
@pytest.mark.backlog("B21", "B31")
def test_a_run_of_the_first_version_can_be_used_and_resumed(whole, halted):
    tree = json.loads(halted.record.read_text())
    halted.record.write_text(json.dumps(older(tree)))
    c = settings_of(halted.folder)
    assert (c.checkpoints.keep, c.tracking.tensorboard, c.precision.policy) == (5, False, "float32")
    assert load_run(halted.folder).epoch == 1
    assert resumed(halted).schema_version == 2  # the newest without checksums in metrics.jsonl
    assert_same(halted, whole("plain"))


def test_a_run_of_a_newer_version_is_refused_by_name(halted, capsys):
    reseal(halted.record, json.loads(halted.record.read_text()) | {"schema_version": 9})
    assert app.main(["train", "--resume", str(halted.folder)]) == 2
    assert "schema version 9 is newer than this package's" in capsys.readouterr().err
