"""Kill a training at random moments, resume it until it is done, and compare it with one that was left alone.

    python benchmarks/stress_resume.py [--kills 20] [--epochs 40] [--seed 0] [--folder DIR] [--out FILE.json]

SIGKILL: a quarter of them while a process starts, the others while it compiles, trains, validates, saves. Checkpoints
are made after every epoch, and within epochs. At the end, parameters, statistics, optimiser state and key of the
newest checkpoints must agree bit for bit, and every epoch must be logged once, in metrics.jsonl and for TensorBoard,
with the same numbers but for times. Exit code 1 if anything differs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import tyro

from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

SETTINGS = """
[detector]
n_x = 12
n_y = 16
n_t = 40
[data]
path = "data"
max_hits = 24
train_share = 0.7
validation_share = 0.15
test_share = 0.15
[data.simulate]
events = 1000
[degradation]
n_signal = 8
n_noise = [10, 20]
[model.autoencoder]
latent = 8
fc = 32
[train]
epochs = {epochs}
batch = 16
log_every = 5
plots = "none"
[checkpoints]
every_minutes = 0.02
[tracking]
images_every = 0
histograms_every = 0
[instruments]
timer = true
[schedules."degradation.n_noise"]
kind = "linear"
start = 5
end = [10, 20]
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """random SIGKILLs over a training of many short epochs"""

    kills: int = 20
    """SIGKILLs"""
    epochs: int = 40
    """epochs of the training"""
    seed: int = 0
    """of the moments"""
    spread_s: float = 6.0
    """the latest moment, after a process has started, or after it has loaded all and begins to compile"""
    folder: str = ""
    """where to work; empty: a temporary folder"""
    out: str = ""
    """write the result as JSON to this file"""


def _start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tofae_jax", "train", *words]
    package = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def _log_size(folder: Path) -> int:
    log = folder / "log.txt"
    return log.stat().st_size if log.exists() else 0


def _log_after(folder: Path, size: int) -> bytes:
    return (folder / "log.txt").read_bytes()[size:]


def _only_run(folder: Path, name: str) -> Path | None:
    found = [path for path in (folder / "runs").glob(f"{name}-2*") if (path / "run.json").is_file()]
    return found[0] if found else None


def _finish(folder: Path, process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise SystemExit(f"a training failed:\n{(folder / 'log.txt').read_text()[-2000:]}")


def killed_and_resumed(folder: Path, options: Options) -> dict[str, Any]:
    """Train `killed` in the folder; returns where it stood at each kill."""
    draw, stood, epoch_at = random.Random(options.seed), [], []
    while len(stood) < options.kills:
        run = _only_run(folder, "killed")
        words = ["--resume", str(run)] if run else ["--config", "a.toml", "--runs.name", "killed"]
        written = _log_size(folder)
        process = _start(folder, *words)
        if draw.random() < 0.75:  # the others die while they start
            while process.poll() is None and b"model: " not in _log_after(folder, written):
                time.sleep(0.02)
        try:
            process.wait(timeout=draw.uniform(0, options.spread_s))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        run = _only_run(folder, "killed")
        stood.append(process.returncode)
        epoch_at.append(len(read_history(RunPaths(run).metrics)) if run else 0)
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"a training failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    run = _only_run(folder, "killed")
    assert run is not None
    if read_record(run)[1].status != "finished":
        _finish(folder, _start(folder, "--resume", str(run)))
    return {"kills": stood.count(-signal.SIGKILL), "epochs_logged_at_each_kill": epoch_at}


def _newest(run: Path) -> tuple[int, dict[str, str]]:
    with Checkpoints(RunPaths(run).checkpoints, read_only=True) as checkpoints:
        number = checkpoints.numbers()[-1]
        return number, checkpoints.read_meta(number).checksums


def _timeless(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "time"} for record in read_history(RunPaths(run).metrics)]


def _tensorboard_epochs(run: Path) -> list[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(RunPaths(run).tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    return [event.step for event in events.Scalars("train/loss")]


def differences(alone: Path, killed: Path, n_epochs: int) -> list[str]:
    """What differs between the two runs and should not."""
    problems = []
    (number, whole), (other, resumed) = _newest(alone), _newest(killed)
    if number != other:
        problems.append(f"newest checkpoints: {number} and {other}")
    problems += [f"differs: {name}" for name in whole if resumed.get(name) != whole[name]]
    if _timeless(alone) != _timeless(killed):
        problems.append("metrics.jsonl differs")
    if [record["epoch"] for record in read_history(RunPaths(killed).metrics)] != list(range(1, n_epochs + 1)):
        problems.append("metrics.jsonl does not hold every epoch once")
    if _tensorboard_epochs(killed) != list(range(1, n_epochs + 1)):
        problems.append(f"TensorBoard does not hold every epoch once: {_tensorboard_epochs(killed)}")
    results = [read_record(run)[1].results["test"] for run in (alone, killed)]
    if results[0] != results[1]:
        problems.append("results differ")
    return problems


def stress(folder: Path, options: Options) -> dict[str, Any]:
    """Train both ways in a folder and compare."""
    (folder / "a.toml").write_text(SETTINGS.format(epochs=options.epochs))
    _finish(folder, _start(folder, "--config", "a.toml", "--runs.name", "alone"))
    alone = _only_run(folder, "alone")
    assert alone is not None
    began = time.monotonic()
    found = killed_and_resumed(folder, options)
    killed = _only_run(folder, "killed")
    assert killed is not None
    timeline = json.loads(RunPaths(alone).timeline.read_text())
    seconds = {
        name: sum(s["stop_s"] - s["start_s"] for s in timeline["spans"] if s["name"] == name)
        for name in ("training", "validation", "checkpoint", "tracking")
    }
    saves = sum(span["name"] == "checkpoint" for span in timeline["spans"])
    return {
        **found,
        "epochs": options.epochs,
        "sessions": len(read_record(killed)[1].sessions),
        "seconds_of_the_killed_run": time.monotonic() - began,
        "seconds_of_the_other_by_part": seconds,
        "saves": saves,
        "ms_per_save": 1000 * seconds["checkpoint"] / saves,
        "problems": differences(alone, killed, options.epochs),
    }


def main() -> int:
    """Run, print, and say by the exit code whether all agrees."""
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = stress(folder, options)
    print(json.dumps(result, indent=1))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
