"""Write hits to files that other programs read, piece by piece, so that memory does not grow with the file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tofae_jax.data.events import DataError, Events, concatenate, slice_events
from tofae_jax.data.files.column_types import ColumnTypes, check_columns, empty_events, listed, types_of_rows
from tofae_jax.data.files.file_errors import naming_file
from tofae_jax.data.files.format import Format, FormatWriter
from tofae_jax.data.files.hit_rows import native
from tofae_jax.data.files.layout import Arrangement, Layout, OutputRows, output_rows
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.registry import ending_of, format_of, writable_endings
from tofae_jax.data.storage.atomic import check_can_be_written, naming_path, placing
from tofae_jax.data.storage.replaceable import check_free, no_file_of

OpenWriter = Callable[[Path, ColumnTypes], FormatWriter]
_BATCH = 200_000  # hits and events: least size of a basket, row group or batch, since few of them read faster


class HitFileWriter:
    """Write events to a hit file; `open_hit_file` makes one."""

    def __init__(
        self,
        path: Path,
        open_writer: Callable[[ColumnTypes], FormatWriter],
        kind: Format,
        columns: Mapping[str, DTypeLike] | None,
        layout: Callable[[], Layout | None] | None,
    ) -> None:
        """Prepare; the file is opened when its columns are known."""
        self._path = path
        self._open_writer, self._kind, self._layout_of = open_writer, kind, layout
        self._batch = _BATCH if "lists" in kind.arrangements else 1
        self._waiting: list[Events] = []
        self._n_waiting = 0
        self._next_event = 0
        self._layout: Layout | None = None
        self._writer: FormatWriter | None = None
        if columns is not None:
            check_columns(empty_events(columns))
            self._begin(empty_events(columns))

    def append(self, events: Events) -> None:
        """Write all hits of `events`.

        Columns: `event`, `x`, `y`, `t`, and all hit, event and track columns, whose names and types must stay the same.
        An event's number is that in the event column `event`; without it, events are counted.

        Raises `ValueError` for other columns than before, or event numbers that do not increase.
        """
        _check_lengths(events)
        check_columns(events)
        numbers = self._numbers(events)
        events = events._replace(event_columns={**events.event_columns, "event": numbers})
        writer = self._writer or self._begin(events)
        found = types_of_rows(self._rows(slice_events(events, 0, 0)), writer.types.layout)
        if found != writer.types:
            raise ValueError(
                next(
                    f"{kind} columns are {listed(has)}, expected {listed(expected)}"
                    for kind, has, expected in zip(("hit", "event", "track"), found[:3], writer.types[:3], strict=True)
                    if has != expected
                )
            )
        self._waiting.append(events)
        self._n_waiting += events.n_hits + events.n_events
        if self._n_waiting >= self._batch:
            self._flush()

    def finish(self) -> Path:
        """Complete the file, without rows if no event was written, and return its path."""
        self._flush()
        writer = self._writer or self._begin(empty_events({}))
        with naming_path(self._path):
            writer.finish()
        return writer.path

    def _begin(self, events: Events) -> FormatWriter:
        self._layout = (self._layout_of() if self._layout_of is not None else None) or Layout()
        types = types_of_rows(self._rows(slice_events(events, 0, 0)), self._layout)
        with naming_path(self._path):
            self._writer = self._open_writer(types)
        return self._writer

    def _rows(self, events: Events) -> OutputRows:
        layout = self._layout or Layout()
        wanted: Arrangement = "lists" if layout.is_list else "rows"
        is_chosen = layout.is_list is not None and wanted in self._kind.arrangements
        rows = output_rows(events, layout, wanted if is_chosen else self._kind.arrangements[0])
        columns = (
            {name: native(values) for name, values in part.items()} for part in (rows.hit, rows.event, rows.track)
        )
        return rows._replace(**dict(zip(("hit", "event", "track"), columns, strict=True)))

    def _flush(self) -> None:
        if self._waiting and self._writer is not None:
            events = self._waiting[0] if len(self._waiting) == 1 else concatenate(self._waiting)
            self._waiting = []
            with naming_path(self._path):
                self._writer.write(self._rows(events))
        self._waiting, self._n_waiting = [], 0

    def _numbers(self, events: Events) -> np.ndarray:
        """Return the number of each event, int64[n_events]."""
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
    path: Path,
    *,
    columns: Mapping[str, DTypeLike] | None = None,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
    layout: Callable[[], Layout | None] | None = None,
) -> Iterator[HitFileWriter]:
    """Open a hit file to be written in a `with` block; its ending decides on the format.

    - `.csv` (text with a header, compressed as `.csv.gz` or `.csv.zst`) and `.npz` (one array per column) have one row
      per hit, see `event_columns`.
    - `.root` (a tree `events`), `.parquet` (`.pq`), `.arrow` (`.feather`) and `.h5` (`.hdf5`, a group `events`) have
      one row per event, with lists of hits, unless `layout` says otherwise; some need a library that an extra brings.

    `path` appears, complete, when the block ends; if it ends with an error, nothing is left behind. Missing folders are
    created.

    Args:
        path: the file.
        columns: types of all hit columns, where there are no event columns but `event` and no tracks; so that a file
            without events has the columns too. None: the first events decide.
        overwrite: replace an existing file of the same format.
        sources: files and folders that are read meanwhile, which are never replaced.
        layout: returns how the columns are called and arranged, when the first events are written; None: `event, x, y,
            t`, as the format likes best.

    Raises:
        DataError: for an unknown ending, a path that cannot be written to, and a file that exists unless `overwrite`,
            or appears meanwhile; it stays.
    """
    kind, open_writer = check_hit_file(path, overwrite=overwrite, sources=sources)
    may_replace = no_file_of(*kind.begins, or_text=kind.has_dialects) if overwrite else None
    with placing(path, may_replace=may_replace, error_type=DataError) as new, ExitStack() as stack:
        # a folder of its own, as some formats write temporary files
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=new.parent)))
        writer = HitFileWriter(
            path,
            lambda types: _closed_by(stack, open_writer(folder / f"hits{ending_of(path)}", types)),
            kind,
            columns,
            layout,
        )
        yield writer
        finished = writer.finish()
        with naming_path(path):
            os.rename(finished, new)


def _closed_by(stack: ExitStack, writer: FormatWriter) -> FormatWriter:
    """Have the stack close the writer; where there is an error already, closing adds none, as on a full disk."""

    def close(kind: type[BaseException] | None, *error: Any) -> None:
        with suppress(OSError) if kind is not None else nullcontext():
            writer.__exit__(kind, *error)

    stack.push(close)
    return writer


def check_hit_file(path: Path, *, overwrite: bool = False, sources: Iterable[Path] = ()) -> tuple[Format, OpenWriter]:
    """Check that a hit file can be written, before what goes into it is computed; returns its format and writer.

    Raises:
        DataError: its ending is unknown, its library is missing, its folder cannot be written, or it exists and is not
            to be replaced: it is one of the `sources`, of another format, or `overwrite` is False.
    """
    kind, ending = format_of(path), ending_of(path)
    if kind is None or kind.writer is None or ending not in (kind.written or kind.endings):
        raise DataError(f"{path}: unknown ending {ending!r}; known are {', '.join(writable_endings())}")
    obstacle = no_file_of(*kind.begins, or_text=kind.has_dialects)
    check_free(path, obstacle, overwrite=overwrite, sources=sources, error_type=DataError)
    with naming_file(path, damage=()):
        import_libraries(kind, ending)
    try:
        check_can_be_written(path.parent)
    except ValueError as error:
        raise DataError(f"{path}: cannot be written: {error}") from None
    return kind, kind.writer
