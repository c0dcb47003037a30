"""Settings of how a run is trained, started, kept and watched."""

from __future__ import annotations

import re
from typing import Literal

from tofae_jax.config.types import Count, PlotMode, Positive, PositiveCount, PositiveManyCount, Section

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_MOST_SECONDS = 100_000 * 3600.0


def parse_duration(text: str) -> float | None:
    """Seconds from e.g. `30m`, `1h30m`, `90s`; None from an empty text; ValueError from any other."""
    if not text:
        return None
    if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
        raise ValueError(f"time_limit must look like 30m, 2h, 1h30m or 90s, got {text!r}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
    if seconds > _MOST_SECONDS:
        raise ValueError(f"time_limit may be up to {_MOST_SECONDS / 3600:.0f}h, got {text!r}")
    return seconds


class TrainConfig(Section, frozen=True):
    """the training loop"""

    epochs: PositiveCount = 10
    """passes over the training events"""
    batch: PositiveCount = 250
    """events per step"""
    target: Literal["pattern", "signal"] = "pattern"
    """what the network's image is to show: the whole pattern, or only the kept signal, as scores of hits always do"""
    repeat_every: Count = 0
    """replay the same draws every so many epochs; 0: new draws in every epoch"""
    log_every: PositiveManyCount = 20
    """steps between looks at the losses"""
    time_limit: str = ""
    """stop, save and write everything after this time, e.g. 30m, 2h, 1h30m, 90s; empty: none"""
    plots: PlotMode = "save"
    """figures: save files, show windows, both or none"""
    plots_every: Count = 5
    """epochs between figures saved while the training goes on, drawn in the background; 0: only at the end"""
    jit: bool = True
    """compile the steps; without it they run operation by operation, slowly, for debugging"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        parse_duration(self.time_limit)


class CheckpointsConfig(Section, frozen=True):
    """when the state of a run is saved, and what is kept"""

    every_epochs: PositiveCount = 1
    """epochs between checkpoints; the last epoch has one always"""
    every_minutes: Positive | None = None
    """also within an epoch, after this time; None: only between epochs"""
    keep: PositiveCount = 2
    """newest checkpoints kept"""
    keep_best: PositiveCount = 1
    """best checkpoints kept beside them"""
    metric: str | None = None
    """number of the validation that makes one epoch better than another, e.g. loss or direct.ssim; None: masked.f1, or
    scores.best_f1 where mask.choose chooses the cut in the end"""
    better: Literal["higher", "lower"] | None = None
    """which values of it are better; None: lower ones of losses and errors, higher ones of what is to be high"""


class StartConfig(Section, frozen=True):
    """what a run starts from, if not from scratch"""

    run: str = ""
    """another run, whose best weights this one starts from; also: --from RUN"""
    optimiser: bool = False
    """take over its optimiser's state too"""


class RunsConfig(Section, frozen=True):
    """where runs are kept"""

    folder: str = "runs"
    """parent of all run folders"""
    name: str = ""
    """put at the front of the run id"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if not all(c.isalnum() or c in "-_." for c in self.name) or self.name.startswith("."):
            raise ValueError(f"name may hold letters, digits, '-', '_' and '.', got {self.name!r}")
