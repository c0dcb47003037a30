"""Hit lists as comma-separated text, read and written block by block.

A header names the columns: at least `event, x, y, t`, in any order. Event columns are repeated for each hit as
`event.NAME`. Tracks and events without hits cannot be written.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, event_of_hit
from tofae_jax.data.files.column_types import EVENT_PREFIX, ColumnTypes, hit_values
from tofae_jax.data.files.event_columns import once_per_event
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hit_rows import (
    HIT_LIST_COLUMNS,
    MAX_EXACT_FLOAT,
    ROWS_PER_BLOCK,
    HitBlock,
    checked_block,
    complete_events,
    not_whole,
)

_ENCODING = "utf-8-sig"  # with or without a byte order mark
_MAX_LINE = 8192  # characters; a file without line ends must not fill the memory
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_ROWS_PER_WRITE = 8192  # more is no faster


def _read(request: ReadRequest) -> Iterator[Events]:
    """Yield the events of a text file.

    Blank lines and lines that begin with `#` are skipped. A further column is of integers if its values in the
    first block of lines are written as such, and of floats otherwise.
    """
    with request.path.open(encoding=_ENCODING) as text:
        blocks = _blocks(text, request.rules.detector)
        yield from once_per_event(complete_events(blocks, chunk_hits=request.chunk_hits))


def _blocks(text: TextIO, detector: Detector) -> Iterator[HitBlock]:
    pieces = iter(partial(text.readline, _MAX_LINE), "")
    table: _Table | None = None
    first_line = 1
    after = 0
    while lines := list(islice(pieces, ROWS_PER_BLOCK)):
        if max(map(len, lines)) >= _MAX_LINE:
            raise DataError(f"a line from line {first_line} on has {_MAX_LINE} characters or more")
        rows = list(filter(_is_row, lines))
        place = partial(_place, lines, first_line)
        if rows and table is None:
            header, *rows = rows
            table = _Table(header, place(0))
            place = partial(_place, lines, first_line, n_skipped=1)
        if rows and table is not None:
            block = checked_block(table.parse(rows, place), detector=detector, after=after, place=place)
            after = int(block.event[-1])
            yield block
        first_line += len(lines)
    if table is None:
        raise DataError(f"no header; a first line with the columns {', '.join(HIT_LIST_COLUMNS)} expected")


def _is_row(line: str) -> bool:
    return line[0] != "#" and not line.isspace()


def _place(lines: list[str], first_line: int, row: int, n_skipped: int = 0) -> str:
    """Return the line of a row; blank lines and comments count too."""
    numbers = (number for number, line in enumerate(lines, first_line) if _is_row(line))
    return f"line {next(islice(numbers, row + n_skipped, None))}"


class _Table:
    """Names of the columns of a file, and the types found for them so far."""

    def __init__(self, header: str, place: str) -> None:
        self._names = [name.strip() for name in next(csv.reader([header]))]
        self._types: list[str] = []
        missing = [name for name in HIT_LIST_COLUMNS if name not in self._names]
        if missing:
            raise DataError(
                f"{place}: no column {', '.join(missing)} in the header {one_line(repr(header.strip()))}; "
                f"names separated by commas expected, among them {', '.join(HIT_LIST_COLUMNS)}"
            )
        if "" in self._names or len(set(self._names)) < len(self._names):
            raise DataError(f"{place}: a column without a name, or two of the same name; every column needs its own")

    def parse(self, rows: list[str], place: partial[str]) -> dict[str, np.ndarray]:
        """Return the values of `rows` by column, each as int64 or float64."""
        is_first = not self._types
        if is_first:
            self._types = ["i8" if _WHOLE.fullmatch(field) else "f8" for field in rows[0].split(",")]
        if len(self._types) != len(self._names):
            raise self._first_problem(rows, place)
        table = _parsed(rows, self._types)
        if table is None:
            types = [
                kind if kind == "f8" or _parsed(rows, [kind], column) is not None else "f8"
                for column, kind in enumerate(self._types)
            ]
            table = _parsed(rows, types)
            if table is None:
                raise self._first_problem(rows, place)
            if is_first:
                self._types = types
        columns = {name: table[f"f{column}"] for column, name in enumerate(self._names)}
        return columns if is_first else self._of_same_types(columns, place)

    def _of_same_types(self, columns: dict[str, np.ndarray], place: partial[str]) -> dict[str, np.ndarray]:
        """Cast `columns` to the types of the earlier chunks, so that "3.0" counts as the integer 3."""
        for name, kind in zip(self._names, self._types, strict=True):
            values = columns[name]
            if values.dtype == kind or name in HIT_LIST_COLUMNS:
                continue
            bad = not_whole(values, -MAX_EXACT_FLOAT, MAX_EXACT_FLOAT)
            if bad.any():
                row = int(bad.argmax())
                raise DataError(
                    f"{place(row)}: {name} = {values[row]} in a column of whole numbers; to make it a column of "
                    f"floats, write its first value with a decimal point"
                )
            columns[name] = values.astype(np.int64)
        return columns

    def _first_problem(self, rows: list[str], place: partial[str]) -> DataError:
        """Return the error that names the first bad line; slow, so only for files known to have one."""
        for row, text in enumerate(rows):
            fields = text.strip().split(",")
            if len(fields) != len(self._names):
                expected = f"{len(self._names)} expected ({one_line(', '.join(self._names))})"
                return DataError(f"{place(row)}: {len(fields)} values; {expected}")
            for name, field in zip(self._names, fields, strict=True):
                if _parsed([field or "?"], ["f8"]) is None:
                    return DataError(f"{place(row)}: {name} = {one_line(repr(field.strip()))}; a number expected")
        return DataError(f"{place(0)}: this line or one soon after it is not made of numbers")


def _parsed(rows: list[str], types: list[str], column: int | None = None) -> np.ndarray | None:
    """Parse `rows` as a structured array with fields f0, f1, ...; None if a value is not of the type given for it."""
    dtype = np.dtype([(f"f{number}", kind) for number, kind in enumerate(types)])
    try:
        with warnings.catch_warnings():
            # Before NumPy 2.4 "3.5" became the integer 3, with no more than this warning.
            warnings.simplefilter("error", DeprecationWarning)
            return np.loadtxt(rows, dtype, comments=None, delimiter=",", usecols=column, ndmin=1)
    except (ValueError, DeprecationWarning):
        return None


def _read_columns(path: Path, types: Mapping[str, np.dtype]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the columns of `types` that the file has, and the names of all its columns; others may hold text."""
    try:
        with path.open(encoding=_ENCODING, newline="") as file:
            table = csv.DictReader(filter(_is_row, file), skipinitialspace=True, strict=True)
            names = [name.strip() for name in table.fieldnames or ()]
            table.fieldnames = names
            rows = list(table)
        for row in rows:
            if None in row or None in row.values():  # more values than names, or fewer
                raise DataError(f"a row has not {len(names)} values as the header: {one_line(row)}")
        columns = {
            name: np.asarray([(int if dtype.kind in "iu" else float)(row[name]) for row in rows], dtype)
            for name, dtype in types.items()
            if name in names
        }
    except DataError:
        raise
    except (ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"not a table of numbers with a header ({one_line(error)})") from None
    return columns, names


class _Writer(FormatWriter):
    """Write text with a header line."""

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        self._file = self.enter_context(path.open("w", encoding="utf-8", newline=""))
        repeated = {f"{EVENT_PREFIX}{name}": dtype for name, dtype in types.event.items() if name != "event"}
        self._types = {"event": types.event["event"], **types.hit, **repeated}
        csv.writer(self._file, lineterminator="\n").writerow(self._types)
        self._row = ",".join(map(_text_format, self._types.values())) + "\n"

    def write(self, events: Events) -> None:
        """Write a row per hit."""
        event = event_of_hit(events)
        once = {"event" if name == "event" else f"{EVENT_PREFIX}{name}": v for name, v in events.event_columns.items()}
        columns = hit_values(events)
        n_columns = len(self._types)
        for start in range(0, events.n_hits, _ROWS_PER_WRITE):
            rows = slice(start, start + _ROWS_PER_WRITE)
            parts = [(once[n][event[rows]] if n in once else columns[n][rows]).tolist() for n in self._types]
            # One format string for all rows takes a third of the time of np.savetxt.
            values: list = [None] * (n_columns * len(parts[0]))
            for number, part in enumerate(parts):
                values[number::n_columns] = part
            self._file.write(self._row * len(parts[0]) % tuple(values))


def _text_format(dtype: np.dtype) -> str:
    """Return the format that prints numbers of a type exactly, and floats with a decimal point."""
    if dtype.kind != "f":
        return "%d"
    n_bits = np.finfo(dtype).nmant + 1
    return f"%#.{int(np.ceil(1 + n_bits * np.log10(2)))}g"  # "#" keeps the decimal point: 1.0 is no integer


FORMAT = Format(
    (".csv",),
    "text with a header, one row per hit",
    read=_read,
    read_columns=_read_columns,
    writer=_Writer,
    is_lossless=False,
)
