"""Names, types and order of the columns of a file, so that an output can have those of its input.

Within `Events` an event has one number, in the event column `event`, and a hit is whole numbers. What the file had
besides is kept in columns of reserved names: a hit column `own.x` (`y`, `t`) with the values in mm or ns, and event
columns `key.NAME` where several columns number the events together, such as `run` and `event`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tofae_jax.data.events import Events, event_of_hit

OWN_PREFIX = "own."
"""before x, y, t: hit columns with the values that the file has"""
KEY_PREFIX = "key."
"""before the name of each of several columns that number the events together"""
EVENT_PREFIX = "event."
"""before the name of an event column, where hit columns could have the same name"""
TRACK_PREFIX = "track."
"""before the name of a track column, always"""
EVENT_NUMBERS = EVENT_PREFIX + "event"
TRACK_EVENTS = TRACK_PREFIX + "event"


class Layout(NamedTuple):
    """How a file lays out its events."""

    names: Mapping[str, str] = {}
    """names in the file of the columns of `Events`, where they differ; an empty one of `event`: it has none"""
    types: Mapping[str, np.dtype] = {}
    """types in the file of `event, x, y, t`"""
    order: Sequence[str] = ()
    """names in the file of all its columns, in order"""
    is_list: bool | None = None
    """whether it has one row per event, with lists of hits, or one row per hit; None: as the format likes best"""
    table: str = ""
    """name of the tree or group; empty: the format's own"""
    delimiter: str = ","
    """between the columns of text"""
    decimal: str = "."
    """between whole numbers and fractions in text"""


Arrangement = Literal["lists", "rows", "arrays"]
"""one row per event, with lists of hits; one row per hit; or one row per hit beside arrays of events and tracks"""


class OutputRows(NamedTuple):
    """Events under the names that their columns have in a file."""

    offsets: np.ndarray
    """int64[n_events + 1]: event `i` owns the rows `offsets[i]:offsets[i + 1]` of `hit`"""
    hit: dict[str, np.ndarray]
    """columns of hits; where there is one row per hit, the columns of events too, repeated"""
    event: dict[str, np.ndarray]
    """columns of events; empty where they are only repeated"""
    track_offsets: np.ndarray | None = None
    track: dict[str, np.ndarray] = {}

    @property
    def n_hits(self) -> int:
        """Number of hits of all events."""
        return int(self.offsets[-1])

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1


def keys_of(events: Events) -> list[str]:
    """Return the names of the event columns that number the events together; none where `event` does."""
    return [name for name in events.event_columns if name.startswith(KEY_PREFIX)]


def output_rows(events: Events, layout: Layout, arrangement: Arrangement) -> OutputRows:
    """Name the columns of events as a file has them.

    Args:
        events: with event numbers.
        layout: of the file.
        arrangement: of its rows.

    Returns:
        All columns in the layout's order, those that it does not have last.

    Raises:
        ValueError: two columns would have the same name.
    """
    hit: dict[str, np.ndarray] = {}
    own = {name.removeprefix(OWN_PREFIX): v for name, v in events.hit_columns.items() if name.startswith(OWN_PREFIX)}
    for name, values in (*zip("xyt", events.hits.T, strict=True), *events.hit_columns.items()):
        if not name.startswith(OWN_PREFIX):
            _put(hit, layout.names.get(name, name), own.get(name, _typed(values, layout.types.get(name))))
    numbers, others = _numbering(events, layout), _other_columns(events)
    track = {f"{TRACK_PREFIX}{name}": values for name, values in events.track_columns.items()}
    if arrangement == "lists":
        event = {} if layout.names.get("event") == "" and not keys_of(events) else numbers
        for name, values in others.items():
            is_taken = name in hit or name in event
            _put(event, f"{EVENT_PREFIX}{name}" if is_taken else layout.names.get(name, name), values)
    else:
        place = event_of_hit(events)
        event = {f"{EVENT_PREFIX}{name}": values for name, values in others.items()}
        hit = _joined({name: values[place] for name, values in numbers.items()}, hit)
        if arrangement == "rows" or keys_of(events):
            hit, event = _joined(hit, {name: values[place] for name, values in event.items()}), {}
        else:
            event = {EVENT_NUMBERS: events.event_columns["event"], **event}
    if arrangement == "arrays" and events.track_offsets is not None:
        track[TRACK_EVENTS] = np.repeat(events.event_columns["event"], np.diff(events.track_offsets))
    _joined(_joined(hit, event), track)
    return OutputRows(
        events.offsets, _ordered(hit, layout.order), _ordered(event, layout.order), events.track_offsets, track
    )


def _numbering(events: Events, layout: Layout) -> dict[str, np.ndarray]:
    """Return the columns that number the events."""
    if keys := keys_of(events):
        return {name.removeprefix(KEY_PREFIX): events.event_columns[name] for name in keys}
    return {layout.names.get("event") or "event": _typed(events.event_columns["event"], layout.types.get("event"))}


def _other_columns(events: Events) -> dict[str, np.ndarray]:
    numbering = ("event", *keys_of(events))
    return {name: values for name, values in events.event_columns.items() if name not in numbering}


def _put(columns: dict[str, np.ndarray], name: str, values: np.ndarray) -> None:
    if name in columns:
        raise ValueError(f"two columns would be called {name!r}")
    columns[name] = values


def _joined(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if both := first.keys() & second.keys():
        raise ValueError(f"two columns would be called {sorted(both)[0]!r}")
    return {**first, **second}


def _typed(values: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    return values if dtype is None else values.astype(dtype, copy=False)


def _ordered(columns: dict[str, np.ndarray], order: Sequence[str]) -> dict[str, np.ndarray]:
    if not order:
        return columns
    place = {name: number for number, name in enumerate(order)}
    return {name: columns[name] for name in sorted(columns, key=lambda name: place.get(name, len(place)))}
