"""When a run is saved, which checkpoints are kept and which of two is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tofae_jax.config import Config
from tofae_jax.runs.report.tables import is_low_good


@dataclass(frozen=True)
class CheckpointPolicy:
    """Decide when a run is saved, how many checkpoints are kept, and which of two is better."""

    every_epochs: int = 1
    every_seconds: float | None = None
    """also within an epoch; None: only between epochs"""
    keep: int = 2
    """newest checkpoints kept"""
    keep_best: int = 1
    """best checkpoints kept beside them"""
    metric: str = "masked.f1"
    """number of the validation that is compared, dotted"""
    higher_is_better: bool = True

    def is_due(self, epoch: int | None, seconds: float) -> bool:
        """Decide whether to save now.

        Args:
            epoch: the epoch that has just ended, from 1; None within an epoch.
            seconds: time since the last save.
        """
        if epoch is None:
            return self.every_seconds is not None and seconds >= self.every_seconds
        return epoch % self.every_epochs == 0

    def score(self, record: dict[str, Any]) -> float:
        """Score the record of an epoch, higher is better; without validation events the training loss counts."""
        value: Any = record["validation"]
        if value is None:
            loss = record["train"]["loss"]
            return -math.inf if loss is None else -loss
        for name in self.metric.split("."):
            value = value[name]
        if value is None:
            return -math.inf
        return value if self.higher_is_better else -value


def checkpoint_policy(config: Config) -> CheckpointPolicy:
    """Build the checkpoint policy of a run from its settings."""
    section = config.checkpoints
    metric = section.metric or ("masked.f1" if config.mask.choose == "none" else "scores.best_f1")
    better = section.better or ("lower" if is_low_good(metric) else "higher")
    return CheckpointPolicy(
        every_epochs=section.every_epochs,
        every_seconds=None if section.every_minutes is None else 60 * section.every_minutes,
        keep=section.keep,
        keep_best=section.keep_best,
        metric=metric,
        higher_is_better=better == "higher",
    )
