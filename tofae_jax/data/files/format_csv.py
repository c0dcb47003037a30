"""Hit lists as text, one row per hit: read with pyarrow in any common dialect, written with commas.

A header names the columns, in any order. The delimiter, the compression and the encoding are found out; `text_columns`
says which types columns have. Event columns are repeated for each hit as `event.NAME`. Tracks and events without hits
cannot be written.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.layout import OutputRows
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.tables import Column, Rows, Table
from tofae_jax.data.files.text_lines import BLANKS, Header, read_header, row_blocks, rows_with_lines

_ROWS_PER_WRITE = 8192  # more is no faster
_BYTES_PER_COLUMN = 2**16  # of what pyarrow and we note of it, with the shortest values


def _open_table(request: ReadRequest) -> Table:
    """Find the columns and their types, by one pass over the file; `Table.read` makes another."""
    from tofae_jax.data.files.text_columns import TextColumn

    path, decimal, limits = request.path, request.rules.decimal, request.limits
    header = read_header(path, limits)
    limits.check_bytes(_BYTES_PER_COLUMN * len(header.names), f"a header of {len(header.names)} columns")
    found = [TextColumn(decimal) for _ in header.names]
    n_rows = 0
    for batch in _batches(path, header, dict.fromkeys(range(len(found))), limits):
        for column, strings in zip(found, batch.columns, strict=True):
            column.add(strings, n_rows)
        n_rows += batch.num_rows
    columns: dict[str, Column] = {}
    for place, (name, column) in enumerate(zip(header.names, found, strict=True)):
        if name in columns:
            columns[name] = Column(None, False, "two columns of this name", lambda name=name: f"two columns {name!r}")
        elif name:  # one without a name is an index, as pandas writes it
            problem = partial(_problem, path, header, place, column)
            shown = {None: "empty", "text": "text", "bool": "true and false"}.get(column.kind, str(column.dtype))
            has_problem = column.dtype is None or (column.dtype.kind == "f" and column.rounded is not None)
            columns[name] = Column(
                column.dtype, False, shown, problem if has_problem else None, column.kind is not None
            )
    if not n_rows:  # nothing says what the columns hold
        columns = {name: Column(np.dtype(np.float64), False, "empty", has_values=False) for name in columns}

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        from tofae_jax.data.files.text_columns import parsed

        places = {name: header.names.index(name) for name in names}
        types = {place: dtype for place in places.values() if (dtype := found[place].dtype) is not None}
        for batch in _batches(path, header, types, limits):
            yield {
                name: parsed(batch.column(str(place)), types[place], decimal)
                for name, place in places.items()
                if place in types
            }

    return Table(
        "", columns, read, place=lambda row: f"line {_line_of(path, header, row)}", delimiter=_delimiter(header)
    )


def _delimiter(header: Header) -> str:
    return "," if header.delimiter == BLANKS else header.delimiter


def _batches(
    path: Path, header: Header, types: Mapping[int, np.dtype | None], limits: Limits
) -> Generator[Any, None, None]:
    """Yield record batches of the columns at these places, named by them, in these types or as strings."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    names = list(map(str, range(len(header.names))))
    strings = {names[place]: pyarrow.string() for place in types}
    typed = {names[place]: pyarrow.from_numpy_dtype(dtype) for place, dtype in types.items() if dtype is not None}

    def table_of(block: bytes, types: Mapping[str, Any]) -> Any:
        # Not `open_csv`: its threads would call Python code, even while the interpreter ends.
        return arrow_csv.read_csv(
            pyarrow.BufferReader(block),
            read_options=arrow_csv.ReadOptions(column_names=names, block_size=len(block) + 1),
            parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(strings), null_values=[], strings_can_be_null=False
            ),
        )

    for block in row_blocks(path, header, limits):
        try:
            yield from table_of(block, {**strings, **typed}).to_batches()
            continue
        except pyarrow.ArrowInvalid:
            pass  # values in another form than pyarrow reads itself, or missing ones
        try:
            yield from table_of(block, strings).to_batches()
        except pyarrow.ArrowInvalid as error:
            raise _misfit(path, header, error) from None


def _misfit(path: Path, header: Header, error: Exception) -> DataError:
    """Return the error that names the first line with too few or too many values."""
    for line, fields in rows_with_lines(path, header):
        if len(fields) != len(header.names):
            expected = f"{len(header.names)} expected ({one_line(', '.join(header.names))})"
            return DataError(f"line {line}: {len(fields)} values; {expected}")
    return DataError(f"not a table of text ({one_line(error)})")


def _line_of(path: Path, header: Header, row: int) -> int:
    return next((line for n, (line, _) in enumerate(rows_with_lines(path, header)) if n == row), 0)


def _problem(path: Path, header: Header, place: int, column: Any) -> str:
    """Return why a column cannot be read, with the line."""
    name, line_of = header.names[place], partial(_line_of, path, header)
    if column.text is not None:
        row, value = column.text
        hint = "; --decimal , reads a decimal comma" if "," in value and column.decimal != "," else ""
        if "." in value and column.decimal == ",":
            hint = "; --decimal , was given, and this has a decimal point"
        return f"line {line_of(row)}: {name} = {one_line(repr(value))}; a number expected{hint}"
    if column.kind is None:
        return f"column {name} has no values"
    if column.rounded is not None:
        row, value = column.rounded
        other = column.missing if column.missing is not None else column.other
        reason = (
            f"as a value is missing in line {line_of(other)}" if column.missing is not None else "with other values"
        )
        return (
            f"line {line_of(row)}: {name} = {value} cannot be held exactly in a column of floats, {reason}; "
            "--columns.further chooses the columns to read"
        )
    return f"line {line_of(column.missing)}: {name} is missing, in a column of true and false"


class _Writer(FormatWriter):
    """Write text with a header line."""

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        text = io.TextIOWrapper(self._open(path), encoding="utf-8", newline="")
        self._file = self.enter_context(text)
        delimiter, self._decimal = types.layout.delimiter, types.layout.decimal
        csv.writer(self._file, lineterminator="\n", delimiter=delimiter).writerow(types.hit)
        # A decimal comma between commas is quoted, as the table that was read has to have it.
        quote = '"' if self._decimal == delimiter else ""
        formats = [
            f"{quote}{_text_format(dtype)}{quote}" if dtype.kind == "f" else "%d" for dtype in types.hit.values()
        ]
        self._row = delimiter.join(formats) + "\n"

    def _open(self, path: Path) -> Any:
        if path.suffix == ".gz":
            return self.enter_context(gzip.GzipFile(path, "wb", compresslevel=1, mtime=0))
        if path.suffix == ".zst":
            import pyarrow

            return self.enter_context(pyarrow.CompressedOutputStream(str(path), "zstd"))
        return path.open("wb")

    def write(self, rows: OutputRows) -> None:
        """Write a row per hit."""
        columns = rows.hit
        n_columns = len(columns)
        for start in range(0, rows.n_hits, _ROWS_PER_WRITE):
            parts = [values[start : start + _ROWS_PER_WRITE].tolist() for values in columns.values()]
            # One format string for all rows takes a third of the time of np.savetxt.
            values: list = [None] * (n_columns * len(parts[0]))
            for number, part in enumerate(parts):
                values[number::n_columns] = part
            text = self._row * len(parts[0]) % tuple(values)
            self._file.write(text if self._decimal == "." else text.replace(".", self._decimal))


def _text_format(dtype: np.dtype) -> str:
    """Return the format that prints floats of a type exactly, and with a decimal point."""
    n_bits = np.finfo(dtype).nmant + 1
    return f"%#.{int(np.ceil(1 + n_bits * np.log10(2)))}g"  # "#" keeps the decimal point: 1.0 is no integer


FORMAT = Format(
    tuple(f"{kind}{packed}" for packed in ("", ".gz", ".zst", ".bz2", ".xz") for kind in (".csv", ".tsv", ".txt")),
    "text with a header, one row per hit",
    open_table=_open_table,
    writer=_Writer,
    begins=(b"\x1f\x8b", b"\x28\xb5\x2f\xfd"),
    written=(".csv", ".csv.gz", ".csv.zst"),
    arrangements=("rows",),
    is_lossless=False,
    has_dialects=True,
)
