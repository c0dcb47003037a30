"""The physical lengths of the detector: whose count where a dataset has its own, and what fits into them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from tofae_jax.config import Config, ConfigError, as_range
from tofae_jax.core.detector import Detector
from tofae_jax.data.convert import is_dataset
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError
from tofae_jax.engine.build import every_epoch
from tofae_jax.engine.events import existing_dataset
from tofae_jax.models import MODELS, Model

LENGTHS = ("width_mm", "height_mm", "window_ns")
_EQUAL = 1e-6  # of lengths, relative: a file in float32 or in text may have rounded them


def differing_lengths(ours: Detector, theirs: Detector) -> list[str]:
    """Name the lengths in which two detectors differ by more than rounding."""
    return [name for name in LENGTHS if not math.isclose(getattr(ours, name), getattr(theirs, name), rel_tol=_EQUAL)]


def listed_lengths(detector: Detector, names: Collection[str]) -> str:
    """Show lengths of a detector by name, for messages."""
    return ", ".join(f"{name} = {getattr(detector, name):g}" for name in names)


def check_scale(dataset: EventStore, detector: Detector) -> None:
    """Check that a dataset has the physical lengths of a detector.

    Raises:
        DataError: a length differs; the message names both.
    """
    if names := differing_lengths(detector, dataset.detector):
        raise DataError(
            f"{dataset.name}: its detector has {listed_lengths(dataset.detector, names)}, the one given "
            f"{listed_lengths(detector, names)}; give the dataset's own, Dataset(path).detector"
        )


def check_time_bins(model: Model, detector: Detector, where: str) -> None:
    """Check that events have the time bins that a model of an LHCb TORCH module was built for; others know no ns.

    Raises:
        DataError: they are of another length; the message names both.
    """
    if model.kind.of_module:
        own_ns = getattr(model.module, "bin_ns", detector.bin_ns)
        if not math.isclose(own_ns, detector.bin_ns, rel_tol=_EQUAL):
            raise DataError(f"{where}: its time bins are {detector.bin_ns:g} ns long, those of the model {own_ns:g} ns")


def with_lengths_of_dataset(config: Config, given: Collection[str]) -> Config:
    """Return the settings of a training with the lengths of its dataset, if there is one already.

    Args:
        config: settings of the run.
        given: keys of the settings that were given.

    Raises:
        DataError: a length was given and the dataset has another; what lies at `data.path` is no dataset.
    """
    dataset = existing_dataset(config.data)
    if dataset is None or dataset.detector.shape != config.detector.shape:  # another shape is refused with the events
        return config
    names = differing_lengths(config.detector, dataset.detector)
    if contradicted := [name for name in names if f"detector.{name}" in given]:
        raise DataError(
            f"{dataset.name}: its detector has {listed_lengths(dataset.detector, contradicted)}, the settings "
            f"say {listed_lengths(config.detector, contradicted)}; leave detector.{contradicted[0]} out, or give "
            "another dataset"
        )
    return msgspec.structs.replace(config, detector=dataset.detector)


def on_scale_of(config: Config, dataset: EventStore, *, warn: Callable[[str], object]) -> Config:
    """Return the settings of a trained run for events of another scale: their mm and ns are those of the events.

    A ToF tolerance that the run chose itself stays the same in time bins, as it belongs to the network's output; one
    that was given is a time, as all other numbers are.

    Args:
        config: settings of the run.
        dataset: events; those of another shape, or of other time bins than those of an LHCb TORCH model, are refused
            elsewhere.
        warn: is told of lengths that differ, and of a width or tolerance that is longer than those of the events.
    """
    ours, theirs = config.detector, dataset.detector
    names = differing_lengths(ours, theirs)
    is_refused = ours.shape != theirs.shape or ("window_ns" in names and MODELS[config.model.name].of_module)
    if not names or is_refused:
        return config
    warn(
        f"{dataset.name}: its detector has {listed_lengths(theirs, names)}, that of the training "
        f"{listed_lengths(ours, names)}; the network works in pixels and time bins, and mm and ns are "
        "those of the dataset"
    )
    mask = config.mask
    if mask.choose != "none" and mask.tof_tolerance_ns is not None:
        mask = msgspec.structs.replace(mask, tof_tolerance_ns=mask.tof_tolerance_ns / ours.bin_ns * theirs.bin_ns)
    config = msgspec.structs.replace(config, detector=theirs, mask=mask)
    try:
        check_lengths(config)
    except ConfigError as error:
        warn(f"{dataset.name}: too short for a setting of the run: {error}")
    return config


def on_scale_of_source(config: Config, source: str | Path, *, warn: Callable[[str], object]) -> Config:
    """Return the settings of a trained run for a source of events: those of `on_scale_of` where it is a dataset.

    A file has no lengths of its own: those of the run's detector count.

    Args:
        config: settings of the run.
        source: dataset folder, or any other file or folder of events.
        warn: is told of lengths that differ.
    """
    return on_scale_of(config, Dataset(source), warn=warn) if is_dataset(Path(source)) else config


def check_lengths(config: Config) -> None:
    """Check that tolerances and widths of a run mean something within its detector, in every epoch.

    Raises:
        ConfigError: one is larger than the detector; the message names it and the limit.
    """
    for now in (config, *every_epoch(config)):
        for key, value, name in _lengths(now):
            check_length(key, value, config.detector, name)


def check_length(key: str, value: float, detector: Detector, name: str) -> None:
    """Check one length against that of the detector called `name`.

    Raises:
        ConfigError: it is larger.
    """
    most = getattr(detector, name)
    if value > most * (1 + _EQUAL):
        raise ConfigError(f"{key} = {value:g}: at most {most:g}, which is detector.{name}")


def _lengths(config: Config) -> Iterator[tuple[str, float, str]]:
    """Yield key, value and limiting length of every width and tolerance that is used."""
    degradation, noise = config.degradation, config.degradation.noise
    for axis, name in (("x_mm", "width_mm"), ("y_mm", "height_mm"), ("t_ns", "window_ns")):
        yield f"degradation.smear_{axis}", as_range(getattr(degradation, f"smear_{axis}"))[1], name
    if noise.clusters:
        longer = max(("n_x", "n_y"), key=lambda name: getattr(config.detector, name))
        yield "degradation.noise.cluster_sigma_pixels", noise.cluster_sigma_pixels, longer
        yield "degradation.noise.cluster_sigma_ns", noise.cluster_sigma_ns, "window_ns"
    if noise.time_bursts:
        yield "degradation.noise.burst_sigma_ns", noise.burst_sigma_ns, "window_ns"
    if config.mask.tof_tolerance_ns is not None:
        yield "mask.tof_tolerance_ns", config.mask.tof_tolerance_ns, "window_ns"
    yield "metrics.tof_tolerance_ns", config.metrics.tof_tolerance_ns, "window_ns"
    if MODELS[config.model.name].of_module:
        resolution = getattr(config.model, config.model.name).time_sigma_ns
        yield f"model.{config.model.name}.time_sigma_ns", resolution, "window_ns"
