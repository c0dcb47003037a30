"""A recipe trained in every precision policy: quality on held-out events, time, size of the weights.

    python benchmarks/bench_precision.py [--config configs/autoencoder.toml] [--policies float32 bfloat16 ...]
        [--folder runs/precision] [--out benchmarks/results/NAME.json] [-- --section.key value ...]

Each policy is a training of its own process, one after the other, with the same seed: the same events, draws and
first weights (rounded). A policy whose run is already in the folder is not trained again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import tyro
from rich.console import Console
from rich.table import Table

from tofae_jax.config import PrecisionName
from tofae_jax.runs.record import read_record


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """a recipe in every precision policy"""

    config: str = "configs/autoencoder.toml"
    """recipe"""
    policies: tuple[PrecisionName, ...] = (
        "float32",
        "mixed_bfloat16",
        "mixed_float16",
        "bfloat16",
        "float16",
        "float64",
    )
    """which"""
    folder: str = "runs/precision"
    """where to keep the runs"""
    out: str = ""
    """write the result as JSON to this file"""
    extra: tuple[str, ...] = ()
    """further settings of the training, e.g. --extra --train.epochs 2"""


def trained(policy: str, options: Options) -> Path:
    """The run of a policy, made where there is none."""
    found = sorted(Path(options.folder).glob(f"{policy}-2*"))
    if found:
        return found[-1]
    names = ["--precision.policy", policy, "--runs.folder", options.folder, "--runs.name", policy]
    command = [sys.executable, "-m", "tofae_jax", "train", "--config", options.config, *names, *options.extra]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.splitlines()[-1])


def figures_of(run: Path) -> dict[str, Any]:
    """What a run's record says."""
    paths, record = read_record(run)
    history = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    masked = record.results["test"]["masked"]
    return {
        "efficiency": masked["efficiency"],
        "purity": masked["purity"],
        "f1": masked["f1"],
        "finite": all(isinstance(epoch["train"]["loss"], float) for epoch in history),
        "train_loss": history[-1]["train"]["loss"],
        "steps_skipped": record.results.get("steps_skipped"),
        "fallback": record.results.get("fallback", ""),
        # the first epoch compiles
        "epoch_s": sorted(epoch["time"]["train_s"] for epoch in history[1:] or history)[len(history[1:]) // 2],
        "versions": record.versions,
        "system": record.system,
    }


def main() -> None:
    """Train, print a table, write JSON."""
    options = tyro.cli(Options)
    results: dict[str, dict[str, Any]] = {}
    for policy in options.policies:
        results[policy] = figures_of(trained(policy, options))
    table = Table(title=options.config)
    for heading in ("policy", "efficiency", "purity", "F1", "against float32", "skipped", "training s/epoch"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    base = results.get("float32", {}).get("f1")
    for policy, row in results.items():
        difference = "" if base is None else f"{row['f1'] - base:+.3f}"
        shares = [f"{row[name]:.3f}" for name in ("efficiency", "purity", "f1")]
        skipped = "" if row["steps_skipped"] is None else str(row["steps_skipped"])
        table.add_row(policy, *shares, difference, skipped, f"{row['epoch_s']:.1f}")
    Console(width=100).print(table)
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
