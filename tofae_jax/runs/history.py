"""The history of a run: one record per epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_history(metrics_file: Path) -> list[dict[str, Any]]:
    """All complete lines of `metrics.jsonl`; a torn last line is left out. ValueError naming a line that is damaged."""
    if not metrics_file.is_file():
        return []
    history: list[dict[str, Any]] = []
    for number, line in enumerate(metrics_file.read_bytes().split(b"\n")[:-1], start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError as error:  # also what is not UTF-8
            raise ValueError(f"{metrics_file}: line {number} is damaged: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{metrics_file}: line {number} is damaged: not an object")
        history.append(record)
    return history
