"""Write `summary.txt`: a run on two pages, generated from its record."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from tofae_jax.config import leaves, only_used
from tofae_jax.core.text import visible_lines
from tofae_jax.data.storage.atomic import write_text
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.record import RunRecord


class ParameterRow(NamedTuple):
    """One array of a model's parameters."""

    name: str
    shape: tuple[int, ...]
    size: int
    """numbers in it"""
    dtype: str


def _lines(tree: Mapping[str, Any]) -> Iterator[str]:
    return (f"  {name} = {value}" for name, value in leaves(tree))


def _parameter_lines(parameters: Iterable[ParameterRow]) -> Iterator[str]:
    total = 0
    for row in parameters:
        yield f"  {row.name:32s} {'x'.join(map(str, row.shape)):>16s} {row.size:>12,d} {row.dtype}"
        total += row.size
    yield f"  {'total':32s} {'':>16s} {total:>12,d}"


def _section(title: str, lines: Iterator[str] | list[str]) -> list[str]:
    return ["", title, *lines]


def write_summary(
    paths: RunPaths,
    record: RunRecord,
    results: Mapping[str, Any],
    history: list[dict[str, Any]],
    *,
    parameters: Iterable[ParameterRow],
) -> Path:
    """Write the summary of a run; returns its path."""
    times = [epoch["time"]["epoch_s"] for epoch in history]
    text = [f"run {record.run_id}", f"started {record.started}"]
    if record.parent_run_id:
        text.append(f"parent {record.parent_run_id}")
    text += _section("settings", _lines(only_used(record.config)))
    text += _section("data", _lines(record.data))
    text += _section("seeds", _lines(record.seeds))
    text += _section(
        "training",
        [
            f"  epochs = {len(history)}",
            f"  best_epoch = {results['best_epoch']}",
            f"  steps = {results['steps']}, in {len(record.sessions)} session(s)",
            f"  time_s = {sum(times):.1f}, per epoch {sum(times) / max(len(times), 1):.2f}",
            f"  hits_dropped = {results['hits_dropped']} (beyond data.max_hits, summed over epochs)",
        ],
    )
    text += [f"  precision = {results['precision']}"]
    if "steps_skipped" in results:
        text += [f"  steps_skipped = {results['steps_skipped']} (gradients overflowed)"]
    if results.get("fallback"):
        text += [f"  fallback = {results['fallback']}"]
    if results.get("operating_point"):
        text += _section("cut, chosen on the validation events", _lines(results["operating_point"]))
    if results["test"]:
        text += _section("held-out events, best epoch", outputs_table(results["test"]).splitlines())
        text += _section("true counts of these events", _lines(results["test"]["counts"]))
    text += _section("parameters", _parameter_lines(parameters))
    text += _section("versions", _lines(record.versions))
    text += _section("system", _lines(record.system))
    return write_text(paths.summary, visible_lines(text) + "\n")


def outputs_table(result: dict[str, Any]) -> str:
    """Write the metrics of input, direct and masked output side by side, as text."""
    table = Table(box=box.MARKDOWN)  # plain characters for every terminal, ready to be pasted
    table.add_column("output")
    columns = {
        "efficiency": "efficiency",
        "purity": "purity",
        "f1": "F1",
        "noise_rejection": "noise rej.",
        "false_positives_per_event": "FP/event",
        "false_negatives_per_event": "FN/event",
        "mse": "MSE",
        "ssim": "SSIM",
    }
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for name in ("input", "direct", "masked"):
        values = [result[name].get(key) for key in columns]
        table.add_row(name, *("-" if value is None else f"{value:.4g}" for value in values))
    console = Console(width=120, color_system=None, file=io.StringIO(), record=True)
    console.print(table)
    rows = [row.rstrip() for row in console.export_text().splitlines() if row.strip()]
    return "\n".join([f"{result['events']} events", *rows])
