"""Parquet and Arrow files (Feather is one of these) as tables.

Errors raised here name the place but not the file: `readers.py` puts its name in front.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK
from tofae_jax.data.files.optional_libraries import libraries
from tofae_jax.data.files.tables import Column, Lists, Rows, Table

_MAGIC = b"ARROW1"  # a file; without it, it may be a stream of the same messages


def parquet_table(path: Path, *, chunk_hits: int) -> Table:
    """The table in a Parquet file, read `chunk_hits` values of a column at a time, whatever its row groups are."""
    _, parquet = libraries(".parquet")
    with parquet.ParquetFile(path) as file:
        columns = _columns(file.schema_arrow)
        n_values = max((_n_values(file.metadata, group) for group in range(file.num_row_groups)), default=1)
    n_rows = int(min(ROWS_PER_BLOCK, max(1, chunk_hits // max(1, n_values))))

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        # Without pre_buffer and with a small buffer pages are decoded as they are asked for.
        options = {"pre_buffer": False, "buffer_size": 2**20, "page_checksum_verification": True}
        with parquet.ParquetFile(path, **options) as file:
            for batch in file.iter_batches(n_rows, columns=list(names), use_threads=False):
                yield _rows(batch, names)

    return Table("", columns, read)


def _n_values(metadata: Any, group: int) -> float:
    """Mean length of the longest lists in a row group, 1 where it has none."""
    rows = metadata.row_group(group)
    longest = max((rows.column(place).num_values for place in range(rows.num_columns)), default=0)
    return longest / max(1, rows.num_rows)


def arrow_table(path: Path, *, chunk_hits: int) -> Table:
    """The table in an Arrow IPC file or stream; a batch of it is held in memory if it is compressed."""
    pyarrow, _ = libraries(".arrow")
    with _arrow_batches(pyarrow, path) as batches:
        columns = _columns(batches.schema)

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        with _arrow_batches(pyarrow, path, names) as batches:
            for batch in _each_batch(batches):
                n_rows = _rows_at_once(batch, chunk_hits)
                for start in range(0, batch.num_rows, n_rows):
                    yield _rows(batch.slice(start, n_rows), names)

    return Table("", columns, read)


@contextmanager
def _arrow_batches(pyarrow: Any, path: Path, names: Sequence[str] | None = None) -> Iterator[Any]:
    with path.open("rb") as start:
        is_file = start.read(len(_MAGIC)) == _MAGIC
    with pyarrow.memory_map(str(path)) as source:
        if not is_file:
            opener = pyarrow.ipc.open_stream
            options = {}
        else:
            opener = pyarrow.ipc.open_file
            schema = pyarrow.ipc.open_file(source).schema
            places = None if names is None else [schema.get_field_index(name) for name in names]
            options = {"options": pyarrow.ipc.IpcReadOptions(included_fields=places)}
        with opener(source, **options) as batches:
            yield batches


def _each_batch(batches: Any) -> Iterator[Any]:
    if hasattr(batches, "num_record_batches"):
        yield from map(batches.get_batch, range(batches.num_record_batches))
    else:
        yield from batches


def _rows_at_once(batch: Any, chunk_hits: int) -> int:
    longest = max((len(column.flatten()) for column in batch.columns if _is_list(column.type)), default=0)
    return int(min(ROWS_PER_BLOCK, max(1, chunk_hits // max(1, longest // max(1, batch.num_rows)))))


def _is_list(kind: Any) -> bool:
    types = libraries(".arrow")[0].types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _columns(schema: Any) -> dict[str, Column]:
    if len(set(schema.names)) < len(schema.names):
        raise DataError("two columns of the same name; every column needs its own")
    return {field.name: _column(field.type) for field in schema}


def _column(kind: Any) -> Column:
    types = libraries(".arrow")[0].types
    is_list = _is_list(kind)
    value = kind.value_type if is_list else kind
    is_number = types.is_integer(value) or types.is_floating(value) or types.is_boolean(value)
    return Column(np.dtype(value.to_pandas_dtype()) if is_number else None, is_list, str(kind))


def _rows(batch: Any, names: Sequence[str]) -> Rows:
    return {name: _values(batch.column(name), name) for name in names}


def _values(column: Any, name: str) -> np.ndarray | Lists:
    if not _is_list(column.type):
        return _numbers(column, name)
    _, compute = libraries(".arrow")
    # A list that is missing counts as one without values.
    counts = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return Lists(counts.astype(np.int64), _numbers(column.flatten(), name))


def _numbers(values: Any, name: str) -> np.ndarray:
    """The numbers; missing ones make a column of integers one of floats with NaN, which the caller notices."""
    found = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "O":
        raise DataError(f"column {one_line(name)} lacks {values.null_count} of its {values.type} values; fill them")
    return found


class _ListFile(ExitStack):
    """Record batches with a column of lists per hit and track column, and a column of numbers per event column."""

    def __init__(self, pyarrow: Any, types: ColumnTypes) -> None:
        super().__init__()
        self._pyarrow = pyarrow
        self._types = types
        self._names = types.table_names()
        of_hits, of_events, of_tracks = self._names
        kinds = {of_events[name]: pyarrow.from_numpy_dtype(dtype) for name, dtype in types.event.items()}
        for names, columns in ((of_hits, types.hit), (of_tracks, types.track or {})):
            kinds |= {names[name]: pyarrow.list_(pyarrow.from_numpy_dtype(dtype)) for name, dtype in columns.items()}
        self.schema = pyarrow.schema(list(kinds.items()))

    def batch(self, events: Events) -> Any:
        """The events as a record batch."""
        of_hits, of_events, of_tracks = self._names
        columns = {of_events[name]: self._pyarrow.array(events.event_columns[name]) for name in self._types.event}
        hits = {**dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}
        columns |= {of_hits[name]: self._lists(events.offsets, hits[name]) for name in self._types.hit}
        if events.track_offsets is not None:
            tracks = events.track_columns
            columns |= {of_tracks[name]: self._lists(events.track_offsets, tracks[name]) for name in tracks}
        return self._pyarrow.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _lists(self, offsets: np.ndarray, values: np.ndarray) -> Any:
        numbers = self._pyarrow.array(np.ascontiguousarray(values))
        return self._pyarrow.ListArray.from_arrays(self._pyarrow.array(offsets.astype(np.int32)), numbers)


class ParquetFile(_ListFile):
    """A Parquet file, compressed with zstd, with check sums."""

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        pyarrow, parquet = libraries(".parquet")
        super().__init__(pyarrow, types)
        self._path = folder / "hits.parquet"
        options = {"compression": "zstd", "write_page_checksum": True}
        self._file = self.enter_context(parquet.ParquetWriter(self._path, self.schema, **options))

    def write(self, events: Events) -> None:
        """Write further events, as a row group."""
        self._file.write_batch(self.batch(events))

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path


class ArrowFile(_ListFile):
    """An Arrow IPC file, uncompressed, which can be memory-mapped."""

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        pyarrow, _ = libraries(".arrow")
        super().__init__(pyarrow, types)
        self._path = folder / "hits.arrow"
        self._file = self.enter_context(pyarrow.ipc.new_file(str(self._path), self.schema))

    def write(self, events: Events) -> None:
        """Write further events, as a record batch."""
        self._file.write_batch(self.batch(events))

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path
