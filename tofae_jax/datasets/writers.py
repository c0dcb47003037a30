"""Hit lists as files that other programs read, written piece by piece, so that memory does not grow with the file."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from tofae_jax.datasets.events import DataError, Events, event_of_hit

_HIT_LIST_TYPES = {"event": np.dtype(np.int64), **{name: np.dtype(np.int16) for name in "xyt"}}
_ROWS_AT_ONCE = 8192  # of text: more is no faster
_COPY_BYTES = 2**20


class _Csv(ExitStack):
    """Text with a header line."""

    def __init__(self, folder: Path, types: Mapping[str, np.dtype]) -> None:
        super().__init__()
        self._path = folder / "hits.csv"
        self._file = self.enter_context(self._path.open("w", encoding="utf-8", newline=""))
        csv.writer(self._file, lineterminator="\n").writerow(types)
        self._types = types
        self._row = ",".join(map(_text_format, types.values())) + "\n"

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write further rows."""
        n_columns = len(self._types)
        for start in range(0, len(columns["event"]), _ROWS_AT_ONCE):
            parts = [columns[name][start : start + _ROWS_AT_ONCE].tolist() for name in self._types]
            # One format for all rows together takes a third of np.savetxt's time.
            values: list = [None] * (n_columns * len(parts[0]))
            for number, part in enumerate(parts):
                values[number::n_columns] = part
            self._file.write(self._row * len(parts[0]) % tuple(values))

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path


def _text_format(dtype: np.dtype) -> str:
    """How to print numbers of a type so that reading them gives the same ones, and floats look like floats."""
    if dtype.kind != "f":
        return "%d"
    n_bits = np.finfo(dtype).nmant + 1
    return f"%#.{int(np.ceil(1 + n_bits * np.log10(2)))}g"  # "#" keeps the decimal point: 1.0 is no integer


class _Npz(ExitStack):
    """One array per column, uncompressed.

    A header comes first and tells the length, which only the end shows: columns wait in files of their own.
    """

    def __init__(self, folder: Path, types: Mapping[str, np.dtype]) -> None:
        super().__init__()
        self._path = folder / "hits.npz"
        self._types = types
        self._n_rows = 0
        parts = [folder / f"column_{number}" for number in range(len(types))]
        self._files = {name: self.enter_context(part.open("w+b")) for name, part in zip(types, parts, strict=True)}

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write further rows."""
        self._n_rows += len(columns["event"])
        for name, dtype in self._types.items():
            self._files[name].write(np.ascontiguousarray(columns[name], dtype).data)

    def finish(self) -> Path:
        """Complete the file; where it is."""
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, dtype in self._types.items():
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self._n_rows,),
                }
                # The same date for all files (1980), so that the same hits give the same bytes.
                member = zipfile.ZipInfo(f"{name}.npy")
                with self._files[name] as column, archive.open(member, "w", force_zip64=True) as target:
                    np.lib.format.write_array_header_1_0(target, header)
                    column.seek(0)
                    shutil.copyfileobj(column, target, _COPY_BYTES)
        self.close()
        return self._path


_Sink = _Csv | _Npz
_SINKS: dict[str, type[_Csv] | type[_Npz]] = {".csv": _Csv, ".npz": _Npz}


class HitFileWriter:
    """Writes events to a hit file, one row per hit; made by `open_hit_file`."""

    def __init__(self, make_sink: Callable[[Mapping[str, np.dtype]], _Sink], columns: Mapping[str, DTypeLike] | None):
        self._make_sink = make_sink
        self._types: dict[str, np.dtype] = {}
        self._sink: _Sink | None = None
        self._next_event = 0
        if columns is not None:
            self._begin({name: np.dtype(kind) for name, kind in columns.items()})

    def append(self, events: Events) -> None:
        """Write all hits of `events`.

        Columns: `event`, `x`, `y`, `t`, and every hit column, of which names and types have to stay the same. The
        event's number is that of the event column `event`, or counts on from the event before. A hit list does not
        show events without hits, other than by the gap in the numbers.

        Raises `ValueError` for other columns than before, or event numbers that do not rise.
        """
        found = {name: values.dtype for name, values in events.hit_columns.items()}
        sink = self._sink or self._begin(found)
        if found != self._types:
            raise ValueError(f"hit columns are {_listed(found)}, expected {_listed(self._types)}")
        if any(values.shape != (events.n_hits,) for values in events.hit_columns.values()):
            raise ValueError(f"every hit column needs one number for each of the {events.n_hits} hits")
        numbers = self._numbers(events)
        rows = {"event": numbers[event_of_hit(events)], **dict(zip("xyt", events.hits.T, strict=True))}
        sink.write({**rows, **events.hit_columns})

    def finish(self) -> Path:
        """Complete the file, without rows if there were none; where it is."""
        return (self._sink or self._begin({})).finish()

    def _begin(self, types: dict[str, np.dtype]) -> _Sink:
        for name, dtype in types.items():
            if name in _HIT_LIST_TYPES or not name.isprintable() or name != name.strip() or not name or "/" in name:
                raise ValueError(f"hit column {name!r} cannot be written under this name")
            if dtype.kind not in "biuf" or dtype.itemsize > np.dtype(np.float64).itemsize:
                raise ValueError(f"hit column {name!r} is of type {dtype}; bool, integer and float can be written")
        self._types = types
        self._sink = self._make_sink({**_HIT_LIST_TYPES, **types})
        return self._sink

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


@contextmanager
def open_hit_file(
    path: Path, *, columns: Mapping[str, DTypeLike] | None = None, overwrite: bool = False
) -> Iterator[HitFileWriter]:
    """A hit file to write to in a `with` block: `.csv` (text with a header) or `.npz` (one array per column).

    `columns` says which hit columns there will be, and of which types; without it the first events do. It makes
    a file without any event have them too. `path` appears, complete, when the block ends; when it ends with an
    error nothing is left behind. Missing folders are made.

    Raises `DataError` for an unknown ending, a path that cannot be written to, and a file that exists unless
    `overwrite`.
    """
    ending = path.suffix.lower()
    if ending not in _SINKS:
        raise DataError(f"{path}: unknown ending {ending!r}; known are {', '.join(sorted(_SINKS))}")
    _check_free(path, overwrite)
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, for only within one file system a file can be renamed into its place.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror})") from error
        writer = HitFileWriter(lambda types: stack.enter_context(_SINKS[ending](folder, types)), columns)
        yield writer
        finished = writer.finish()
        _check_free(path, overwrite)
        os.replace(finished, path)


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"{path}: exists already; choose another name{'' if path.is_dir() else ', or give --overwrite'}"
        )


def _listed(types: Mapping[str, np.dtype]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in types.items()) or "none"
