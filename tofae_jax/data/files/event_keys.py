"""Number events by several columns together, such as run and event, and notice where one column is not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.hit_rows import event_numbers

FILE = "file"
"""column with the number of the file, where several are read as one"""
CHECKED_PREFIX = "\0"
"""before the names of columns that are read to be checked alone; no column of a file begins so"""
RUN_NAMES = frozenset(
    f"{stem}{end}"
    for stem in ("run", "subrun", "lumi", "lumisection", "luminosityblock", "lumiblock", "ls", "spill", "file", "fill")
    for end in ("", "number", "_number", "_no", "no", "id", "_id", "nr", "_nr")
)
"""names, in lower case, of columns within which event numbers often begin anew"""


class KeyCounter:
    """Count events whose key, the values of several columns together, differs from that of the event before."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._last: tuple[int, ...] | None = None
        self._number = -1
        self._latest: dict[tuple[int, ...], int] = {}

    def numbers(
        self, columns: Sequence[np.ndarray], place: Callable[[int], str], *, is_row_event: bool = False
    ) -> np.ndarray:
        """Return the number of the event of each row, int64[n_rows], which goes on from the rows before.

        Args:
            columns: of the key, each [n_rows].
            place: returns the place of a row in the file, for errors.
            is_row_event: whether each row is an event; else rows that follow each other with one key are one.

        Raises:
            DataError: a number is not whole, or the last column falls or repeats while the others are the same.
        """
        keys = np.stack([event_numbers(values, place) for values in columns], axis=1)
        if not len(keys):
            return np.zeros(0, np.int64)
        is_new = np.ones(len(keys), bool)
        if not is_row_event:
            is_new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
            is_new[0] = self._last is None or tuple(keys[0].tolist()) != self._last
        for row in np.flatnonzero(is_new):
            *first, last = keys[row].tolist()
            before = self._latest.get(tuple(first))
            if before is not None and last <= before:
                shown = ", ".join(f"{name} {value}" for name, value in zip(self._names, keys[row], strict=True))
                raise DataError(
                    f"{place(int(row))}: {shown} comes after {self._names[-1]} {before} of the same "
                    f"{' and '.join(self._names[:-1])}; sort the rows"
                )
            self._latest[tuple(first)] = last
        numbers = self._number + np.cumsum(is_new)
        self._number, self._last = int(numbers[-1]), tuple(keys[-1].tolist())
        return numbers


def run_columns(names: Iterable[str]) -> list[str]:
    """Return the columns within which event numbers may begin anew, by their names."""
    return [name for name in names if name.lower().rstrip("_") in RUN_NAMES]


def hint_for(runs: Sequence[str], event: str) -> str:
    """Return the option that numbers events within runs; empty where there is no column for it."""
    return f"; where events are numbered anew in each {runs[0]}: --columns.event {runs[0]},{event}" if runs else ""


def within_one_run(chunks: Iterable[Events], runs: Mapping[str, str], event: str) -> Iterator[Events]:
    """Check that no event has hits of two runs, which then only have the same number.

    Args:
        chunks: events.
        runs: hit columns that are the same for all hits of an event, and their names in the file.
        event: name of the column that numbers the events.

    Returns:
        The events, without the columns that begin with `CHECKED_PREFIX`.
    """
    for events in chunks:
        for column, name in runs.items():
            values = events.hit_columns.get(column)
            if values is None:
                continue
            differs = values != np.repeat(
                values[events.offsets[:-1][events.counts > 0]], events.counts[events.counts > 0]
            )
            if differs.any():
                place = int(np.searchsorted(events.offsets, int(differs.argmax()), side="right")) - 1
                number = events.event_columns["event"][place]
                found = np.unique(values[events.offsets[place] : events.offsets[place + 1]])[:2]
                raise DataError(
                    f"event {number} has hits of {one_line(name)} {found[0]} and {found[1]}{hint_for([name], event)}"
                )
        kept = {name: values for name, values in events.hit_columns.items() if not name.startswith(CHECKED_PREFIX)}
        yield events._replace(hit_columns=kept)
