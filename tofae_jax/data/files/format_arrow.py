"""Arrow IPC files and streams as tables, Feather files among them; written uncompressed, to be memory-mapped."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tofae_jax.data.files.arrow_batches import (
    LIBRARIES,
    BatchMaker,
    batch_rows,
    is_list_type,
    record_places,
    schema_columns,
)
from tofae_jax.data.files.arrow_messages import MAGIC, check_arrow_batches
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK
from tofae_jax.data.files.layout import OutputRows
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.tables import Rows, Table


def _open_table(request: ReadRequest) -> Table:
    """Open the table; a batch of it is held in memory if it is compressed."""
    pyarrow, _ = import_libraries(FORMAT)
    check_arrow_batches(request.path, request.limits)
    with _open_batches(pyarrow, request.path) as batches:
        columns = schema_columns(pyarrow, batches.schema)
        places = record_places(pyarrow, batches.schema)

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        with _open_batches(pyarrow, request.path, names) as batches:
            for batch in _each_batch(batches):
                n_rows = _rows_at_once(pyarrow, batch, request.chunk_hits)
                for start in range(0, batch.num_rows, n_rows):
                    yield batch_rows(pyarrow, batch.slice(start, n_rows), names, places)

    return Table("", columns, read)


@contextmanager
def _open_batches(pyarrow: Any, path: Path, names: Sequence[str] | None = None) -> Iterator[Any]:
    with path.open("rb") as start:
        is_file = start.read(len(MAGIC)) == MAGIC
    with pyarrow.memory_map(str(path)) as source:
        if not is_file:
            opener = pyarrow.ipc.open_stream
            options = {}
        else:
            opener = pyarrow.ipc.open_file
            schema = pyarrow.ipc.open_file(source).schema
            stored = record_places(pyarrow, schema)
            places = None if names is None else sorted({schema.get_field_index(stored[name][0]) for name in names})
            options = {"options": pyarrow.ipc.IpcReadOptions(included_fields=places)}
        with opener(source, **options) as batches:
            yield batches


def _each_batch(batches: Any) -> Iterator[Any]:
    if hasattr(batches, "num_record_batches"):
        yield from map(batches.get_batch, range(batches.num_record_batches))
    else:
        yield from batches


def _rows_at_once(pyarrow: Any, batch: Any, chunk_hits: int) -> int:
    lists = (column for column in batch.columns if is_list_type(pyarrow, column.type))
    longest = max((len(column.flatten()) for column in lists), default=0)
    return int(min(ROWS_PER_BLOCK, max(1, chunk_hits // max(1, longest // max(1, batch.num_rows)))))


class _Writer(FormatWriter):
    """Write an Arrow IPC file."""

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        pyarrow, _ = import_libraries(FORMAT)
        self._batches = BatchMaker(pyarrow, types)
        self._file = self.enter_context(pyarrow.ipc.new_file(str(path), self._batches.schema))

    def write(self, rows: OutputRows) -> None:
        """Write a record batch."""
        self._file.write_batch(self._batches.batch(rows))


FORMAT = Format(
    (".arrow", ".feather"),
    "Arrow IPC or Feather table",
    open_table=_open_table,
    writer=_Writer,
    begins=(MAGIC,),
    libraries=LIBRARIES,
)
