"""Simulated patterns as a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.simulated import PATTERN_GENERATOR
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.data.simulated.patterns import ANYWHERE, Origin


def simulated_dataset(
    path: str | Path,
    *,
    detector: Detector,
    weights: Mapping[str, float],
    n_events: int,
    tracks: tuple[int, int] = (1, 1),
    seed: int = 0,
    origin: Origin = ANYWHERE,
    overwrite: bool = False,
) -> Dataset:
    """Simulate patterns into a dataset at `path`, and open it; arguments as for `simulate_patterns`."""
    parts = simulate_patterns(seed, n_events, detector=detector, weights=weights, n_tracks=tracks, origin=origin)
    provenance = {
        "generator": PATTERN_GENERATOR,
        "pattern": dict(weights),
        "events": n_events,
        "tracks": list(tracks),
        "origin": list(origin),
        "seed": seed,
    }
    return write_dataset(path, parts, detector=detector, provenance=provenance, overwrite=overwrite)
