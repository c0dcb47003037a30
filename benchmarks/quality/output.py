"""Tables of a comparison: CSV and JSON with all numbers, Markdown for people."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tofae_jax.engine.build import describe_devices
from tofae_jax.runs import environment

from .comparison import Row, described
from .figures import draw_comparison, draw_robustness
from .methods import Curve
from .scoring import QUALITIES, Estimate

HEADINGS = {
    "efficiency": "efficiency",
    "purity": "purity",
    "f1": "F1",
    "noise_rejection": "noise rejection",
    "ssim": "SSIM",
    "full_tof_accuracy": "full ToF",
}


def flat(row: Row) -> dict[str, Any]:
    """A row as single values by column; those of an interval end in `_low` and `_high`."""
    values: dict[str, Any] = {
        "data": row.data,
        **row.conditions._asdict(),
        "method": row.method,
        "settings": " ".join(f"{name}={value}" for name, value in row.settings.items()),
        "threshold": None if row.threshold is None else _number(row.threshold),
        "counted": row.counted,
        "events": row.events,
        "signal_hits_per_event": row.signal_hits,
        "noise_hits_per_event": row.noise_hits,
    }
    for name in QUALITIES:
        values |= _with_interval(name, row.qualities.get(name))
    return values | _with_interval("events_per_s", row.events_per_s)


def _with_interval(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    value, low, high = estimate or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _number(value: float) -> float | str:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else str(value)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line per row, all numbers in full."""
    lines = [flat(row) for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def rounded(curve: Curve) -> dict[str, list[float]]:
    """Its points to five digits."""
    return {name: values.round(5).tolist() for name, values in curve._asdict().items()}


def write_json(path: Path, rows: Sequence[Row], options: Mapping[str, Any]) -> None:
    """The rows with their curves, and what made them: options, device, versions."""
    lines = [flat(row) | ({"curve": rounded(row.curve)} if row.curve is not None else {}) for row in rows]
    result = {
        "rows": lines,
        "options": dict(options),
        "versions": environment.versions(),
        "system": environment.system_information(describe_devices()),
    }
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def markdown(rows: Sequence[Row]) -> str:
    """A table for each data set and conditions, intervals in brackets."""
    parts = []
    for (data, conditions), group in groupby(rows, lambda row: (row.data, row.conditions)):
        own = list(group)
        heading = f"{data}: {described(conditions)} ({own[0].events} events"
        heading += f", in the mean {own[0].signal_hits:.1f} signal and {own[0].noise_hits:.1f} noise hits)"
        columns = ["method", *HEADINGS.values(), "events/s"]
        lines = [_line(columns), _line(["---"] + ["---:"] * (len(columns) - 1))]
        for row in own:
            name = row.method if row.counted == "hits" else f"{row.method} ({row.counted})"
            numbers = [_shown(row.qualities.get(quality)) for quality in QUALITIES]
            lines.append(_line([name, *numbers, _rate(row.events_per_s.value)]))
        parts.append("\n".join([f"### {heading}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _rate(rate: float) -> str:
    """Three digits."""
    digits = 2 - math.floor(math.log10(rate))
    return f"{round(rate, digits):,.{max(digits, 0)}f}"


def write_all(prefix: str, rows: Sequence[Row], options: Mapping[str, Any], *, is_robustness: bool) -> list[Path]:
    """CSV, JSON, Markdown and figure of these rows, at `prefix` with these endings; their paths.

    ValueError where there are no rows.
    """
    if not rows:
        raise ValueError("no method was to be compared")
    paths = [Path(f"{prefix}.{ending}") for ending in ("csv", "json", "md", "png")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    write_csv(paths[0], rows)
    write_json(paths[1], rows, options)
    paths[2].write_text(markdown(rows))
    (draw_robustness if is_robustness else draw_comparison)(rows, paths[3])
    return paths
