"""Read events from tables whose columns have names, in either of two layouts.

- Lists: one row per event, whose columns `x, y, t` hold lists. Further columns of lists are hit columns, further
  columns of numbers are event columns. A column `event` holds the events' numbers; without it the rows are counted.
  Lists called `track.NAME` are track columns, whose lengths may differ from those of the hits.
- Flat: one row per hit, with the columns `event, x, y, t`; further columns are hit columns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, event_of_hit, offsets_from_counts, select_hits, slice_events
from tofae_jax.data.files.column_types import EVENT_NUMBERS, EVENT_PREFIX, TRACK_PREFIX
from tofae_jax.data.files.event_columns import once_per_event, without_prefix
from tofae_jax.data.files.file_errors import library_errors, listing
from tofae_jax.data.files.hit_rows import (
    HIT_LIST_COLUMNS,
    HitBlock,
    checked_block,
    complete_events,
    event_numbers,
)
from tofae_jax.data.files.units import AxisOrigin, Tally, Units, in_pixels

T = TypeVar("T")


class Column(NamedTuple):
    """Type of a column of a file."""

    dtype: np.dtype | None
    """of its numbers; None: not numbers, or of an unsupported kind"""
    is_list: bool
    """whether each row holds a list instead of one number"""
    shown: str
    """its type in the terms of the file, for messages"""


class Lists(NamedTuple):
    """A list per row."""

    counts: np.ndarray
    """int64[n_rows]: their lengths"""
    values: np.ndarray
    """all their values, one list after the other"""


class SeveralTables(DataError):
    """A file has several tables, and none was chosen."""

    def __init__(self, what: str, names: str) -> None:
        """Make the error: `what` the tables are and how many, and their `names`."""
        super().__init__(f"{what}; choose one with --tree: {names}")
        self.names = names


Rows = Mapping[str, "np.ndarray | Lists"]


class Table(NamedTuple):
    """A table in a file."""

    name: str
    """its name in messages, e.g. `tree hits`; may be empty"""
    columns: Mapping[str, Column]
    read: Callable[[Sequence[str]], Generator[Rows, None, None]]
    """yields blocks of rows of the named columns, in order"""


class HitRules(NamedTuple):
    """Bounds and units of the hits of a file, and the names of its columns."""

    detector: Detector
    names: Mapping[str, str]
    """names that `event, x, y, t` have in the file; an empty name of `event` counts the rows instead"""
    further: Sequence[str] | None
    """further columns to read; None: all that hold numbers"""
    units: Units
    origin: AxisOrigin
    tally: Tally


def guarded(rows: Iterator[T]) -> Iterator[T]:
    """Yield `rows`, which a library reads; its errors become `DataError`, those of the caller do not."""
    nothing: Any = object()
    while True:
        with library_errors():
            found = next(rows, nothing)
        if found is nothing:
            return
        yield found


def table_events(table: Table, rules: HitRules, *, chunk_hits: int) -> Iterator[Events]:
    """Yield the events of a table, in chunks of at most `chunk_hits` hits, or of one event with more."""
    names = _column_names(table, rules)
    with closing(table.read(list(names.values()))) as rows:  # close the file after an error too
        renamed = (_renamed(row, names, table) for row in guarded(rows))
        if table.columns[rules.names["x"]].is_list:
            for events in _list_events(table, renamed, rules):
                yield from pieces(events, chunk_hits=chunk_hits)
        else:
            yield from once_per_event(complete_events(_flat_blocks(table, renamed, rules), chunk_hits=chunk_hits))


def _renamed(rows: Rows, names: Mapping[str, str], table: Table) -> Rows:
    for name, column in names.items():
        values = rows[column]
        found = (values.values if isinstance(values, Lists) else values).dtype
        expected = table.columns[column].dtype
        # Missing integers are read as NaN. In `event, x, y, t` a later check finds them.
        if name not in HIT_LIST_COLUMNS and expected is not None and found != expected.newbyteorder("="):
            raise DataError(f"column {one_line(column)} lacks values, which a column of {expected} cannot; fill them")
    return {name: rows[column] for name, column in names.items()}


def event_cuts(offsets: np.ndarray, *, chunk_hits: int) -> list[int]:
    """Return where to cut events with these offsets into pieces of at most `chunk_hits` hits, or of one event."""
    cuts = [0]
    while cuts[-1] < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[cuts[-1]] + chunk_hits, side="right")) - 1
        cuts.append(max(last, cuts[-1] + 1))
    return cuts


def pieces(events: Events, *, chunk_hits: int) -> Iterator[Events]:
    """Cut events into pieces of at most `chunk_hits` hits, or of one event with more."""
    for start, stop in pairwise(event_cuts(events.offsets, chunk_hits=chunk_hits)):
        yield slice_events(events, start, stop)


def _column_names(table: Table, rules: HitRules) -> dict[str, str]:
    """Return the names in the file of all columns to read, by their names in `Events`; `DataError` for wrong types."""
    where = f"{table.name}: " if table.name else ""
    needed = {name: rules.names[name] for name in HIT_LIST_COLUMNS}
    is_list = _is_list_layout(table, needed, where)
    if is_list and needed["event"] in ("", "event") and needed["event"] not in table.columns:
        del needed["event"]
    for name, column in needed.items():
        found = _column(table, column, where, f" for {name}" if column != name else "")
        if found.dtype is None or found.dtype.kind not in "iuf":
            raise DataError(f"{where}column {column} is of type {one_line(found.shown)}; integers or floats expected")
        if found.is_list and name == "event":
            raise DataError(
                f"{where}column {column} has a list per row, x, y and t too; one event number per row expected"
            )
    return {**needed, **_further(table, rules, set(needed.values()), is_list, where)}


def _is_list_layout(table: Table, needed: Mapping[str, str], where: str) -> bool:
    found = {name: _column(table, needed[name], where, f" for {name}" * (needed[name] != name)) for name in "xyt"}
    is_list = {name: column.is_list for name, column in found.items()}
    if len(set(is_list.values())) > 1:
        kinds = ", ".join(f"{needed[name]} {one_line(column.shown)}" for name, column in found.items())
        raise DataError(
            f"{where}x, y and t have to be lists, one row per event, or all numbers, one row per hit: {kinds}"
        )
    return is_list["x"]


def _column(table: Table, name: str, where: str, use: str = "") -> Column:
    if name not in table.columns:
        shown = listing(list(table.columns)) or "none"
        raise DataError(f"{where}no column {name!r}{use}; it has {shown} (--columns gives other names)")
    return table.columns[name]


def _further(table: Table, rules: HitRules, used: set[str], is_list: bool, where: str) -> dict[str, str]:
    """Return the names of the columns besides `event, x, y, t`, by their names in `Events`."""

    def can_be_read(column: Column) -> bool:
        return column.dtype is not None and column.dtype.kind in "biuf" and (is_list or not column.is_list)

    if rules.further is None:
        chosen = [name for name, column in table.columns.items() if can_be_read(column)]
    else:
        chosen = list(rules.further)
        for name in chosen:
            if not can_be_read(column := _column(table, name, where)):
                raise DataError(f"{where}column {name} is of type {one_line(column.shown)}; numbers expected")
    further = {}
    for name in chosen:
        is_per_event = is_list and not table.columns[name].is_list
        # The name x is taken where --columns.x names another column.
        is_taken = name in HIT_LIST_COLUMNS or (is_per_event and name == EVENT_NUMBERS)
        if name not in used and not is_taken:
            further[name] = name
    return further


def _place(table: Table, first: int, row: int) -> str:
    return f"{table.name}{', ' * bool(table.name)}row {first + row} (the first is 0)"


# One row per hit


def _flat_blocks(table: Table, rows: Iterator[Rows], rules: HitRules) -> Iterator[HitBlock]:
    first = after = 0
    for block in rows:
        columns = {name: values for name, values in block.items() if isinstance(values, np.ndarray)}
        place = partial(_place, table, first)
        n_rows = len(columns["event"])
        first += n_rows
        rules.tally.n_hits += n_rows
        if rules.units == "physical":
            columns, is_inside = in_pixels(columns, detector=rules.detector, origin=rules.origin)
            rules.tally.n_outside += n_rows - len(columns["x"])
            place = partial(_place_of_kept, place, is_inside)
        if len(columns["x"]):
            found = checked_block(columns, detector=rules.detector, after=after, place=place)
            after = int(found.event[-1])
            yield found


def _place_of_kept(place: Callable[[int], str], is_kept: np.ndarray, row: int) -> str:
    return place(int(np.flatnonzero(is_kept)[row]))


# One row per event


def _list_events(table: Table, rows: Iterator[Rows], rules: HitRules) -> Iterator[Events]:
    first = 0
    last_event = -1
    for block in rows:
        place = partial(_place, table, first)
        lists = {name: column for name, column in block.items() if isinstance(column, Lists)}
        tracks = {name: lists.pop(name) for name in list(lists) if name.startswith(TRACK_PREFIX)}
        offsets = _offsets(lists, rules, place)
        n_rows = len(offsets) - 1
        if not n_rows:
            continue
        numbers = {name: column for name, column in block.items() if isinstance(column, np.ndarray)}
        event = _event_numbers(numbers.pop("event", np.arange(first, first + n_rows)), last_event, place)
        last_event = int(event[-1])
        first += n_rows
        events = Events(
            np.zeros((int(offsets[-1]), 3), np.int16),
            offsets,
            {},
            {"event": event, **without_prefix(numbers, EVENT_PREFIX)},
            _offsets(tracks, rules, place) if tracks else None,
            without_prefix({name: column.values for name, column in tracks.items()}, TRACK_PREFIX),
        )
        yield _with_hits(events, {name: column.values for name, column in lists.items()}, rules, place)


def _offsets(lists: Mapping[str, Lists], rules: HitRules, place: Callable[[int], str]) -> np.ndarray:
    """Return the offsets of the lists, which must have the same lengths in all columns."""
    names = {name: rules.names.get(name, name) for name in lists}
    (reference, first), *others = lists.items()
    for name, column in others:
        differs = column.counts != first.counts
        if differs.any():
            row = int(differs.argmax())
            hint = "" if name in HIT_LIST_COLUMNS else "; --columns.further names the columns to read, or none"
            raise DataError(
                f"{place(row)}: {names[name]} has {column.counts[row]} values, "
                f"{names[reference]} has {first.counts[row]}; lists of equal length expected{hint}"
            )
    return offsets_from_counts(first.counts)


def _event_numbers(numbers: np.ndarray, last_event: int, place: Callable[[int], str]) -> np.ndarray:
    numbers = event_numbers(numbers, place)
    before = np.concatenate([[last_event], numbers[:-1]])
    falls = numbers <= before
    if falls.any():
        row = int(falls.argmax())
        raise DataError(
            f"{place(row)}: event {numbers[row]} comes after event {before[row]}; numbers that rise expected "
            f"(--columns.event '' counts the rows instead)"
        )
    return numbers


def _with_hits(
    events: Events, columns: Mapping[str, np.ndarray], rules: HitRules, place: Callable[[int], str]
) -> Events:
    """Check the hits and put them into the events; in physical units drop those outside the detector."""
    rules.tally.n_hits += events.n_hits
    if rules.units == "physical":
        n_before = events.n_hits
        columns, is_inside = in_pixels(columns, detector=rules.detector, origin=rules.origin)
        events = select_hits(events, is_inside)
        rules.tally.n_outside += n_before - events.n_hits
    numbers = events.event_columns["event"][event_of_hit(events)]

    def place_of_hit(hit: int) -> str:
        row = int(np.searchsorted(events.offsets, hit, side="right")) - 1
        return f"{place(row)}, value {hit - int(events.offsets[row])}"

    block = checked_block({"event": numbers, **columns}, detector=rules.detector, after=0, place=place_of_hit)
    return events._replace(hits=block.hits, hit_columns=block.columns)
