"""Parquet files as tables; written compressed with zstd, with check sums."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.arrow_batches import LIBRARIES, BatchMaker, batch_rows, record_places, schema_columns
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK
from tofae_jax.data.files.layout import OutputRows
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.tables import Rows, Table

# Without pre_buffer and with a small buffer, pages are decoded only when they are needed.
_BYTES_PER_VALUE = 12
"""of a list, once unpacked: itself and where it belongs"""
_READING = {"pre_buffer": False, "buffer_size": 2**20, "page_checksum_verification": True}
_WRITING = {"compression": "zstd", "write_page_checksum": True}


def _open_table(request: ReadRequest) -> Table:
    """Open the table; it is read `chunk_hits` values of a column at a time, whatever the row groups are."""
    path = request.path
    pyarrow, _, parquet = import_libraries(FORMAT)
    with parquet.ParquetFile(path) as file:
        _check_own(file.metadata)
        columns = schema_columns(pyarrow, file.schema_arrow)
        n_values = max((_n_values(file.metadata, group) for group in range(file.num_row_groups)), default=1)
    n_rows = int(min(ROWS_PER_BLOCK, max(1, request.chunk_hits // max(1, n_values))))

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        with parquet.ParquetFile(path, **_READING) as file:
            places = record_places(pyarrow, file.schema_arrow)
            stored = list(dict.fromkeys(places[name][0] for name in names))
            for group in range(file.num_row_groups):
                _check_group(file.metadata.row_group(group), set(stored), request.limits)
            for batch in file.iter_batches(n_rows, columns=stored, use_threads=False):
                yield batch_rows(pyarrow, batch, names, places)

    return Table("", columns, read)


def _n_values(metadata: Any, group: int) -> float:
    """Return the mean length of the longest lists in a row group, 1 if it has none."""
    rows = metadata.row_group(group)
    longest = max((rows.column(place).num_values for place in range(rows.num_columns)), default=0)
    return longest / max(1, rows.num_rows)


def _check_own(metadata: Any) -> None:
    """Raise `DataError` where columns lie in other files, which the format knows."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for place in range(rows.num_columns):
            if other := rows.column(place).file_path:
                raise DataError(f"has columns in another file, {one_line(repr(other))}, which is not followed")


def _check_group(rows: Any, stored: set[str], limits: Limits) -> None:
    """Check what a row group declares of the columns to read.

    A row is unpacked as a whole, and a page too, whose size only the file's pages themselves say. Rows of usual lengths
    fit. A group that could have one very long row, or one large page, fits too if it is so long that its content cannot
    have been made from nothing.
    """
    columns = [rows.column(place) for place in range(rows.num_columns)]
    columns = [column for column in columns if column.path_in_schema.partition(".")[0] in stored]
    longest = max((column.num_values for column in columns), default=0)
    n_rows = max(1, rows.num_rows)
    limits.check_hits(-(-longest // n_rows), f"each event of a row group of {n_rows}, on average,")
    n_packed = sum(column.total_compressed_size for column in columns)
    n_unpacked = sum(column.total_uncompressed_size for column in columns)
    if n_unpacked > limits.n_bytes:
        limits.check_expansion(n_unpacked, n_packed, f"a row group of {n_rows} rows")
    n_values = sum(column.num_values for column in columns if "." in column.path_in_schema)
    if n_values * _BYTES_PER_VALUE > limits.n_bytes:
        limits.check_expansion(n_values * _BYTES_PER_VALUE, n_packed, f"a row group of {n_values} values in lists")


class _Writer(FormatWriter):
    """Write a Parquet file."""

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        pyarrow, _, parquet = import_libraries(FORMAT)
        self._batches = BatchMaker(pyarrow, types)
        self._file = self.enter_context(parquet.ParquetWriter(path, self._batches.schema, **_WRITING))

    def write(self, rows: OutputRows) -> None:
        """Write a row group."""
        self._file.write_batch(self._batches.batch(rows))


FORMAT = Format(
    (".parquet", ".pq"),
    "Parquet table",
    open_table=_open_table,
    writer=_Writer,
    begins=(b"PAR1",),
    libraries=(*LIBRARIES, "pyarrow.parquet"),
)
