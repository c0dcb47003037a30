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
    """The same events with only the hits that `keep` (bool[n_hits]) marks; columns follow."""
    kept_before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    columns = {name: column[keep] for name, column in events.hit_columns.items()}
    return Events(events.hits[keep], kept_before[events.offsets], columns, events.event_columns)


def concatenate(parts: Iterable[Events]) -> Events:
    """Events of all parts, in order. All parts need the same columns."""
    parts = list(parts)
    if not parts:
        return Events(np.zeros((0, 3), np.int16), np.zeros(1, np.int64))
    names = [(sorted(part.hit_columns), sorted(part.event_columns)) for part in parts]
    if any(name != names[0] for name in names):
        raise ValueError(f"events to be joined need the same columns, got {names}")
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.counts for part in parts]))]).astype(np.int64)
    return Events(
        np.concatenate([part.hits for part in parts]),
        offsets,
        {name: np.concatenate([part.hit_columns[name] for part in parts]) for name in parts[0].hit_columns},
        {name: np.concatenate([part.event_columns[name] for part in parts]) for name in parts[0].event_columns},
    )
