"""Events of one or several tracks whose patterns are drawn from a mixture: an endless list for every seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import numpy as np

from tofae_jax.config.data import LHCB_TORCH
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events, concatenate, event_of_hit, offsets_from_counts, select_hits, slice_events
from tofae_jax.data.simulated.patterns import ANYWHERE, PATTERNS, Origin, origin_limits

BLOCK_EVENTS = 1000  # events drawn from one random stream, whatever the chunks that are asked for


def simulate_patterns(
    seed: int,
    n_events: int,
    *,
    detector: Detector,
    weights: Mapping[str, float],
    n_tracks: tuple[int, int] = (1, 1),
    origin: Origin = ANYWHERE,
    chunk_events: int = 1000,
) -> Iterator[Events]:
    """Simulate toy patterns: events whose tracks are drawn from a mixture, `chunk_events` at a time.

    The hits of an event are ordered by track, then by time; a hit that an earlier track of the event has already made
    is removed. The events are a function of the seed and the other settings only: `chunk_events` does not change them,
    and fewer events are the first ones of more. (Every block of 1000 events has its own stream, seeded by
    `(seed, block)`.)

    Args:
        seed: of the draws, from 0.
        n_events: number of events; 0 gives no chunk.
        detector: shape and scale of the detector.
        weights: mixture by pattern name (`PATTERNS`), in any scale.
        n_tracks: inclusive range `(low, high)` of tracks per event, drawn uniformly; each track's pattern is drawn on
            its own.
        origin: x, y [pixels] and t [time bins] of a point of every pattern; None in place of a coordinate draws it.
        chunk_events: events per chunk; the last one may have less.

    Returns:
        Chunks of events. Hit column: `track`, int16, the number of the track within its event. Event columns, int16:
        `n_tracks`, and `pattern`, the place of the name in `PATTERNS`, or -1 where the tracks of an event differ.

    Raises:
        ValueError: when called, for a negative seed or count, a chunk below 1, unknown names, weights that are
            negative, not finite or all zero, a track range that is not `1 <= low <= high <= 32767`, or an origin
            outside the detector.
    """
    for name, value, least in (("n_events", n_events, 0), ("chunk_events", chunk_events, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, allowed: {least} or more")
    block = block_drawer(seed, detector=detector, weights=weights, n_tracks=n_tracks, origin=origin)
    return _chunks(block, n_events, chunk_events)


def block_drawer(
    seed: int,
    *,
    detector: Detector,
    weights: Mapping[str, float],
    n_tracks: tuple[int, int] = (1, 1),
    origin: Origin = ANYWHERE,
) -> Callable[[int], Events]:
    """What gives block `b`, events `1000 b` to `1000 b + 999` of `simulate_patterns`; ValueError as there."""
    shares = _shares(weights)
    origin_limits(detector, origin)
    if seed < 0:
        raise ValueError(f"seed is {seed}, allowed: 0 or more")
    if not 1 <= n_tracks[0] <= n_tracks[1] <= np.iinfo(np.int16).max:
        raise ValueError(f"n_tracks is {n_tracks}, allowed: (low, high) with 1 <= low <= high <= 32767")
    return partial(_draw_block, seed, detector=detector, shares=shares, n_tracks=n_tracks, origin=origin)


def _chunks(draw_block: Callable[[int], Events], n_events: int, chunk_events: int) -> Iterator[Events]:
    """The first `n_events` events of the blocks, joined and cut into chunks."""
    draw_block = lru_cache(maxsize=1)(draw_block)
    for start in range(0, n_events, chunk_events):
        stop = min(start + chunk_events, n_events)
        yield concatenate(
            slice_events(draw_block(block), max(start - first, 0), min(stop - first, BLOCK_EVENTS))
            for block in range(start // BLOCK_EVENTS, (stop - 1) // BLOCK_EVENTS + 1)
            for first in [block * BLOCK_EVENTS]
        )


def _draw_block(
    seed: int, block: int, *, detector: Detector, shares: np.ndarray, n_tracks: tuple[int, int], origin: Origin
) -> Events:
    rng = np.random.default_rng([seed, block])
    tracks = rng.integers(*n_tracks, size=BLOCK_EVENTS, endpoint=True)
    first_track = offsets_from_counts(tracks)
    pattern = rng.choice(len(PATTERNS), size=first_track[-1], p=shares).astype(np.int16)
    hits, offsets = _draw_tracks(rng, pattern, detector, origin)
    number = np.arange(len(pattern)) - np.repeat(first_track[:-1], tracks)
    lowest, highest = (ufunc.reduceat(pattern, first_track[:-1]) for ufunc in (np.minimum, np.maximum))
    events = Events(
        hits,
        offsets[first_track],
        {"track": np.repeat(number.astype(np.int16), np.diff(offsets))},
        {"n_tracks": tracks.astype(np.int16), "pattern": np.where(lowest == highest, lowest, np.int16(-1))},
    )
    return events if n_tracks[1] == 1 else select_hits(events, _is_first_of_its_kind(events, detector))


def _draw_tracks(
    rng: np.random.Generator, pattern: np.ndarray, detector: Detector, origin: Origin
) -> tuple[np.ndarray, np.ndarray]:
    """Hits of all tracks in the order of `pattern`, the place of each track's name in `PATTERNS`, and their offsets."""
    parts, counts = [], np.zeros(len(pattern), np.int64)
    for place, generate in enumerate(PATTERNS.values()):
        tracks = np.flatnonzero(pattern == place)
        if len(tracks):
            part = generate(rng, len(tracks), detector=detector, origin=origin)
            counts[tracks] = part.counts
            parts.append((tracks, part))
    offsets = offsets_from_counts(counts)
    hits = np.empty((offsets[-1], 3), np.int16)
    for tracks, part in parts:
        shift = np.repeat(offsets[tracks] - part.offsets[:-1], part.counts)
        hits[np.arange(part.n_hits) + shift] = part.hits
    return hits, offsets


def _is_first_of_its_kind(events: Events, detector: Detector) -> np.ndarray:
    """Whether no earlier hit of the same event is the same, bool[n_hits]."""
    key = event_of_hit(events)
    for column, size in enumerate((detector.n_x, detector.n_y, detector.n_t + 1)):
        key = key * size + events.hits[:, column]
    order = np.argsort(key, kind="stable")
    is_first = np.empty(events.n_hits, bool)
    is_first[order] = np.diff(key[order], prepend=-1) != 0
    return is_first


def _shares(weights: Mapping[str, float]) -> np.ndarray:
    """Probability of every pattern, in the order of `PATTERNS`."""
    unknown = sorted(set(weights) - set(PATTERNS))
    if unknown:
        known = f"{', '.join(PATTERNS)}, and {LHCB_TORCH}, which mixes with no other"
        raise ValueError(f"unknown pattern {', '.join(map(repr, unknown))}; known: {known}")
    values = np.array([weights.get(name, 0.0) for name in PATTERNS], float)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise ValueError(f"weights is {dict(weights)}, allowed: finite numbers from 0 up, at least one above 0")
    return values / values.max() / np.sum(values / values.max())
