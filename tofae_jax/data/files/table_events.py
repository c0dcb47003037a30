"""Read events from tables whose columns have names, in either of two layouts.

- Lists: one row per event, whose columns `x, y, t` hold lists. Further columns of lists are hit columns, further
  columns of numbers are event columns. A column `event` holds the events' numbers; without it the rows are counted.
  Lists called `track.NAME` are track columns, whose lengths may differ from those of the hits.
- Flat: one row per hit, with the columns `event, x, y, t`; further columns are hit columns.

Several columns can number the events together, see `event_keys`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import pairwise

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, event_of_hit, offsets_from_counts, select_hits, slice_events
from tofae_jax.data.files.column_choice import choose_columns
from tofae_jax.data.files.event_columns import once_per_event, without_prefix
from tofae_jax.data.files.event_keys import CHECKED_PREFIX, KeyCounter, hint_for, run_columns, within_one_run
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS, HitBlock, checked_block, complete_events, event_numbers
from tofae_jax.data.files.layout import EVENT_PREFIX, KEY_PREFIX, OWN_PREFIX, TRACK_PREFIX
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.tables import HitRules, Lists, Rows, Table, guarded
from tofae_jax.data.files.units import in_pixels

_LIMITS = Limits()


def table_events(table: Table, rules: HitRules, *, chunk_hits: int, limits: Limits = _LIMITS) -> Iterator[Events]:
    """Yield the events of a table, in chunks that fit in memory of at most `chunk_hits` hits, or of one event."""
    names, rules.reading.layout = choose_columns(table, rules)
    runs: dict[str, str] = {}
    if not rules.reading.layout.is_list:  # where a row is an event, its number has to rise anyway
        runs = _runs(table, names, rules)
        names |= runs
    n_bytes = sum(found.itemsize for name in names.values() if (found := table.columns[name].dtype) is not None)
    chunk_hits = limits.rows_at_once(chunk_hits, n_bytes, "the table")
    with closing(table.read(list(dict.fromkeys(names.values())))) as rows:  # close the file after an error too
        renamed = (_renamed(row, names, table) for row in guarded(rows))
        if rules.reading.layout.is_list:
            for events in _list_events(table, renamed, rules, limits):
                yield from pieces(events, chunk_hits=chunk_hits)
        else:
            found = once_per_event(
                complete_events(_flat_blocks(table, renamed, rules), chunk_hits=chunk_hits, limits=limits)
            )
            yield from within_one_run(found, runs, ",".join(rules.keys))


def _runs(table: Table, names: Mapping[str, str], rules: HitRules) -> dict[str, str]:
    """Return the columns of runs, by their names in `Events`; those that were not chosen are only checked."""
    chosen = {column: name for name, column in names.items()}
    runs = {chosen.get(column, f"{CHECKED_PREFIX}{column}"): column for column in run_columns(table.columns)}
    return {
        name: column
        for name, column in runs.items()
        if column not in rules.keys and (found := table.columns[column]).dtype is not None and found.problem is None
    }


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


def _place(table: Table, first: int, row: int) -> str:
    if table.place is not None:
        return table.place(first + row)
    return f"{table.name}{', ' * bool(table.name)}row {first + row} (the first is 0)"


def _keys(columns: dict[str, np.ndarray], rules: HitRules) -> list[np.ndarray]:
    return [columns[f"{KEY_PREFIX}{name}"] for name in rules.keys]


def _pixels(columns: Mapping[str, np.ndarray], rules: HitRules) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns with hits in pixels, without those outside the detector, and which are inside."""
    if rules.units == "pixels":
        return dict(columns), np.ones(len(columns["x"]), bool)
    own = {f"{OWN_PREFIX}{name}": columns[name] for name in "xyt"} if rules.keeps_own else {}
    return in_pixels({**columns, **own}, detector=rules.detector, origin=rules.origin)


# One row per hit


def _flat_blocks(table: Table, rows: Iterator[Rows], rules: HitRules) -> Iterator[HitBlock]:
    first = after = 0
    counter = KeyCounter(rules.keys)
    hint = hint_for(run_columns(name for name in table.columns if name not in rules.keys), ",".join(rules.keys))
    tally = rules.reading.tally
    for block in rows:
        columns = {name: values for name, values in block.items() if isinstance(values, np.ndarray)}
        place = partial(_place, table, first)
        if len(rules.keys) > 1:
            columns["event"] = counter.numbers(_keys(columns, rules), place)
        n_rows = len(columns["event"])
        first += n_rows
        tally.n_hits += n_rows
        columns, is_inside = _pixels(columns, rules)
        tally.n_outside += n_rows - len(columns["x"])
        if not is_inside.all():
            place = partial(_place_of_kept, place, is_inside)
        if len(columns["x"]):
            found = checked_block(columns, detector=rules.detector, after=after, place=place, hint=hint)
            after = int(found.event[-1])
            yield found


def _place_of_kept(place: Callable[[int], str], is_kept: np.ndarray, row: int) -> str:
    return place(int(np.flatnonzero(is_kept)[row]))


# One row per event


def _list_events(table: Table, rows: Iterator[Rows], rules: HitRules, limits: Limits) -> Iterator[Events]:
    first = 0
    last_event = -1
    counter = KeyCounter(rules.keys)
    hint = hint_for(run_columns(name for name in table.columns if name not in rules.keys), ",".join(rules.keys))
    for block in rows:
        place = partial(_place, table, first)
        lists = {name: column for name, column in block.items() if isinstance(column, Lists)}
        tracks = {name: lists.pop(name) for name in list(lists) if name.startswith(TRACK_PREFIX)}
        offsets = _offsets(lists, rules, place)
        n_rows = len(offsets) - 1
        if not n_rows:
            continue
        largest = int(np.diff(offsets).argmax())
        limits.check_hits(int(offsets[largest + 1] - offsets[largest]), place(largest))
        of_tracks = _offsets(tracks, rules, place) if tracks else None
        numbers = {name: column for name, column in block.items() if isinstance(column, np.ndarray)}
        if len(rules.keys) > 1:
            event = counter.numbers(_keys(numbers, rules), place, is_row_event=True)
        else:
            event = _event_numbers(numbers.pop("event", np.arange(first, first + n_rows)), last_event, place, hint)
        last_event = int(event[-1])
        first += n_rows
        events = Events(
            np.zeros((int(offsets[-1]), 3), np.int16),
            offsets,
            {},
            {"event": event, **without_prefix(numbers, EVENT_PREFIX)},
            of_tracks,
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


def _event_numbers(numbers: np.ndarray, last_event: int, place: Callable[[int], str], hint: str) -> np.ndarray:
    numbers = event_numbers(numbers, place)
    before = np.concatenate([[last_event], numbers[:-1]])
    falls = numbers <= before
    if falls.any():
        row = int(falls.argmax())
        raise DataError(
            f"{place(row)}: event {numbers[row]} comes after event {before[row]}; numbers that rise expected "
            f"(--columns.event '' counts the rows instead){hint}"
        )
    return numbers


def _with_hits(
    events: Events, columns: Mapping[str, np.ndarray], rules: HitRules, place: Callable[[int], str]
) -> Events:
    """Check the hits and put them into the events; in physical units drop those outside the detector."""
    rules.reading.tally.n_hits += events.n_hits
    n_before = events.n_hits
    columns, is_inside = _pixels(columns, rules)
    if not is_inside.all():
        events = select_hits(events, is_inside)
        rules.reading.tally.n_outside += n_before - events.n_hits
    numbers = events.event_columns["event"][event_of_hit(events)]

    def place_of_hit(hit: int) -> str:
        row = int(np.searchsorted(events.offsets, hit, side="right")) - 1
        return f"{place(row)}, value {hit - int(events.offsets[row])}"

    block = checked_block({"event": numbers, **columns}, detector=rules.detector, after=0, place=place_of_hit)
    return events._replace(hits=block.hits, hit_columns=block.columns)
