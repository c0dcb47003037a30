"""Simulations by name, from their settings: written into a dataset, or made as they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from tofae_jax.config import Config, LhcbTorchConfig, SimulateConfig, as_range, parse_mixture, to_tree
from tofae_jax.config.data import LHCB_TORCH
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset, write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.simulated import MODULE_GENERATOR, PATTERN_GENERATOR
from tofae_jax.data.simulated.dataset import simulated_dataset
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.patterns import ANYWHERE, Origin
from tofae_jax.data.simulated.stream import SimulatedEvents, numbered_patterns
from tofae_jax.lhcb_torch.simulation import BackgroundSettings, ModuleSettings, check_settings

CHUNK_EVENTS = 1024


def module_events(config: LhcbTorchConfig, *, detector: Detector, tracks: tuple[int, int], seed: int) -> ModuleEvents:
    """The simulated module; ValueError naming a setting that is not allowed."""
    events = ModuleEvents(
        detector=detector,
        settings=_module_settings(config, tracks),
        backgrounds=BackgroundSettings(**msgspec.structs.asdict(config.background)),
        photons=config.photons,
        seed=seed,
    )
    events.check()
    return events


def _module_settings(config: LhcbTorchConfig, tracks: tuple[int, int]) -> ModuleSettings:
    return ModuleSettings(**msgspec.structs.asdict(config.module), n_tracks=tracks)


def module_settings(simulate: SimulateConfig) -> ModuleSettings:
    """Settings of the module, as the models of LHCb TORCH know it; ValueError naming one that is not allowed."""
    settings = _module_settings(simulate.lhcb_torch, as_range(simulate.tracks))
    check_settings(settings)
    return settings


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


def write_simulation(
    path: str, simulate: SimulateConfig, *, detector: Detector, origin: Origin = ANYWHERE, overwrite: bool = False
) -> Dataset:
    """Simulate a dataset, and open it; `origin` is for toy patterns alone, and ValueError for others."""
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
        print(f"warning: {n_dropped} hits or tracks found no slot and are missing", file=sys.stderr)
    return dataset


def simulated_events(config: Config) -> SimulatedEvents:
    """The events of `data.simulate`, made as they are asked for."""
    simulate, detector = config.data.simulate, config.detector
    tracks = as_range(simulate.tracks)
    if is_module(simulate):
        source = module_events(simulate.lhcb_torch, detector=detector, tracks=tracks, seed=simulate.seed)
        provenance = _module_provenance(simulate)

        def draw(numbers: np.ndarray) -> Events:
            return source.draw(numbers)[0]
    else:
        weights = parse_mixture(simulate.pattern)
        of_numbers = numbered_patterns(simulate.seed, detector=detector, weights=weights, n_tracks=tracks)

        def draw(numbers: np.ndarray) -> Events:
            return of_numbers(numbers)

        provenance = {
            "generator": PATTERN_GENERATOR,
            "pattern": simulate.pattern,
            "tracks": list(tracks),
            "seed": simulate.seed,
        }
    return SimulatedEvents(draw, n_events=simulate.events, detector=detector, provenance=provenance)
