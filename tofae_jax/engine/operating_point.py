"""Where a run cuts on its scores: chosen on its validation events, kept with it, and chosen anew when asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tofae_jax.config import Config, ConfigError, MaskConfig
from tofae_jax.core.normalisation import NORMALISATIONS
from tofae_jax.engine.build import RunSetup
from tofae_jax.metrics import Aim, OperatingPoint, ScoreSums, choose_operating_point
from tofae_jax.runs.arrays import load_arrays, save_arrays
from tofae_jax.runs.folder import RunError
from tofae_jax.steps import StepOptions


def checkpoint_metric(config: Config) -> str:
    """Which number of the validation makes one epoch better than another."""
    own = "masked.f1" if config.mask.choose == "none" else "scores.best_f1"
    return config.checkpoints.metric or own


def chosen_point(config: Config, options: StepOptions, scores: ScoreSums) -> OperatingPoint:
    """The cut that `mask.choose` asks for, on these hits; times are cut on too where the network gives them."""
    mask = config.mask
    assert mask.choose != "none"
    return choose_operating_point(scores, aim=mask.choose, wanted=mask.wanted, tune_times=_has_times(options))


def _has_times(options: StepOptions) -> bool:
    return options.reads == "image" and NORMALISATIONS[options.normalisation].has_time


def point_record(config: Config, point: OperatingPoint) -> dict[str, Any]:
    """An operating point as it goes into a run's results."""
    tolerance = point.tof_tolerance_bins
    return {
        "chosen_for": config.mask.choose,
        "wanted": config.mask.wanted,
        "reached": point.reached,
        "score_threshold": point.score_threshold,
        "tof_tolerance_ns": None if math.isinf(tolerance) else tolerance * config.detector.bin_ns,
        "validation": {"efficiency": point.efficiency, "purity": point.purity, "f1": point.f1},
    }


def with_point(config: Config, record: dict[str, Any] | None) -> Config:
    """The settings with the cuts of a run's operating point, if it has one."""
    if not record:
        return config
    cuts = {name: record[name] for name in ("score_threshold", "tof_tolerance_ns")}
    return msgspec.structs.replace(config, mask=msgspec.structs.replace(config.mask, **cuts))


def not_reached(mask: MaskConfig) -> str:
    """What a user is told where no cut reaches what is wanted."""
    return f"no cut reaches the wanted {mask.choose} of {mask.wanted}: the nearest is taken"


def save_scores(file: Path, scores: ScoreSums) -> None:
    """Keep the counts that cuts are chosen by."""
    save_arrays(file, {name: np.asarray(counts) for name, counts in scores._asdict().items()})


class ThresholdChoice(NamedTuple):
    """What a user asks to be kept, in place of a run's own choice; None keeps that."""

    keep: Aim | None = None
    """choose the cut for this aim, by the run's validation events"""
    wanted: float | None = None
    """the least efficiency or purity, where that is the aim"""
    score_threshold: float | None = None
    tof_tolerance_ns: float | None = None


RUN_DEFAULT = ThresholdChoice()
"""the run's own choice"""


def with_cut(setup: RunSetup, scores: Path, cut: ThresholdChoice, *, warn: Callable[[str], None]) -> Config:
    """The settings of a run with another cut, chosen by the scores in a file that `save_scores` wrote.

    `warn` is told where no cut reaches what is wanted, and the nearest is taken. RunError where the run has kept no
    scores to choose it by, ConfigError where the aim needs another `wanted`, where times are to be compared that the
    model does not give, or where a cut is both given and to be chosen.
    """
    config = setup.config
    if cut.tof_tolerance_ns is not None and not _has_times(setup.options):
        raise ConfigError(f"--tof-tolerance-ns {NO_TIMES}")
    given = {name: getattr(cut, name) for name in ("score_threshold", "tof_tolerance_ns")}
    given = {name: value for name, value in given.items() if value is not None}
    if cut.keep is not None or cut.wanted is not None:
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(f"--keep chooses the cut, and {options} gives it: leave one out")
        config = _chosen_anew(setup, scores, cut, warn)
    return msgspec.structs.replace(config, mask=msgspec.structs.replace(config.mask, **given))


def _chosen_anew(setup: RunSetup, file: Path, cut: ThresholdChoice, warn: Callable[[str], None]) -> Config:
    if cut.keep is None:
        raise ConfigError("--wanted needs --keep efficiency or --keep purity")
    try:
        mask = MaskConfig(choose=cut.keep, wanted=cut.wanted)
    except ValueError as error:
        raise ConfigError(f"--keep {cut.keep}: {error}") from None
    if not file.is_file():
        raise RunError(f"{file.parent}: it has no {file.name} to choose a cut by; give --score-threshold")
    config = msgspec.structs.replace(setup.config, mask=mask)
    arrays = load_arrays(file)
    scores = ScoreSums(*(arrays[name] for name in ScoreSums._fields))
    point = chosen_point(config, setup.options, scores)
    if not point.reached:
        warn(not_reached(config.mask))
    return with_point(config, point_record(config, point))


NO_TIMES = "compares times with the direct output's, and this model gives none: its scores judge hits by time already"
