"""Degraded events for the comparison: what was seen, what of it is signal, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np

from tofae_jax.core.degradation import DegradationSettings, Degraded, degrade
from tofae_jax.core.detector import Detector
from tofae_jax.core.hits import embed, is_visible
from tofae_jax.core.noise import NOISE_PROFILES, NoiseSettings
from tofae_jax.data.events import Events, offsets_from_counts
from tofae_jax.lhcb_torch.simulation import ModuleSettings

from .sources import MODULES, Background, Part, Source, held_out

MOST_SIGNAL, MOST_NOISE = 100, 1000  # slots: the same for all counts, so that more hits are the same ones and others
PATTERN_SLOTS = BACKGROUND_SLOTS = 4096
BLOCK_EVENTS = 32  # degraded together
NO_PHOTON = -1


class Conditions(NamedTuple):
    """How events are degraded."""

    n_signal: int = 30
    """signal hits per event; events whose pattern has fewer keep all"""
    n_noise: int = 200
    """noise hits per event"""
    time_smearing_ps: float | None = None
    """Gaussian time resolution of a photon; None: 70 ps on LHCb TORCH, 0 elsewhere"""
    dead_column: int | None = None
    """column whose hits are not seen; None: all are"""

    def check(self, detector: Detector) -> None:
        """Raise ValueError naming the first number that is not allowed."""
        limits = {
            "signal": (self.n_signal, MOST_SIGNAL),
            "noise": (self.n_noise, MOST_NOISE),
            "time smearing in ps": (self.time_smearing_ps or 0, 1e3),
            "dead column": (self.dead_column or 0, detector.n_x - 1),
        }
        for name, (value, most) in limits.items():
            if not 0 <= value <= most:
                raise ValueError(f"{name} is {value}, allowed: 0 to {most:g}")


@dataclass(frozen=True)
class EventSet:
    """Events as padded arrays; empty slots have t = 0 and stand last."""

    detector: Detector
    hits: np.ndarray
    """int32[n, k, 3]: x, y, t"""
    is_signal: np.ndarray
    """bool[n, k]"""
    photon: np.ndarray
    """int32[n, k]: which hit of the event's pattern a signal hit is, before smearing; -1 of noise and empty slots"""
    patterns: list[np.ndarray]
    """of each event int16[p, 3]"""
    numbers: np.ndarray
    """int64[n]: of the events in their data set"""
    tracks: Mapping[str, np.ndarray]
    """columns [n] of the event's track; none where it is not known"""
    window_start_ns: np.ndarray | None
    """float32[n]: start of the time window after the bunch crossing; None: not known"""
    module: ModuleSettings | None
    """of the simulation of LHCb TORCH; None: it is none"""

    def __len__(self) -> int:
        return len(self.hits)

    @cached_property
    def filled(self) -> np.ndarray:
        """Slots that hold a hit, bool[n, k]."""
        return self.hits[..., 2] > 0

    @cached_property
    def image(self) -> np.ndarray:
        """Embedded-ToF images of all hits, float32[n, y, x] in time bins."""
        return self.image_of(self.filled)

    @cached_property
    def signal_image(self) -> np.ndarray:
        """The same of the signal hits alone."""
        return self.image_of(self.is_signal)

    @cached_property
    def visible(self) -> np.ndarray:
        """Hits that no later one in their pixel occludes, bool[n, k]."""
        return np.asarray(_visible(self.hits, self.image))

    def image_of(self, chosen: np.ndarray) -> np.ndarray:
        """Embedded-ToF images of the chosen hits, bool[n, k]."""
        return embedded(np.where(chosen[..., None], self.hits, 0), self.detector)

    def at_hits(self, images: np.ndarray) -> np.ndarray:
        """Values of images [n, y, x] at the pixel of each hit, [n, k]; of empty slots they mean nothing."""
        return images[np.arange(len(self))[:, None], self.hits[..., 1], self.hits[..., 0]]

    def first(self, n: int) -> EventSet:
        """The first `n` events."""
        return replace(
            self,
            **{name: getattr(self, name)[:n] for name in ("hits", "is_signal", "photon", "patterns", "numbers")},
            tracks={name: column[:n] for name, column in self.tracks.items()},
            window_start_ns=None if self.window_start_ns is None else self.window_start_ns[:n],
        )

    def as_events(self) -> Events:
        """The package's hit lists of what was seen, with the tracks where they are known; no truth of the hits."""
        columns = {} if self.window_start_ns is None else {"window_start_ns": self.window_start_ns}
        return Events(
            self.hits[self.filled].astype(np.int16),
            offsets_from_counts(self.filled.sum(axis=1)),
            event_columns={"event": self.numbers} | columns,
            track_offsets=np.arange(len(self) + 1, dtype=np.int64) if self.tracks else None,
            track_columns=self.tracks,
        )


def held_out_events(
    name: str, part: Part, conditions: Conditions, *, n_events: int, seed: int, detector: Detector
) -> EventSet:
    """Degraded events of a data set: patterns of `sources.held_out`, signal and noise by the package's `degrade`."""
    conditions.check(detector)
    smearing = conditions.time_smearing_ps
    source = held_out(name, part, n_events=n_events, seed=seed, detector=detector, time_smearing_ps=smearing)
    sigma_ps = 0.0 if smearing is None or name in MODULES else smearing
    return degraded(source, conditions._replace(time_smearing_ps=sigma_ps), seed=seed, detector=detector)


def degraded(source: Source, conditions: Conditions, *, seed: int, detector: Detector) -> EventSet:
    """What a detector sees of a source. An event's draw depends on the seed and the event's number alone.

    Fewer signal hits are some of more; so are fewer noise hits where noise is uniform. Noise of other tracks comes
    from whole ones: of each event's, the first so many whose hits suffice, and of those at random.
    """
    profile = "uniform" if source.backgrounds is None else "data"
    settings = DegradationSettings(
        n_signal=(conditions.n_signal, conditions.n_signal),
        sigma_t_bins=(conditions.time_smearing_ps or 0.0) / 1000 / detector.bin_ns,
        n_noise=(conditions.n_noise, conditions.n_noise),
        noise=NoiseSettings(weights=tuple(float(name == profile) for name in NOISE_PROFILES)),
    )
    # uniform noise gets an empty background, so that all is compiled once
    backgrounds = [_whole_tracks(one, conditions.n_noise) for one in source.backgrounds or ()]
    backgrounds = backgrounds or [np.zeros((0, 3), np.int16)] * len(source.patterns)
    hits, is_signal, sparse = _drawn(source, backgrounds, settings, seed=seed, detector=detector)
    photon = np.full(is_signal.shape, NO_PHOTON, np.int32)
    for row, pattern in enumerate(source.patterns):
        photon[row, :MOST_SIGNAL] = place_in_pattern(sparse[row], pattern)
    is_seen = hits[..., 2] > 0
    if conditions.dead_column is not None:
        is_seen &= hits[..., 0] != conditions.dead_column
    hits, is_signal, photon = _compacted(is_seen, hits, is_signal, photon)
    return EventSet(
        detector,
        hits,
        is_signal,
        np.where(is_signal, photon, NO_PHOTON),
        source.patterns,
        source.numbers,
        source.tracks,
        source.window_start_ns,
        source.module,
    )


def _drawn(
    source: Source, backgrounds: list[np.ndarray], settings: DegradationSettings, *, seed: int, detector: Detector
) -> tuple[np.ndarray, ...]:
    """Hits, which are signal, and the signal before smearing, of all events; blocks of one size compile once."""
    patterns, noise = padded(source.patterns, PATTERN_SLOTS), padded(backgrounds, BACKGROUND_SLOTS)
    blocks = []
    for start in range(0, len(patterns), BLOCK_EVENTS):
        own = np.minimum(np.arange(start, start + BLOCK_EVENTS), len(patterns) - 1)
        numbers = source.numbers[own].astype(np.uint32)
        drawn = _degrade(jax.random.key(seed), numbers, patterns[own], noise[own], settings, shape_xyt=detector.shape)
        blocks.append(tuple(np.asarray(leaf) for leaf in (drawn.hits, drawn.is_signal, drawn.sparse)))
    return tuple(np.concatenate(column)[: len(patterns)] for column in zip(*blocks, strict=True))


@partial(jax.jit, static_argnames="shape_xyt")
def _degrade(
    key: jax.Array,
    numbers: jax.Array,
    patterns: jax.Array,
    backgrounds: jax.Array,
    settings: DegradationSettings,
    *,
    shape_xyt: tuple[int, int, int],
) -> Degraded:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    of_event = partial(degrade, shape_xyt=shape_xyt, max_signal=MOST_SIGNAL, max_noise=MOST_NOISE)
    return jax.vmap(of_event, (0, 0, None, 0))(keys, patterns, settings, backgrounds)


def _whole_tracks(background: Background, n_hits: int) -> np.ndarray:
    """Hits of the first so many tracks that there are `n_hits`, or all; hits of no track come one by one."""
    starts_anew = np.ones(len(background.track), bool)
    starts_anew[1:] = (background.track[1:] != background.track[:-1]) | (background.track[1:] < 0)
    before = np.maximum.accumulate(np.where(starts_anew, np.arange(len(starts_anew)), 0))
    return background.hits[before < n_hits]


def _compacted(is_seen: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns [n, k, …] with what is seen first, in order, zeros after it, and no more slots than are needed."""
    n_seen = np.count_nonzero(is_seen, axis=1)
    filled = np.arange(max(1, n_seen.max(initial=0))) < n_seen[:, None]
    found = []
    for column in columns:
        slots = np.zeros(filled.shape + column.shape[2:], column.dtype)
        slots[filled] = column[is_seen]
        found.append(slots)
    return tuple(found)


def place_in_pattern(sparse: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Which hit of the pattern [p, 3] each kept one [s, 3] is, int[s]; of equal ones each once. -1 of empty slots."""
    wanted, known = (hits.astype(np.int64) @ (2**32, 2**16, 1) for hits in (sparse, pattern))  # a number per place
    by_place, by_wanted = (np.argsort(keys, kind="stable") for keys in (known, wanted))
    ordered = wanted[by_wanted]
    among_equal = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    place = np.searchsorted(known[by_place], ordered) + among_equal
    found = np.full(len(sparse), NO_PHOTON)
    filled = sparse[by_wanted][:, 2] > 0
    found[by_wanted[filled]] = by_place[place[filled]]
    return found


def padded(hit_lists: list[np.ndarray], n_slots: int) -> np.ndarray:
    """Hit lists in slots, int16[n, n_slots, 3]; ValueError where a list is longer."""
    hits = np.zeros((len(hit_lists), n_slots, 3), np.int16)
    for row, own in enumerate(hit_lists):
        if len(own) > n_slots:
            raise ValueError(f"an event has {len(own)} hits, allowed: {n_slots}")
        hits[row, : len(own)] = own
    return hits


def embedded(hits: np.ndarray, detector: Detector) -> np.ndarray:
    """Embedded-ToF images float32[n, y, x] of padded hits."""
    return np.asarray(_embed(hits, n_x=detector.n_x, n_y=detector.n_y))


_embed = jax.jit(embed, static_argnames=("n_x", "n_y"))
_visible = jax.jit(is_visible)
