"""Events on the host: hit lists of many events, concatenated, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class DataError(ValueError):
    """Error in data from outside; the message names the file, the place and what is allowed."""


class Events(NamedTuple):
    """Complete events, concatenated.

    Event `i` owns the hits `offsets[i]:offsets[i + 1]`. A column holds one value per hit, per event or per track, and
    stays with them when events are selected or joined.
    """

    hits: np.ndarray
    """int16[n_hits, 3]: x, y, t"""
    offsets: np.ndarray
    """int64[n_events + 1], from 0 to n_hits, non-decreasing"""
    hit_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_hits, ...]: e.g. `is_signal`, `score`"""
    event_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_events, ...]: e.g. `event`, the event's number in the file it came from"""

    track_offsets: np.ndarray | None = None
    """int64[n_events + 1]: event `i` owns the tracks `track_offsets[i]:track_offsets[i + 1]`; None: unknown"""
    track_columns: Mapping[str, np.ndarray] = {}
    """by name, [n_tracks, ...]: e.g. `momentum_gev`; a hit column `track` counts the tracks of an event from 0, and
    continues with tracks of the background, which are not in this table"""

    @property
    def n_events(self) -> int:
        """Number of events, including those without hits."""
        return len(self.offsets) - 1

    @property
    def n_hits(self) -> int:
        """Number of hits of all events."""
        return len(self.hits)

    @property
    def counts(self) -> np.ndarray:
        """Hits per event, int64[n_events]."""
        return np.diff(self.offsets)


def offsets_from_counts(counts: ArrayLike) -> np.ndarray:
    """Return where the rows of each event begin and the last ones end: int64[n_events + 1], from rows per event.

    `offsets[i] = counts[0] + ... + counts[i - 1]`, so event `i` owns the rows `offsets[i]:offsets[i + 1]`.
    """
    counts = np.asarray(counts)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=offsets[1:])
    return offsets


def event_of_hit(events: Events) -> np.ndarray:
    """Return the index of the event of each hit, int64[n_hits]."""
    return np.repeat(np.arange(events.n_events, dtype=np.int64), events.counts)


def select_hits(events: Events, keep: np.ndarray) -> Events:
    """Return the events with only the hits where `keep` (bool[n_hits]) is true; tracks do not change."""
    kept_before = offsets_from_counts(keep)
    columns = {name: column[keep] for name, column in events.hit_columns.items()}
    return events._replace(hits=events.hits[keep], offsets=kept_before[events.offsets], hit_columns=columns)


def slice_events(events: Events, start: int, stop: int) -> Events:
    """Return events `start` to `stop - 1`, as views."""
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
    """Return the rows of events `start` to `stop - 1`, and their offsets counted from the first of them."""
    low, high = int(offsets[start]), int(offsets[stop])
    return slice(low, high), offsets[start : stop + 1] - low


def column_names(events: Events) -> tuple[list[str], list[str], list[str] | None]:
    """Return the sorted names of hit, event and track columns; None: tracks are unknown."""
    tracks = None if events.track_offsets is None else sorted(events.track_columns)
    return sorted(events.hit_columns), sorted(events.event_columns), tracks


def concatenate(parts: Iterable[Events]) -> Events:
    """Join events in order. All parts need the same columns."""
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
        offsets_from_counts(np.concatenate([part.counts for part in parts])),
        joined("hit_columns"),
        joined("event_columns"),
        offsets_from_counts(np.concatenate([np.diff(offsets) for offsets in track_offsets])) if track_offsets else None,
        joined("track_columns"),
    )
