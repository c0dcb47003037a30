"""Events on the host: hit lists of many events, one after the other, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class DataError(ValueError):
    """Data from outside is not what it should be; the message names the file, the place and what is allowed."""


class Events(NamedTuple):
    """Complete events, concatenated.

    Event `i` owns the hits `offsets[i]:offsets[i + 1]`. A column holds one value per hit or per event, and goes
    wherever the hits go.
    """

    hits: np.ndarray
    """int16[n_hits, 3]: x, y, t"""
    offsets: np.ndarray
    """int64[n_events + 1], from 0 to n_hits, never falling"""
    hit_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_hits, ...]: e.g. `is_signal`, `score`"""
    event_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_events, ...]: e.g. `event`, the event's number in the file it came from"""

    track_offsets: np.ndarray | None = None
    """int64[n_events + 1]: event `i` owns the tracks `track_offsets[i]:track_offsets[i + 1]`; None: none are known"""
    track_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_tracks, ...]: e.g. `momentum_gev`; a hit column `track` counts an event's tracks from 0, and goes on
    with tracks of the background, which are not in this table"""

    @property
    def n_events(self) -> int:
        """Number of events, those without hits included."""
        return len(self.offsets) - 1

    @property
    def n_hits(self) -> int:
        """Number of hits of all events together."""
        return len(self.hits)

    @property
    def counts(self) -> np.ndarray:
        """Hits per event, int64[n_events]."""
        return np.diff(self.offsets)


def event_of_hit(events: Events) -> np.ndarray:
    """Index of the event that each hit belongs to, int64[n_hits]."""
    return np.repeat(np.arange(events.n_events, dtype=np.int64), events.counts)


def select_hits(events: Events, keep: np.ndarray) -> Events:
    """The same events with only the hits that `keep` (bool[n_hits]) marks; columns follow, tracks stay."""
    kept_before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    columns = {name: column[keep] for name, column in events.hit_columns.items()}
    return events._replace(hits=events.hits[keep], offsets=kept_before[events.offsets], hit_columns=columns)


def slice_events(events: Events, start: int, stop: int) -> Events:
    """Events `start` to `stop - 1`, as views."""
    hits, offsets = _rows(events.offsets, start, stop)
    tracks, track_offsets = slice(0), None
    if events.track_offsets is not None:
        tracks, track_offsets = _rows(events.track_offsets, start, stop)
    return Events(
        events.hits[hits],
        offsets,
        {name: column[hits] for name, column in events.hit_columns.items()},
        {name: column[start:stop] for name, column in events.event_columns.items()},
        track_offsets,
        {name: column[tracks] for name, column in events.track_columns.items()},
    )


def _rows(offsets: np.ndarray, start: int, stop: int) -> tuple[slice, np.ndarray]:
    """Rows of events `start` to `stop - 1`, and their offsets there."""
    low, high = int(offsets[start]), int(offsets[stop])
    return slice(low, high), offsets[start : stop + 1] - low


def column_names(events: Events) -> tuple[list[str], list[str], list[str] | None]:
    """Names of the columns of hits, events and tracks, sorted; None: no tracks are known."""
    tracks = None if events.track_offsets is None else sorted(events.track_columns)
    return sorted(events.hit_columns), sorted(events.event_columns), tracks


def concatenate(parts: Iterable[Events]) -> Events:
    """Events of all parts, in order. All parts need the same columns."""
    parts = list(parts)
    if not parts:
        return Events(np.zeros((0, 3), np.int16), np.zeros(1, np.int64))
    names = [column_names(part) for part in parts]
    if any(name != names[0] for name in names):
        raise ValueError(f"events to be joined need the same columns, got {names}")
    track_offsets = [part.track_offsets for part in parts if part.track_offsets is not None]

    def joined(field: str) -> dict[str, np.ndarray]:
        columns = [getattr(part, field) for part in parts]
        return {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}

    return Events(
        np.concatenate([part.hits for part in parts]),
        _offsets_of([part.counts for part in parts]),
        joined("hit_columns"),
        joined("event_columns"),
        _offsets_of([np.diff(offsets) for offsets in track_offsets]) if track_offsets else None,
        joined("track_columns"),
    )


def _offsets_of(counts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
