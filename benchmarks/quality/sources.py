"""Patterns and backgrounds of the data sets by name, from seeds and event numbers that no training uses.

Toy patterns and LHCb TORCH are simulated with the package's own generators. Event `i` of a data set is a function of
the seed and `i` alone; events for validation, for the test and for noise densities have numbers of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events, slice_events
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.stream import numbered_patterns
from tofae_jax.lhcb_torch.simulation import ORIGINS, BackgroundSettings, ModuleSettings

Part = Literal["validation", "test", "noise"]
FIRST_NUMBER: dict[Part, int] = {"validation": 0, "test": 1_000_000, "noise": 2_000_000}
HELD_OUT_SEED = 770_001
"""added to the benchmark's seed; recipes simulate with seeds near 0"""

EQUAL = ("v", "parabola", "line", "cross", "hemisphere")
TOYS: dict[str, dict[str, float]] = {
    "v": {"v": 1},
    "parabola": {"parabola": 1},
    "mixture": dict.fromkeys(EQUAL, 1),
}
LEGACY = "legacy"
LEGACY_FILE = Path(__file__).resolve().parents[2] / "tests" / "reference" / "legacy_patterns.npz"
LEGACY_VALIDATION = 40  # of its 120 patterns; the others are for the test

# Means so large that practically every event has a thousand hits of its kind to draw from.
MEAN_HITS = 1200.0
MEAN_OTHER_TRACKS = 90.0  # each has some 23 hits in the window
NO_BACKGROUND = BackgroundSettings(n_other_tracks=0.0, n_dark=0.0, n_hot=0.0, afterpulse_chance=0.0)


class ModuleNoise(NamedTuple):
    """What is noise in a data set of LHCb TORCH."""

    backgrounds: BackgroundSettings
    origin: str | None
    """background hits of this origin alone are noise; None: none is, noise is uniform"""


MODULES: dict[str, ModuleNoise] = {
    "lhcb_torch": ModuleNoise(NO_BACKGROUND, None),
    "lhcb_torch_other_tracks": ModuleNoise(NO_BACKGROUND._replace(n_other_tracks=MEAN_OTHER_TRACKS), "other_track"),
    "lhcb_torch_dark": ModuleNoise(NO_BACKGROUND._replace(n_dark=MEAN_HITS), "dark"),
    "lhcb_torch_hot_pixel": ModuleNoise(NO_BACKGROUND._replace(n_hot=MEAN_HITS), "hot_pixel"),
    # of photons of other tracks, which are left out themselves; a dense pattern's photons cause none
    "lhcb_torch_afterpulse": ModuleNoise(
        NO_BACKGROUND._replace(n_other_tracks=MEAN_OTHER_TRACKS, afterpulse_chance=1.0), "afterpulse"
    ),
}
DATA = (*TOYS, LEGACY, *MODULES)
"""names of all data sets"""


class Background(NamedTuple):
    """Hits of one event that noise is drawn from."""

    hits: np.ndarray
    """int16[b, 3], those of a track next to each other"""
    track: np.ndarray
    """int16[b]: number of each one's track; -1 of none"""


class Source(NamedTuple):
    """Events of a data set before degradation."""

    numbers: np.ndarray
    """int64[n]: of the events; what is drawn for an event depends on its number"""
    patterns: list[np.ndarray]
    """of each event int16[p, 3]: all photons of its track, x, y, t"""
    backgrounds: list[Background] | None
    """of each event what noise is drawn from; None: noise is uniform"""
    tracks: Mapping[str, np.ndarray] = {}
    """columns [n] of the event's track, where it is known"""
    window_start_ns: np.ndarray | None = None
    """float32[n]: start of the time window after the bunch crossing, where it is known"""
    module: ModuleSettings | None = None
    """of the simulation of LHCb TORCH"""


@lru_cache(maxsize=3)
def held_out(
    name: str, part: Part, *, n_events: int, seed: int, detector: Detector, time_smearing_ps: float | None = None
) -> Source:
    """Events of a data set that no training has seen.

    Args:
        name: one of `DATA`; ValueError for others.
        part: what they are for.
        n_events: so many; `legacy` has only 40 for validation and 80 for the test.
        seed: of the benchmark.
        detector: its shape and scale.
        time_smearing_ps: time resolution of a photon of LHCb TORCH; None: the simulation's own. The patterns of other
            data sets are exact, and smeared afterwards (`quality.events.degraded`).
    """
    numbers = FIRST_NUMBER[part] + np.arange(n_events)
    if name in TOYS:
        draw = numbered_patterns(HELD_OUT_SEED + seed, detector=detector, weights=TOYS[name])
        return Source(numbers, _hit_lists(draw(numbers)), None)
    if name == LEGACY:
        return _legacy(numbers, part)
    if name in MODULES:
        settings = ModuleSettings()
        if time_smearing_ps is not None:
            settings = settings._replace(time_sigma_ns=time_smearing_ps / 1000)
        return _module(MODULES[name], numbers, seed, detector, settings)
    raise ValueError(f"data is {name!r}, allowed: {', '.join(DATA)}")


def _hit_lists(events: Events) -> list[np.ndarray]:
    return np.split(events.hits, events.offsets[1:-1])


def _legacy(numbers: np.ndarray, part: Part) -> Source:
    """Patterns of the predecessor's two generators in turns, the first ones for validation."""
    kinds: list[list[np.ndarray]] = []
    with np.load(LEGACY_FILE, allow_pickle=False) as file:
        for generator in ("rdt", "pdt"):
            event, hits = file[generator][:, 0], file[generator][:, 1:].astype(np.int16)
            kinds.append([hits[event == i] for i in np.unique(event)])
    patterns = [hits for pair in zip(*kinds, strict=True) for hits in pair]
    own = patterns[:LEGACY_VALIDATION] if part == "validation" else patterns[LEGACY_VALIDATION:]
    n_events = min(len(numbers), len(own))
    return Source(numbers[:n_events], own[:n_events], None)


def _module(noise: ModuleNoise, numbers: np.ndarray, seed: int, detector: Detector, settings: ModuleSettings) -> Source:
    module = ModuleEvents(detector, settings=settings, backgrounds=noise.backgrounds, seed=HELD_OUT_SEED + seed)
    events, n_dropped = module.draw(numbers)
    if n_dropped:
        raise ValueError(f"{n_dropped} hits or tracks found no slot in the simulation")
    patterns, backgrounds = [], []
    for i in range(events.n_events):
        event = slice_events(events, i, i + 1)
        origin, track = event.hit_columns["origin"], event.hit_columns["track"]
        patterns.append(event.hits[origin == 0])
        if noise.origin is not None:
            chosen = origin == ORIGINS.index(noise.origin)
            backgrounds.append(Background(event.hits[chosen], track[chosen]))
    tracks: dict[str, Any] = dict(events.track_columns)
    return Source(
        numbers,
        patterns,
        backgrounds if noise.origin is not None else None,
        tracks,
        events.event_columns["window_start_ns"],
        settings,
    )
