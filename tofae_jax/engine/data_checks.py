"""Check the data and the outputs of a run as far as they are known, before anything is simulated or read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tofae_jax.config import Config, DataConfig, as_range
from tofae_jax.data.batches import split_sizes
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError
from tofae_jax.data.simulated.stream import FRESH_FROM, MOST_EVENTS
from tofae_jax.data.storage.atomic import check_can_be_written
from tofae_jax.engine.class_weights import check_automatic_weights
from tofae_jax.engine.events import check_plate, check_store, check_tracks, is_module, simulated_events, track_slots
from tofae_jax.runs.messages import warn

SPLITS = ("training", "validation", "test")


def check_planned(config: Config) -> None:
    """Check what the settings of a new run decide about its data and outputs.

    Raises:
        DataError: events that are still to be simulated will be too few, or will not fit the model.
        ValueError: a folder cannot be written.
    """
    check_can_be_written(Path(config.runs.folder))
    if config.instruments.profile_steps and config.instruments.profile_folder:
        check_can_be_written(Path(config.instruments.profile_folder))
    check_automatic_weights(config)
    if config.data.source == "dataset" and Path(config.data.path).exists():
        check_store(Dataset(config.data.path), config)
    else:
        if config.data.source == "dataset":
            check_can_be_written(Path(config.data.path))
        _check_simulated(config)
    check_split(*planned_events(config), config)


def planned_events(config: Config) -> tuple[str, int]:
    """Return what the events of a run are called and how many there are, or will be once they are simulated."""
    data = config.data
    if data.source == "simulate":
        return f"simulated {data.simulate.pattern}", data.simulate.events
    return data.path, len(Dataset(data.path)) if Path(data.path).exists() else data.simulate.events


def _check_simulated(config: Config) -> None:
    """Check events that will be simulated, without simulating more than one."""
    simulate = config.data.simulate
    check_plate(simulate, config.detector)
    n_epochs = config.train.epochs if config.data.source == "simulate" else 0
    if n_epochs and FRESH_FROM + n_epochs * simulate.events - 1 > MOST_EVENTS:
        raise DataError(
            f"data.simulate.events = {simulate.events}: the {n_epochs} epochs of the training need more events than "
            f"the {MOST_EVENTS - FRESH_FROM + 1} that the simulation has"
        )
    if not is_module(simulate):  # toy patterns are drawn in no time
        store = simulated_events(config)
        check_store(store, config)
        check_tracks(config, store, np.arange(1))
        return
    slots, most = track_slots(config, training=True).slots, as_range(simulate.tracks)[1]
    if 0 < slots < most:
        raise DataError(f"data.simulate.tracks: events may have {most} tracks, data.max_tracks is {slots}")


def check_split(name: str, n_events: int, config: Config) -> None:
    """Check that so many events are enough for a training batch, and for a choice on validation events.

    Args:
        name: of the events, for errors.
        n_events: how many there are.
        config: settings of the run.

    Raises:
        DataError: they are too few; the message names the fractions of the splits.
    """
    data, batch = config.data, config.train.batch
    n_train, n_validation, _ = _sizes(n_events, data)
    if n_train < batch:
        raise DataError(
            f"{name}: {n_train} training events do not fill a batch of {batch}; make train.batch smaller, or the "
            f"dataset larger than {n_events} events ({_shares(data)})"
        )
    if config.mask.choose != "none" and not n_validation:
        needs = f"mask.choose = {config.mask.choose!r} needs some: raise data.validation_share, or use more events"
        raise empty_split(name, n_events, data, "validation", needs)


def warn_of_empty_splits(name: str, n_events: int, data: DataConfig) -> None:
    """Warn where a split whose fraction is above 0 gets no event, as there are so few."""
    lost = {"validation": "no epoch is validated", "test": "there is no final evaluation"}
    shares = (data.train_share, data.validation_share, data.test_share)
    for split, share, n in zip(SPLITS, shares, _sizes(n_events, data), strict=True):
        if split in lost and share and not n:
            warn(str(empty_split(name, n_events, data, split, lost[split])))


def check_measurable(config: Config) -> None:
    """Check that there are events to choose an operating point on, and others to evaluate it on.

    Raises:
        DataError: there are none.
    """
    name, n_events = planned_events(config)
    for split, n in zip(SPLITS[1:], _sizes(n_events, config.data)[1:], strict=True):
        if not n:
            raise empty_split(name, n_events, config.data, split, f"raise data.{split}_share, or use more events")


def empty_split(name: str, n_events: int, data: DataConfig, split: str, advice: str) -> DataError:
    """Return the error for a split without events, which names the fractions that leave it empty."""
    return DataError(f"{name}: {n_events} events, divided by {_shares(data)}, leave none for {split}; {advice}")


def _sizes(n_events: int, data: DataConfig) -> tuple[int, int, int]:
    return split_sizes(n_events, train=data.train_share, validation=data.validation_share, test=data.test_share)


def _shares(data: DataConfig) -> str:
    return (
        f"data.train_share {data.train_share:g}, data.validation_share {data.validation_share:g} and "
        f"data.test_share {data.test_share:g}"
    )
