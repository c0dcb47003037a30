"""Names and types of the columns of a hit file that is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from tofae_jax.data.events import Events

EVENT_PREFIX = "event."
"""before the name of an event column, where hit columns could have the same name"""
TRACK_PREFIX = "track."
"""before the name of a track column, always"""
EVENT_NUMBERS = EVENT_PREFIX + "event"
TRACK_EVENTS = TRACK_PREFIX + "event"
HIT_TYPES = {name: np.dtype(np.int16) for name in "xyt"}
EVENT_TYPE = np.dtype(np.int64)
_TAKEN = {"hit": {"event", *HIT_TYPES}, "event": set(), "track": {"event"}}


class ColumnTypes(NamedTuple):
    """Types of the columns by name, in the order in which they are written."""

    hit: Mapping[str, np.dtype]
    """`x, y, t`, then the hit columns"""
    event: Mapping[str, np.dtype]
    """`event`, then the event columns"""
    track: Mapping[str, np.dtype] | None
    """the track columns; None: tracks are unknown"""

    def table_names(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Return the names of hit, event and track columns in a table that has all of them side by side."""
        events = {name: f"{EVENT_PREFIX}{name}" if name in self.hit else name for name in self.event}
        return (
            {name: name for name in self.hit},
            events,
            {name: f"{TRACK_PREFIX}{name}" for name in self.track or {}},
        )


def types_of(events: Events) -> ColumnTypes:
    """Return the types of the columns of `events`; ValueError for a column that cannot be written."""
    tracks = None if events.track_offsets is None else _dtypes(events.track_columns)
    return column_types(_dtypes(events.hit_columns), _dtypes(events.event_columns), tracks)


def _dtypes(columns: Mapping[str, np.ndarray]) -> dict[str, np.dtype]:
    return {name: values.dtype.newbyteorder("=") for name, values in columns.items()}


def column_types(
    hit: Mapping[str, DTypeLike], event: Mapping[str, DTypeLike], track: Mapping[str, DTypeLike] | None
) -> ColumnTypes:
    """Add `event, x, y, t` to the types of the other columns; ValueError for a column that cannot be written."""
    for kind, columns in (("hit", hit), ("event", event), ("track", track or {})):
        for name, dtype in columns.items():
            _check_column(kind, name, np.dtype(dtype))
    known = {name: np.dtype(kind) for name, kind in event.items() if name != "event"}
    return ColumnTypes(
        {**HIT_TYPES, **{name: np.dtype(kind) for name, kind in hit.items()}},
        {"event": EVENT_TYPE, **known},
        None if track is None else {name: np.dtype(kind) for name, kind in track.items()},
    )


def hit_values(events: Events) -> dict[str, np.ndarray]:
    """Return `x, y, t` and the hit columns by name, each [n_hits]."""
    return {**dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}


def only_writable(events: Events) -> Events:
    """Return the events without the columns that cannot be written: text, and more than one number per row."""

    def kept(columns: Mapping[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
        return {name: values for name, values in columns.items() if can_be_written(kind, name, values)}

    def can_be_written(kind: str, name: str, values: np.ndarray) -> bool:
        try:
            _check_column(kind, name, values.dtype)
        except ValueError:
            return False
        return values.ndim == 1

    return events._replace(
        hit_columns=kept(events.hit_columns, "hit"),
        event_columns=kept(events.event_columns, "event"),
        track_columns=kept(events.track_columns, "track"),
    )


def _check_column(kind: str, name: str, dtype: np.dtype) -> None:
    is_odd = not name.isprintable() or name != name.strip() or not name.strip(".") or "/" in name
    if name in _TAKEN[kind] or is_odd or name.startswith((EVENT_PREFIX, TRACK_PREFIX)):
        raise ValueError(f"{kind} column {name!r} cannot be written under this name")
    if dtype.kind not in "biuf" or dtype.itemsize > np.dtype(np.float64).itemsize:
        raise ValueError(f"{kind} column {name!r} is of type {dtype}; bool, integer and float can be written")


def listed(types: Mapping[str, np.dtype] | None) -> str:
    """Return the names and types of the columns besides `event, x, y, t`, for messages."""
    known = {name: dtype for name, dtype in (types or {}).items() if name not in ("event", *HIT_TYPES)}
    return ", ".join(f"{name} {dtype}" for name, dtype in known.items()) or "none"
