"""Open or simulate the events of a run, split them and check that the model can read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tofae_jax.config import (
    Config,
    DataConfig,
    LhcbTorchConfig,
    SimulateConfig,
    as_range,
    parse_mixture,
    to_tree,
)
from tofae_jax.config.data import LHCB_TORCH
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import NO_TRACKS, EvaluationSource, Splits, TrackSlots, TrainSource, split_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.simulated import MODULE_GENERATOR, PATTERN_GENERATOR
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.patterns import ANYWHERE, Origin
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.data.simulated.stream import SimulatedEvents, pattern_stream
from tofae_jax.data.tracks import track_table
from tofae_jax.engine.build import (
    every_epoch,
    module_settings_of,
)
from tofae_jax.lhcb_torch.simulation import BackgroundSettings
from tofae_jax.models import MODELS
from tofae_jax.runs.messages import warn

CHUNK_EVENTS = 1024


def module_events(config: LhcbTorchConfig, *, detector: Detector, tracks: tuple[int, int], seed: int) -> ModuleEvents:
    """The simulated module; ValueError naming a setting that is not allowed."""
    events = ModuleEvents(
        detector=detector,
        settings=module_settings_of(config, tracks),
        backgrounds=BackgroundSettings(**msgspec.structs.asdict(config.background)),
        photons=config.photons,
        seed=seed,
    )
    events.check()
    return events


def is_module(simulate: SimulateConfig) -> bool:
    """Whether it is the LHCb TORCH module that is simulated, and no toy patterns."""
    return LHCB_TORCH in parse_mixture(simulate.pattern)


def _module_provenance(simulate: SimulateConfig) -> dict[str, Any]:
    return {
        "generator": MODULE_GENERATOR,
        "pattern": LHCB_TORCH,
        "tracks": list(as_range(simulate.tracks)),
        "seed": simulate.seed,
        **to_tree(simulate.lhcb_torch),
    }


def check_plate(simulate: SimulateConfig, detector: Detector) -> None:
    """Check that the plate of a simulated module is as wide as the detector, whose columns lie along it.

    Raises:
        ValueError: it is not; the message names both.
    """
    plate_mm = simulate.lhcb_torch.module.width_mm
    if is_module(simulate) and not math.isclose(plate_mm, detector.width_mm, rel_tol=1e-6):
        raise ValueError(
            f"detector.width_mm = {detector.width_mm:g}: lhcb_torch.module.width_mm is {plate_mm:g}, and the columns "
            "of the detector lie along the plate: give both the same width"
        )


def write_simulation(
    path: str, simulate: SimulateConfig, *, detector: Detector, origin: Origin = ANYWHERE, overwrite: bool = False
) -> Dataset:
    """Simulate a dataset, and open it; `origin` is for toy patterns alone, and ValueError for others."""
    check_plate(simulate, detector)
    tracks = as_range(simulate.tracks)
    if not is_module(simulate):
        return simulated_dataset(
            path,
            detector=detector,
            weights=parse_mixture(simulate.pattern),
            n_events=simulate.events,
            tracks=tracks,
            seed=simulate.seed,
            origin=origin,
            overwrite=overwrite,
        )
    if origin != ANYWHERE:
        raise ValueError(f"origin: pattern {LHCB_TORCH} has none; its tracks are set by lhcb-torch.module")
    source = module_events(simulate.lhcb_torch, detector=detector, tracks=tracks, seed=simulate.seed)
    n_dropped = 0

    def parts() -> Iterator[Events]:
        nonlocal n_dropped
        for start in range(0, simulate.events, CHUNK_EVENTS):
            events, n = source.draw(np.arange(start, min(start + CHUNK_EVENTS, simulate.events)))
            n_dropped += n
            yield events

    provenance = _module_provenance(simulate) | {"events": simulate.events}
    dataset = write_dataset(path, parts(), detector=detector, provenance=provenance, overwrite=overwrite)
    if n_dropped:
        warn(f"{n_dropped} hits or tracks found no slot and are missing")
    return dataset


def simulated_events(config: Config) -> SimulatedEvents:
    """The events of `data.simulate`, made as they are asked for."""
    simulate, detector = config.data.simulate, config.detector
    tracks = as_range(simulate.tracks)
    if not is_module(simulate):
        return pattern_stream(
            simulate.pattern, detector=detector, n_events=simulate.events, tracks=tracks, seed=simulate.seed
        )
    source = module_events(simulate.lhcb_torch, detector=detector, tracks=tracks, seed=simulate.seed)
    return SimulatedEvents(
        lambda numbers: source.draw(numbers)[0],
        n_events=simulate.events,
        detector=detector,
        provenance=_module_provenance(simulate),
    )


GEOMETRY = ("width_mm", "height_mm", "thickness_mm", "theta_z_rad", "flight_path_mm", "energy_knots_ev")
"""settings of a module that models of it cannot do without"""


def open_events(config: Config, say: Callable[[str], None], *, places: Sequence[str] = ()) -> EventStore:
    """The events of a run, of its dataset or simulated as they are asked for; a missing dataset is simulated first.

    `places` are where the dataset may lie too. DataError where its detector is another one, or where background is
    asked for and the events have none.
    """
    if config.data.source == "simulate":
        store: EventStore = simulated_events(config)
    else:
        existing = existing_dataset(config.data, places=places)
        store = _simulated_dataset(config, say) if existing is None else existing
    check_store(store, config)
    return store


def check_store(store: EventStore, config: Config) -> None:
    """Check that events fit the detector and the model of a run, and have the background that it asks for.

    Raises:
        DataError: they do not.
    """
    check_detector(store, config.detector.shape)
    check_module(store, config)
    if max_background(config) and not store.has_origins:
        raise DataError(f"{store.name}: degradation.noise.data asks for its background, but its hits have no origin")


def existing_dataset(data: DataConfig, *, places: Sequence[str] = ()) -> Dataset | None:
    """Open the dataset that the settings name; None where events are simulated, or where there is none yet.

    Args:
        data: settings.
        places: where the dataset may lie too.

    Raises:
        DataError: what lies there is no dataset.
    """
    if data.source == "simulate":
        return None
    path = next((place for place in (data.path, *places) if place and Path(place).exists()), None)
    return Dataset(path) if path is not None else None


def is_gone(data: DataConfig, then: str) -> bool:
    """Whether a run's dataset is neither where its settings say nor where it was then."""
    return data.source == "dataset" and not any(place and Path(place).exists() for place in (data.path, then))


def _simulated_dataset(config: Config, say: Callable[[str], None]) -> Dataset:
    simulate, path = config.data.simulate, config.data.path
    say(f"simulating {simulate.events} events of {simulate.pattern} into {path}")
    return write_simulation(path, simulate, detector=config.detector)


def max_background(config: Config) -> int:
    """Slots for background hits: none where nothing asks for them."""
    asks = any(now.degradation.noise.data for now in [config, *every_epoch(config)])
    return config.data.max_background if asks else 0


def train_source(config: Config, store: EventStore, splits: Splits) -> TrainSource:
    """Batches to train on."""
    return TrainSource(
        store,
        splits.train,
        batch=config.train.batch,
        max_hits=config.data.max_hits,
        max_background=max_background(config),
        tracks=track_slots(config, training=True),
        seed=config.seed,
        repeat_every=config.train.repeat_every,
    )


def evaluation_source(config: Config, store: EventStore, events: np.ndarray) -> EvaluationSource:
    """Batches of events to evaluate."""
    return EvaluationSource(
        store,
        events,
        batch=config.train.batch,
        max_hits=config.data.max_hits,
        max_background=max_background(config),
        tracks=track_slots(config, training=False),
    )


def track_slots(config: Config, *, training: bool) -> TrackSlots:
    """What batches need of tracks."""
    kind = MODELS[config.model.name]
    learns = kind.learns_tracks and training
    is_needed = kind.takes_tracks or learns
    return TrackSlots(config.data.max_tracks, with_truth=learns) if is_needed else NO_TRACKS


def check_tracks(config: Config, store: EventStore, events: np.ndarray) -> None:
    """DataError where a training needs tracks that the first of these events has not."""
    wanted = track_slots(config, training=True)
    if wanted.slots:
        known = store.per_event_tracks(events[:1])
        track_table(known, slots=wanted.slots, with_truth=wanted.with_truth, where=store.name)


def check_detector(dataset: EventStore, shape_xyt: tuple[int, int, int]) -> None:
    """DataError where the dataset's detector has another shape than that of the settings or the model."""
    if dataset.detector.shape != shape_xyt:
        raise DataError(
            f"{dataset.name}: its detector has n_x, n_y, n_t = {dataset.detector.shape}, "
            f"the settings say {shape_xyt}; give --detector.n-x and so on in training, or another dataset"
        )


def check_module(dataset: EventStore, config: Config) -> None:
    """DataError where the model is built for another LHCb TORCH module than the one that made the dataset, or for one
    at all while the dataset has toy patterns.
    """
    if not MODELS[config.model.name].of_module:
        return
    if dataset.provenance.get("generator") == PATTERN_GENERATOR:
        raise DataError(f"{dataset.name}: contains toy patterns; model {config.model.name} needs LHCb TORCH events")
    bin_ns, ours_ns = dataset.detector.bin_ns, config.detector.bin_ns
    if not math.isclose(bin_ns, ours_ns, rel_tol=1e-6):
        raise DataError(f"{dataset.name}: its time bins are {bin_ns:g} ns long, those of the model {ours_ns:g} ns")
    provenance = dataset.provenance.get("module")
    known = provenance if isinstance(provenance, dict) else {}
    ours = to_tree(config.data.simulate.lhcb_torch.module)
    for name in GEOMETRY:
        if name in known and known[name] != ours[name]:
            raise DataError(
                f"{dataset.name}: its module has {name} = {known[name]}, the model was made for {ours[name]}"
                f" (a training's: --data.simulate.lhcb-torch.module.{name.replace('_', '-')})"
            )


def splits_of(dataset: EventStore, data: DataConfig) -> Splits:
    """Disjoint training, validation and test events."""
    return split_events(
        len(dataset),
        train=data.train_share,
        validation=data.validation_share,
        test=data.test_share,
        seed=data.split_seed,
    )
