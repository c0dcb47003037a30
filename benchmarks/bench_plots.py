"""What figures during a training cost: a recipe with figures of every epoch, in turns with the same one without any.

    python benchmarks/bench_plots.py [--config configs/autoencoder.toml] [--epochs 4] [--rounds 2]
        [--folder runs/plot-cost] [--out benchmarks/results/NAME.json]

Each training is a process of its own. The first epoch, which compiles, counts only for what the run itself says of it.
Compared are the epochs' wall-clock durations, so that what the process that draws takes from the training's cores
counts as well; the run's own numbers (`time.plots_s`, `time.drawing_cpu_s`) tell what of it is waiting.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import tyro

from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """what figures during a training cost"""

    config: str = "configs/autoencoder.toml"
    """recipe"""
    epochs: int = 4
    """of each training"""
    rounds: int = 2
    """trainings with figures, and as many without"""
    out: str = ""
    """write the result as JSON to this file"""


def trained(options: Options, *, every: int, folder: str) -> Path:
    """A run with figures every so many epochs, 0: none; its folder."""
    settings = ["--train.epochs", options.epochs, "--train.plots-every", every, "--runs.folder", folder]
    command = [sys.executable, "-m", "tofae_jax", "train", "--config", options.config, *map(str, settings)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1])


def main() -> None:
    """Train in turns, compare, write JSON."""
    options = tyro.cli(Options)
    if options.epochs < 3 or options.rounds < 1:
        raise SystemExit("bench_plots: at least 3 epochs and 1 round, or nothing is left to compare")
    epochs: dict[int, list[dict[str, Any]]] = {1: [], 0: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for every, times in epochs.items():
                paths, record = read_record(trained(options, every=every, folder=folder))
                # figures of an epoch are drawn during the next one; after the last there are none
                times += [epoch["time"] for epoch in read_history(paths.metrics)[1:]]
    seconds = {every: statistics.median(time["epoch_s"] for time in times) for every, times in epochs.items()}
    drawn = [time for time in epochs[1] if "plots_s" in time]
    result = {
        "epoch_s_with_figures": seconds[1],
        "epoch_s_without": seconds[0],
        "ratio": seconds[1] / seconds[0],
        "plots_s": statistics.median(time["plots_s"] for time in drawn),
        "plots_share": statistics.median(time["plots_share"] for time in drawn),
        "drawing_cpu_s": statistics.median(time.get("drawing_cpu_s", 0.0) for time in epochs[1]),
        "epochs_drawn": len(drawn),
        "epochs": len(epochs[1]),
        "versions": record.versions,
        "system": record.system,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        Path(options.out).write_text(f"{text}\n")


if __name__ == "__main__":
    main()
