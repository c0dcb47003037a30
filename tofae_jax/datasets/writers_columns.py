"""Hit files of Parquet and Arrow (Feather is one of these): one row per event, with lists of hits."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.datasets.events import Events
from tofae_jax.datasets.extras import libraries
from tofae_jax.datasets.written_columns import ColumnTypes


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
