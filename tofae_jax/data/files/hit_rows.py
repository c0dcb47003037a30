"""Check rows of hit lists, `event, x, y, t` and further columns, and join them into complete events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.limits import Limits

HIT_LIST_COLUMNS = ("event", "x", "y", "t")
"""columns of every hit list: number of the event, then the hit"""
ROWS_PER_BLOCK = 131_072
"""rows that are read at once; more is no faster"""
MAX_EVENT = 2**63 - 1
"""largest event number"""
MAX_EXACT_FLOAT = 2**53
"""above it float64 skips whole numbers"""
_LIMITS = Limits()


def largest_event(dtype: np.dtype) -> int:
    """Return the largest event number that a column of this type can hold without being another one, rounded."""
    return min(MAX_EVENT, 2 ** (np.finfo(dtype).nmant + 1) - 1) if dtype.kind == "f" else MAX_EVENT


def event_numbers(values: np.ndarray, place: Callable[[int], str]) -> np.ndarray:
    """Check event numbers and return them as int64.

    Args:
        values: integers or floats [n_rows].
        place: returns the place of a row in the file, for errors.

    Raises:
        DataError: a number is not whole, negative or too large; or its float type cannot tell it from its neighbours.
    """
    largest = largest_event(values.dtype)
    bad = not_whole(values, 0, largest)
    if bad.any():
        row = int(bad.argmax())
        is_rounded = values.dtype.kind == "f" and bool(values[row] > largest)
        hint = f"; {values.dtype} cannot tell numbers above that apart, store integers" if is_rounded else ""
        shown = f"{values[row]:.0f}" if is_rounded else values[row]
        raise DataError(f"{place(row)}: event = {shown}; whole numbers from 0 to {largest} allowed{hint}")
    return values.astype(np.int64)


class HitBlock(NamedTuple):
    """Rows of a hit list; the first and the last event may be incomplete."""

    event: np.ndarray
    """int64[n_rows], non-decreasing: number of the event of each row"""
    hits: np.ndarray
    """int16[n_rows, 3]: x, y, t"""
    columns: Mapping[str, np.ndarray]
    """by name, [n_rows]: all further columns"""


def not_whole(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return where `values` are anything but whole numbers from `low` to `high`: bool of the same shape."""
    if values.dtype.kind != "f":
        return (values < low) | (values > high)
    # Written so that NaN, for which every comparison is false, counts as bad, without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        values = values.astype(np.float64, copy=False)  # in float16 32768 would pass as 32767
        return ~((values >= low) & (values <= min(high, MAX_EXACT_FLOAT)) & (values == np.trunc(values)))


def checked_block(
    columns: Mapping[str, np.ndarray], *, detector: Detector, after: int, place: Callable[[int], str], hint: str = ""
) -> HitBlock:
    """Check that rows are whole numbers within the detector and in order.

    Args:
        columns: by name, [n_rows].
        detector: bounds of the hits.
        after: event number of the row before, 0 at the start.
        place: returns the place of a row in the file, for errors.
        hint: what may help where event numbers fall.
    """
    n_x, n_y, n_t = detector.shape
    event = event_numbers(columns["event"], place)
    highest = {"x": n_x - 1, "y": n_y - 1, "t": n_t}
    lowest = {"x": 0, "y": 0, "t": 1}
    for name in "xyt":
        bad = not_whole(columns[name], lowest[name], highest[name])
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"{place(row)}: {name} = {columns[name][row]}; "
                f"whole numbers from {lowest[name]} to {highest[name]} allowed"
            )
    falls = event < np.concatenate([[after], event[:-1]])
    if falls.any():
        row = int(falls.argmax())
        before = event[row - 1] if row else after
        raise DataError(f"{place(row)}: event {event[row]} comes after event {before}; sort the rows by event{hint}")
    hits = np.empty((len(event), 3), np.int16)
    for axis, name in enumerate("xyt"):
        hits[:, axis] = columns[name]
    others = {name: native(values) for name, values in columns.items() if name not in HIT_LIST_COLUMNS}
    return HitBlock(event, hits, others)


def native(values: np.ndarray) -> np.ndarray:
    """Return numbers in the byte order of this machine, without what a library noted on their type, such as an enum."""
    dtype = np.dtype(values.dtype.str).newbyteorder("=")
    return values.astype(dtype, copy=False).view(dtype)


def complete_events(blocks: Iterable[HitBlock], *, chunk_hits: int, limits: Limits = _LIMITS) -> Iterator[Events]:
    """Yield chunks of complete events with at most `chunk_hits` rows, or of one event that has more."""
    waiting: list[HitBlock] = []
    n_waiting = 0
    for block in blocks:
        waiting.append(block)
        n_waiting += len(block.event)
        if waiting[0].event[0] == block.event[-1]:
            limits.check_hits(n_waiting, f"event {block.event[-1]}")
        # The last event may continue in the next block. While it is the only one, no event is complete, and joining the
        # blocks each time would take quadratic time.
        if n_waiting < chunk_hits or waiting[0].event[0] == block.event[-1]:
            continue
        joined = _joined(waiting)
        cuts = _cuts(_starts(joined.event), chunk_hits)
        complete = cuts[:-1] or cuts  # the last chunk may have room for more events
        yield from _chunks(joined, complete, limits)
        rest = _rows(joined, slice(complete[-1], None))
        waiting = [_rows(rest, np.arange(len(rest.event)))]  # a copy, to free the events that were yielded
        n_waiting = len(rest.event)
    if waiting:
        joined = _joined(waiting)
        yield from _chunks(joined, _cuts(np.append(_starts(joined.event), len(joined.event)), chunk_hits), limits)


def _starts(event: np.ndarray) -> np.ndarray:
    """Return the first row of each event."""
    return np.flatnonzero(np.diff(event, prepend=-1))  # event numbers are never negative


def _cuts(bounds: np.ndarray, chunk_hits: int) -> list[int]:
    """Return where chunks end that are as large as allowed; `bounds` are the rows where events begin or end."""
    cuts = [0]
    while cuts[-1] < bounds[-1]:
        last = int(np.searchsorted(bounds, cuts[-1] + chunk_hits, side="right")) - 1
        cuts.append(int(bounds[last] if bounds[last] > cuts[-1] else bounds[last + 1]))
    return cuts[1:]


def _chunks(block: HitBlock, cuts: list[int], limits: Limits) -> Iterator[Events]:
    for start, stop in pairwise([0, *cuts]):
        event, hits, columns = _rows(block, slice(start, stop))
        starts = _starts(event)
        offsets = np.append(starts, len(event)).astype(np.int64)
        largest = int(np.diff(offsets).argmax())
        limits.check_hits(int(offsets[largest + 1] - offsets[largest]), f"event {event[starts[largest]]}")
        yield Events(hits, offsets, columns, {"event": event[starts]})


def _rows(block: HitBlock, rows: slice | np.ndarray) -> HitBlock:
    return HitBlock(block.event[rows], block.hits[rows], {name: v[rows] for name, v in block.columns.items()})


def _joined(blocks: list[HitBlock]) -> HitBlock:
    if len(blocks) == 1:
        return blocks[0]
    return HitBlock(
        np.concatenate([block.event for block in blocks]),
        np.concatenate([block.hits for block in blocks]),
        {name: np.concatenate([block.columns[name] for block in blocks]) for name in blocks[0].columns},
    )
