"""Hit lists and images in `.npz` files, read and written block by block.

`np.load` would hold each array in memory as a whole; here the members of the zip file are read as streams.
`event_columns` describes the arrays of events and tracks.
"""

from __future__ import annotations

import math
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, event_of_hit
from tofae_jax.data.files.column_types import EVENT_PREFIX, TRACK_EVENTS, TRACK_PREFIX, ColumnTypes, hit_values
from tofae_jax.data.files.event_columns import with_event_arrays
from tofae_jax.data.files.file_errors import library_errors, listing
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS, ROWS_PER_BLOCK, HitBlock, checked_block, complete_events
from tofae_jax.data.files.images import check_images, image_events, images_per_block
from tofae_jax.data.files.npy_header import npy_header

_MAX_NAMES_BYTES = 65_536  # of the array `columns`, which is read as a whole
_COPY_BYTES = 2**20


class _Array(NamedTuple):
    """Header of an array in the file."""

    member: zipfile.ZipInfo
    start: int
    """bytes before the values"""
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype

    def __str__(self) -> str:
        return one_line(f"{self.member.filename.removesuffix('.npy')} {self.dtype}{list(self.shape)}")


class _Stream:
    """Read rows of `width` values each, beginning `skip` bytes after the first value of an array."""

    def __init__(self, archive: zipfile.ZipFile, array: _Array, *, width: int, skip: int = 0) -> None:
        self.file = archive.open(array.member)
        self.file.seek(array.start + skip)
        self._array = array
        self._width = width

    def read(self, n_rows: int) -> np.ndarray:
        """Return the next rows, [n_rows, width]."""
        n_bytes = n_rows * self._width * self._array.dtype.itemsize
        content = self.file.read(n_bytes)
        if len(content) < n_bytes:
            raise DataError(f"array {self._array} is cut")
        return np.frombuffer(content, self._array.dtype).reshape(n_rows, self._width)

    def check_end(self) -> None:
        """Read beyond the last row: the check sum may be compared only there."""
        self.file.read(1)


def _read(request: ReadRequest) -> Iterator[Events]:
    """Yield the events of a hit list or of images, stored in one of three ways.

    - 1-D arrays `event, x, y, t` of the same length; further 1-D arrays of numbers of that length are columns too.
    - A 2-D array with the columns `event, x, y, t`, or with those that a text array `columns` names.
    - Images, [n, y, x] or [n, 1, y, x].

    `request.array` chooses among 2-D arrays and images; it may be None where there is no choice.
    """
    yield from with_event_arrays(request.path, _array_events(request))


def _array_events(request: ReadRequest) -> Iterator[Events]:
    array, chunk_hits, detector = request.array, request.chunk_hits, request.rules.detector
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
        is_image = array in arrays and len(arrays[array].shape) > 2
        names = HIT_LIST_COLUMNS if is_image else _column_names(archive, arrays)
        chosen = None if array is None and _has_columns(arrays) else _chosen(arrays, array, len(names))
        if chosen is not None and len(chosen.shape) != 2:
            check_images(chosen.shape, chosen.dtype, detector=detector)
            n_per_block = images_per_block(detector=detector, chunk_hits=chunk_hits)
            yield from image_events(_image_blocks(archive, chosen, n_per_block), detector=detector)
        else:
            blocks = _hit_blocks(archive, _table(arrays, chosen, names), detector)
            yield from complete_events(blocks, chunk_hits=chunk_hits)


def _arrays(archive: zipfile.ZipFile) -> dict[str, _Array]:
    """Return the headers of all arrays in the file by name."""
    arrays = {}
    for member in archive.infolist():
        # The other compressions, which NumPy never uses, can return any number of bytes at once.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"member {one_line(repr(member.filename))} is compressed in a way that NumPy does not use")
        if not member.filename.endswith(".npy"):
            continue
        with archive.open(member) as file:
            shape, is_fortran, dtype = npy_header(file)
            found = _Array(member, file.tell(), shape, is_fortran, dtype)
        n_bytes = found.start + math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and n_bytes != member.file_size:
            raise DataError(f"array {found} has {member.file_size} bytes; {n_bytes} expected")
        arrays[member.filename.removesuffix(".npy")] = found
    return arrays


def _column_names(archive: zipfile.ZipFile, arrays: Mapping[str, _Array]) -> tuple[str, ...]:
    """Return the column names of a 2-D array, from the array `columns` if there is one.

    Names are text or bytes, one each in an array of any shape, or all in one string, separated by commas, semicolons or
    spaces.
    """
    columns = arrays.get("columns")
    if columns is None or _has_columns(arrays):  # with 1-D arrays, `columns` may be one of them
        return HIT_LIST_COLUMNS
    if columns.dtype.kind not in "US":
        hint = "objects are not read, as they could run code" if columns.dtype.hasobject else "text expected"
        raise DataError(f"array {columns} has to name the columns of the hit list; {hint}")
    if columns.member.file_size > _MAX_NAMES_BYTES:
        raise DataError(f"array {columns} has more than {_MAX_NAMES_BYTES} bytes")
    with archive.open(columns.member) as file:
        values = np.frombuffer(file.read()[columns.start :], columns.dtype)
    try:
        names = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except UnicodeDecodeError:
        raise DataError(f"array {columns} holds names that are not UTF-8") from None
    if len(names) == 1:
        names = re.split(r"[,;\s]+", names[0].strip(" ,;[]()"))
    return tuple(name.strip().strip("'\"") for name in names)


def _has_columns(arrays: Mapping[str, _Array]) -> bool:
    return all(name in arrays and len(arrays[name].shape) == 1 for name in HIT_LIST_COLUMNS)


def _chosen(arrays: Mapping[str, _Array], array: str | None, n_columns: int) -> _Array:
    """Return the 2-D array or the images to read."""
    shown = listing(list(arrays.values())) or "no array"
    if array is not None:
        if array not in arrays:
            raise DataError(f"no array {array!r}; it has {shown}")
        if len(arrays[array].shape) not in (2, 3, 4):
            raise DataError(f"array {arrays[array]} is neither a 2-D hit list nor images; it has {shown}")
        return arrays[array]
    numeric = [found for found in arrays.values() if found.dtype.kind in "iuf"]
    tables = [found for found in numeric if len(found.shape) == 2 and found.shape[1] == n_columns]
    candidates = tables or [found for found in numeric if len(found.shape) in (3, 4)]
    if len(candidates) > 1:
        raise DataError(f"more than one array to read; choose one by its name among {listing(candidates)}")
    if not candidates:
        raise DataError(
            f"neither 1-D arrays {', '.join(HIT_LIST_COLUMNS)}, nor a 2-D array of these columns, nor images; "
            f"it has {shown}"
        )
    return candidates[0]


class _Source(NamedTuple):
    """Columns that are read together."""

    array: _Array
    names: tuple[str, ...]
    skip: int = 0


def _table(arrays: Mapping[str, _Array], chosen: _Array | None, names: tuple[str, ...]) -> list[_Source]:
    """Locate the columns of the hit list: in the 2-D array `chosen`, or in one array each."""
    if chosen is None:
        lengths = [arrays[name].shape[0] for name in HIT_LIST_COLUMNS]
        bad = [str(arrays[name]) for name in HIT_LIST_COLUMNS if arrays[name].dtype.kind not in "iuf"]
        if len(set(lengths)) > 1:
            raise DataError(f"arrays {', '.join(HIT_LIST_COLUMNS)} have lengths {lengths}; the same length expected")
        if bad:
            raise DataError(f"array {bad[0]} is not of integers or floats")
        columns = {name: found for name, found in arrays.items() if found.shape == (lengths[0],)}
        return [_Source(found, (name,)) for name, found in columns.items() if found.dtype.kind in "biuf"]
    if chosen.dtype.kind not in "iuf" or chosen.shape[1] != len(names):
        raise DataError(
            f"array {chosen}; integers or floats with {len(names)} columns ({one_line(', '.join(names))}) expected"
        )
    if not set(HIT_LIST_COLUMNS) <= set(names) or len(set(names)) < len(names):
        raise DataError(
            f"array columns says {one_line(names)}; {', '.join(HIT_LIST_COLUMNS)} expected, and each name once"
        )
    if not chosen.is_fortran:
        return [_Source(chosen, names)]
    n_column_bytes = chosen.shape[0] * chosen.dtype.itemsize  # in Fortran order the columns lie one after the other
    return [_Source(chosen, (name,), number * n_column_bytes) for number, name in enumerate(names)]


def _hit_blocks(archive: zipfile.ZipFile, sources: list[_Source], detector: Detector) -> Iterator[HitBlock]:
    n_rows = sources[0].array.shape[0]
    after = 0
    with ExitStack() as stack:
        streams = []
        for array, names, skip in sources:
            streams.append((names, _Stream(archive, array, width=len(names), skip=skip)))
            stack.enter_context(streams[-1][1].file)
        for start in range(0, n_rows, ROWS_PER_BLOCK):
            n_now = min(ROWS_PER_BLOCK, n_rows - start)
            columns = {}
            for names, stream in streams:
                columns |= dict(zip(names, stream.read(n_now).T, strict=True))
            block = checked_block(columns, detector=detector, after=after, place=partial(_place, start))
            after = int(block.event[-1])
            yield block
        for _, stream in streams:
            stream.check_end()


def _place(start: int, row: int) -> str:
    return f"row {start + row} (the first is 0)"


def _image_blocks(archive: zipfile.ZipFile, array: _Array, n_per_block: int) -> Iterator[np.ndarray]:
    if array.is_fortran:
        raise DataError(f"array {array} is in Fortran order; save np.ascontiguousarray of it")
    stream = _Stream(archive, array, width=math.prod(array.shape[1:]))
    with stream.file:
        for start in range(0, array.shape[0], n_per_block):
            yield stream.read(min(n_per_block, array.shape[0] - start))
        stream.check_end()


def _read_columns(path: Path, types: Mapping[str, np.dtype]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays named in `types` that the file has, and the names of all its arrays."""
    with library_errors(), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        names = list(file.files)
        return {name: file[name] for name in types if name in names}, names


class _Writer(FormatWriter):
    """Write one array per column, uncompressed.

    `event, x, y, t` and the hit columns have one value per hit. Arrays of events are written only if they are needed:
    with event or track columns, or with events without hits.

    The header of an array tells its length, which is known only at the end; so columns are collected in temporary
    files.
    """

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        self._needs_events = len(types.event) > 1 or types.track is not None
        hits = {"event": types.event["event"], **types.hit}
        events = {f"{EVENT_PREFIX}{name}": dtype for name, dtype in types.event.items()}
        tracks = {f"{TRACK_PREFIX}{name}": dtype for name, dtype in (types.track or {}).items()}
        if types.track is not None:
            tracks[TRACK_EVENTS] = types.event["event"]
        self._types = {**hits, **events, **tracks}
        parts = [path.parent / f"column_{number}" for number in range(len(self._types))]
        self._files = {
            name: self.enter_context(part.open("w+b")) for name, part in zip(self._types, parts, strict=True)
        }

    def write(self, events: Events) -> None:
        """Append the events to the temporary files."""
        event = events.event_columns["event"]
        columns = {
            "event": event[event_of_hit(events)],
            **hit_values(events),
            **{f"{EVENT_PREFIX}{name}": values for name, values in events.event_columns.items()},
        }
        if events.track_offsets is not None:
            columns |= {f"{TRACK_PREFIX}{name}": values for name, values in events.track_columns.items()}
            columns[TRACK_EVENTS] = np.repeat(event, np.diff(events.track_offsets))
        self._needs_events |= not events.counts.all()
        for name, dtype in self._types.items():
            self._files[name].write(np.ascontiguousarray(columns[name], dtype).data)

    def finish(self) -> None:
        """Join the columns in one zip file."""
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, dtype in self._types.items():
                if name.startswith(EVENT_PREFIX) and not self._needs_events:
                    continue
                with self._files[name] as column:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": (column.tell() // dtype.itemsize,),
                    }
                    # ZipInfo has the same date in all files (1980), so that the same hits give the same bytes.
                    member = zipfile.ZipInfo(f"{name}.npy")
                    with archive.open(member, "w", force_zip64=True) as target:
                        np.lib.format.write_array_header_1_0(target, header)
                        column.seek(0)
                        shutil.copyfileobj(column, target, _COPY_BYTES)
        super().finish()


FORMAT = Format(
    (".npz",),
    "hits as one NumPy array per column or as a 2-D array, or images",
    read=_read,
    read_columns=_read_columns,
    writer=_Writer,
    holds=("hits", "images"),
    has_named_arrays=True,
)
