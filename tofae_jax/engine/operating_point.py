"""Choose, store and override a run's operating point: score threshold and ToF tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tofae_jax.config import Config, ConfigError, MaskConfig
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.detector_scale import check_length
from tofae_jax.metrics import Aim, OperatingPoint, ScoreSums, choose_operating_point
from tofae_jax.metrics.hit_scores import N_SCORES, TIME_EDGES
from tofae_jax.runs.arrays import load_scores, save_arrays
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.record_contents import OperatingPointRecord
from tofae_jax.steps import StepOptions


def chosen_point(config: Config, options: StepOptions, scores: ScoreSums) -> OperatingPoint:
    """Choose the thresholds that `mask.choose` asks for; on times too where the network predicts them."""
    mask = config.mask
    assert mask.choose != "none"
    has_times, n_t = _has_times(options), options.shape_xyt[2]
    return choose_operating_point(scores, aim=mask.choose, minimum=mask.wanted, tune_times=has_times, n_t=n_t)


def _has_times(options: StepOptions) -> bool:
    return not options.scores_hits and options.normalisation.has_time


def point_record(config: Config, point: OperatingPoint) -> dict[str, Any]:
    """Describe an operating point for a run's results."""
    tolerance = point.tof_tolerance_bins
    return {
        "chosen_for": config.mask.choose,
        "wanted": config.mask.wanted,
        "reached": point.reached,
        "score_threshold": point.score_threshold,
        "tof_tolerance_ns": None if math.isinf(tolerance) else tolerance * config.detector.bin_ns,
        "validation": {"efficiency": point.efficiency, "purity": point.purity, "f1": point.f1},
    }


def with_point(config: Config, record: dict[str, Any] | None, where: str = "operating point") -> Config:
    """Return the settings with the thresholds of a run's operating point, if it has one.

    Args:
        config: the settings.
        record: as `point_record` describes it.
        where: source of the record, for errors.

    Raises:
        RunError: it is no such record.
    """
    if not record:
        return config
    try:
        thresholds = msgspec.structs.asdict(msgspec.convert(record, OperatingPointRecord))
    except msgspec.ValidationError as error:
        raise RunError(f"{where}: damaged: operating_point: {error}") from None
    return msgspec.structs.replace(config, mask=msgspec.structs.replace(config.mask, **thresholds))


def not_reached(mask: MaskConfig) -> str:
    """What a user is told where no cut reaches what is wanted."""
    return f"no cut reaches the wanted {mask.choose} of {mask.wanted}: the nearest is taken"


def save_scores(file: Path, scores: ScoreSums) -> Path:
    """Save the counts that thresholds are chosen from; returns the path of the file."""
    return save_arrays(file, {name: np.asarray(counts) for name, counts in scores._asdict().items()})


class ThresholdChoice(NamedTuple):
    """Which hits to keep, in place of a run's own operating point; None leaves that."""

    keep: Aim | None = None
    """choose the thresholds for this aim, on the run's validation events"""
    minimum: float | None = None
    """least efficiency or purity, where that is the aim"""
    score_threshold: float | None = None
    tof_tolerance_ns: float | None = None


RUN_DEFAULT = ThresholdChoice()
"""the run's own operating point"""


def with_thresholds(setup: RunSetup, scores: Path, choice: ThresholdChoice, *, warn: Callable[[str], None]) -> Config:
    """Return the settings of a run with other thresholds, given or chosen by the scores that `save_scores` wrote.

    `warn` is called where no threshold reaches the minimum, and the nearest is taken. RunError where the run has kept
    no scores, ConfigError where the aim needs another `minimum`, where times are to be compared that the model does not
    predict, where a threshold is both given and to be chosen, or where a tolerance is longer than the time window.
    """
    config = setup.config
    if choice.tof_tolerance_ns is not None:
        check_length("tof_tolerance_ns", choice.tof_tolerance_ns, config.detector, "window_ns")
    if choice.tof_tolerance_ns is not None and not _has_times(setup.options):
        raise ConfigError(f"--tof-tolerance-ns {NO_TIMES}")
    given = {name: getattr(choice, name) for name in ("score_threshold", "tof_tolerance_ns")}
    given = {name: value for name, value in given.items() if value is not None}
    if choice.keep is not None or choice.minimum is not None:
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(f"--keep chooses the cut, and {options} gives it: leave one out")
        config = _chosen_again(setup, scores, choice, warn)
    return msgspec.structs.replace(config, mask=msgspec.structs.replace(config.mask, **given))


def _chosen_again(setup: RunSetup, file: Path, choice: ThresholdChoice, warn: Callable[[str], None]) -> Config:
    if choice.keep is None:
        raise ConfigError("--wanted needs --keep efficiency or --keep purity")
    try:
        mask = MaskConfig(choose=choice.keep, wanted=choice.minimum)
    except ValueError as error:
        raise ConfigError(f"--keep {choice.keep}: {error}") from None
    if not file.is_file():
        raise RunError(f"{file.parent}: it has no {file.name} to choose a cut by; give --score-threshold")
    config = msgspec.structs.replace(setup.config, mask=mask)
    arrays = load_scores(file)
    if arrays["signal"].shape != (N_SCORES, len(TIME_EDGES) + 1):
        raise RunError(f"{file}: its arrays are of other sizes than this package's; give --score-threshold")
    scores = ScoreSums(*(arrays[name] for name in ScoreSums._fields))
    point = chosen_point(config, setup.options, scores)
    if not point.reached:
        warn(not_reached(config.mask))
    return with_point(config, point_record(config, point))


NO_TIMES = "compares times with the direct output's, and this model gives none: its scores judge hits by time already"
