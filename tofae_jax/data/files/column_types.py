"""Names and types of the columns of a hit file that is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.layout import EVENT_PREFIX, KEY_PREFIX, OWN_PREFIX, TRACK_PREFIX, Layout, OutputRows

_TAKEN = {"hit": {"event", *"xyt"}, "event": set(), "track": {"event"}}
_RESERVED = {"hit": OWN_PREFIX, "event": KEY_PREFIX, "track": OWN_PREFIX}


class ColumnNameError(ValueError):
    """A column has a name that cannot be written."""


@contextmanager
def naming_source(source: str | Path) -> Iterator[None]:
    """Turn a `ColumnNameError` into a `DataError` of the source that has the column."""
    try:
        yield
    except ColumnNameError as error:
        raise DataError(f"{source}: {error}; --columns.further names the columns to read, or none") from None


class ColumnTypes(NamedTuple):
    """Names and types of the columns of a file, in the order in which they are written."""

    hit: Mapping[str, np.dtype]
    """of a row per hit, where there is one, all columns"""
    event: Mapping[str, np.dtype]
    """empty where there is a row per hit"""
    track: Mapping[str, np.dtype] | None
    """None: tracks are unknown"""
    layout: Layout = Layout()


def types_of_rows(rows: OutputRows, layout: Layout) -> ColumnTypes:
    """Return the names and types of the columns as a file has them."""
    tracks = None if rows.track_offsets is None else _dtypes(rows.track)
    return ColumnTypes(_dtypes(rows.hit), _dtypes(rows.event), tracks, layout)


def empty_events(columns: Mapping[str, DTypeLike]) -> Events:
    """Return no events, with these hit columns."""
    types = {name: np.dtype(dtype) for name, dtype in columns.items()}
    empty = {name: np.zeros(0, dtype) for name, dtype in types.items()}
    return Events(np.zeros((0, 3), np.int16), np.zeros(1, np.int64), empty, {"event": np.zeros(0, np.int64)})


def _dtypes(columns: Mapping[str, np.ndarray]) -> dict[str, np.dtype]:
    return {name: values.dtype.newbyteorder("=") for name, values in columns.items()}


def check_columns(events: Events) -> None:
    """Check that the columns of events can be written.

    Raises:
        ValueError: a name or a type that no file can have.
    """
    for kind, columns in (
        ("hit", events.hit_columns),
        ("event", events.event_columns),
        ("track", events.track_columns),
    ):
        for name, values in columns.items():
            if (kind, name) != ("event", "event"):
                _check_column(kind, name, values.dtype)


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
    is_reserved = name.startswith(_RESERVED[kind])
    name = name.removeprefix(_RESERVED[kind])
    is_odd = not name.isprintable() or name != name.strip() or not name.strip(".") or "/" in name
    if (name in _TAKEN[kind] and not is_reserved) or is_odd or name.startswith((EVENT_PREFIX, TRACK_PREFIX)):
        raise ColumnNameError(f"{kind} column {name!r} cannot be written under this name")
    if dtype.kind not in "biuf" or dtype.itemsize > np.dtype(np.float64).itemsize:
        raise ValueError(f"{kind} column {name!r} is of type {dtype}; bool, integer and float can be written")


def listed(types: Mapping[str, np.dtype] | None) -> str:
    """Return the names and types of the columns besides `event, x, y, t`, for messages."""
    known = {name: dtype for name, dtype in (types or {}).items() if name not in ("event", *"xyt")}
    return ", ".join(f"{name} {dtype}" for name, dtype in known.items()) or "none"
