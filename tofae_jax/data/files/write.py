"""Hits as files that other programs read, written piece by piece, so that memory does not grow with the file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.files.column_types import ColumnTypes, column_types, listed, types_of
from tofae_jax.data.files.format_arrow import ArrowFile, ParquetFile
from tofae_jax.data.files.format_csv import CsvFile
from tofae_jax.data.files.format_hdf5 import Hdf5File
from tofae_jax.data.files.format_npz import NpzFile
from tofae_jax.data.files.format_root import RootFile
from tofae_jax.data.files.optional_libraries import libraries

_BATCH = 200_000  # hits and events: what a basket, row group or batch has at least, for few of them read faster


@runtime_checkable
class _Sink(Protocol):
    """A file of one kind."""

    def write(self, events: Events) -> None:
        """Write further events, with the columns that were announced and the event column `event`."""

    def finish(self) -> Path:
        """Complete the file; where it is."""
        ...


_ROW_FILES = {".csv": CsvFile, ".npz": NpzFile}
_TABLE_FILES = {
    ".root": RootFile,
    ".parquet": ParquetFile,
    ".pq": ParquetFile,
    ".arrow": ArrowFile,
    ".feather": ArrowFile,
    ".h5": Hdf5File,
    ".hdf5": Hdf5File,
}
_SINKS = {**_ROW_FILES, **_TABLE_FILES}


def hit_file_endings() -> tuple[str, ...]:
    """The endings of files that `open_hit_file` can write; those at the end need extras."""
    return tuple(_SINKS)


class HitFileWriter:
    """Writes events to a hit file; made by `open_hit_file`."""

    def __init__(
        self,
        make_sink: Callable[[ColumnTypes], _Sink],
        columns: Mapping[str, DTypeLike] | None,
        *,
        batch: int,
    ):
        self._make_sink = make_sink
        self._batch = batch
        self._waiting: list[Events] = []
        self._n_waiting = 0
        self._next_event = 0
        self._types: ColumnTypes | None = None
        self._sink = None if columns is None else self._begin(column_types(columns, {}, None))

    def append(self, events: Events) -> None:
        """Write all hits of `events`.

        Columns: `event`, `x`, `y`, `t`, and every hit, event and track column, of which names and types have to stay
        the same. The event's number is that of the event column `event`, or counts on from the event before.

        Raises `ValueError` for other columns than before, or event numbers that do not rise.
        """
        _check_lengths(events)
        found = types_of(events)
        if self._types is None:
            self._sink = self._begin(found)
        elif found != self._types:
            raise ValueError(
                next(
                    f"{kind} columns are {listed(has)}, expected {listed(expected)}"
                    for kind, has, expected in zip(("hit", "event", "track"), found, self._types, strict=True)
                    if has != expected
                )
            )
        numbers = self._numbers(events)
        events = events._replace(event_columns={**events.event_columns, "event": numbers})
        self._waiting.append(events)
        self._n_waiting += events.n_hits + events.n_events
        if self._n_waiting >= self._batch:
            self._flush()

    def finish(self) -> Path:
        """Complete the file, without rows if there were none; where it is."""
        self._flush()
        sink = self._sink or self._begin(column_types({}, {}, None))
        return sink.finish()

    def _begin(self, types: ColumnTypes) -> _Sink:
        self._types = types
        return self._make_sink(types)

    def _flush(self) -> None:
        if self._waiting and self._sink is not None:
            self._sink.write(concatenate(self._waiting))
        self._waiting, self._n_waiting = [], 0

    def _numbers(self, events: Events) -> np.ndarray:
        """Number of each event, int64[n_events]."""
        numbers = events.event_columns.get("event")
        if numbers is None:
            numbers = np.arange(self._next_event, self._next_event + events.n_events)
        numbers = np.asarray(numbers).astype(np.int64)
        if (np.diff(numbers, prepend=self._next_event - 1) < 1).any():
            raise ValueError(f"event numbers have to rise, from {self._next_event} on; got {numbers[:8].tolist()} ...")
        if len(numbers):
            self._next_event = int(numbers[-1]) + 1
        return numbers


def _check_lengths(events: Events) -> None:
    n_tracks = 0 if events.track_offsets is None else int(events.track_offsets[-1])
    for kind, columns, n in (
        ("hit", events.hit_columns, events.n_hits),
        ("event", events.event_columns, events.n_events),
        ("track", events.track_columns, n_tracks),
    ):
        for name, values in columns.items():
            if values.shape != (n,):
                shape = list(values.shape)
                raise ValueError(
                    f"{kind} column {name!r} of shape {shape}: one number for each of the {n} {kind}s needed"
                )


@contextmanager
def open_hit_file(
    path: Path, *, columns: Mapping[str, DTypeLike] | None = None, overwrite: bool = False
) -> Iterator[HitFileWriter]:
    """A hit file to write to in a `with` block; its ending says what it is.

    - `.csv` (text with a header) and `.npz` (one array per column) have one row per hit, see `event_columns`.
    - `.root` (a tree `events`), `.parquet` (`.pq`), `.arrow` (`.feather`) and `.h5` (`.hdf5`, a group `events`) have
      one row per event, with lists of hits; each needs a library that an extra brings.

    `columns` says which hit columns there will be, of which types, and that there are no event columns but `event`,
    and no tracks; without it the first events do. It makes a file without any event have them too. `path` appears,
    complete, when the block ends; when it ends with an error nothing is left behind. Missing folders are made.

    Raises `DataError` for an unknown ending, a path that cannot be written to, and a file that exists unless
    `overwrite`.
    """
    ending = path.suffix.lower()
    if ending not in _SINKS:
        raise DataError(f"{path}: unknown ending {ending!r}; known are {', '.join(_SINKS)}")
    _check_free(path, overwrite)
    if ending in _TABLE_FILES:
        try:
            libraries(ending)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, for only within one file system a file can be renamed into its place.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error
        writer = HitFileWriter(
            lambda types: stack.enter_context(_SINKS[ending](folder, types)),
            columns,
            batch=_BATCH if ending in _TABLE_FILES else 1,
        )
        yield writer
        finished = writer.finish()
        _check_free(path, overwrite)
        os.replace(finished, path)


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"{path}: exists already; choose another name{'' if path.is_dir() else ', or give --overwrite'}"
        )
