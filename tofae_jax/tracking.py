"""What a run reports while it runs: `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a nested dict by slash-joined name; what is not a number is left out."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat


class Tracker:
    """Writes one line per epoch, and the same numbers to TensorBoard; a context manager that always closes both."""

    def __init__(self, metrics_file: Path, tensorboard_folder: Path | None) -> None:
        """Append to `metrics_file`; TensorBoard files go to `tensorboard_folder`, unless it is None."""
        self._path = metrics_file
        self._tensorboard_folder = tensorboard_folder
        self._writer: Any = None

    def __enter__(self) -> Tracker:
        self._file = self._path.open("a", encoding="utf-8")
        if self._tensorboard_folder is not None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._tensorboard_folder), flush_secs=10)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()

    def text(self, name: str, text: str) -> None:
        """A text for TensorBoard, e.g. the settings."""
        if self._writer is not None:
            self._writer.add_text(name, text, 0)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """One epoch's numbers, which must hold its number `epoch`, counted from 1. Written through at once."""
        line = json.dumps(_finite(record), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in flatten({k: v for k, v in record.items() if k != "epoch"}).items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, record["epoch"])


def _finite(tree: Any) -> Any:
    """JSON knows no NaN or infinity: they become null."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read_history(metrics_file: Path) -> list[dict[str, Any]]:
    """All complete lines of `metrics.jsonl`; a torn last line is left out."""
    if not metrics_file.is_file():
        return []
    lines = metrics_file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
