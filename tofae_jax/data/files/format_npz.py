"""Hit lists and images in `.npz` files, read and written block by block.

`np.load` would hold each array in memory as a whole; here the members of the zip file are read as streams.
`event_columns` describes the arrays of events and tracks.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.event_columns import with_event_arrays
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS, ROWS_PER_BLOCK, event_numbers, native
from tofae_jax.data.files.images import check_images, image_events, images_per_block
from tofae_jax.data.files.layout import EVENT_NUMBERS, EVENT_PREFIX, TRACK_EVENTS, TRACK_PREFIX
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.npy_header import npy_header
from tofae_jax.data.files.npz_output import NpzWriter
from tofae_jax.data.files.table_events import table_events
from tofae_jax.data.files.tables import Column, Rows, SeveralTables, Table
from tofae_jax.data.files.zip_members import zip_members

_MAX_NAMES_BYTES = 65_536  # of the array `columns`, which is read as a whole


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
    - Images, [n, y, x] or [n, 1, y, x]; 1-D arrays of n numbers are event columns.

    `request.array` chooses among 2-D arrays and images; it may be None where there is no choice.
    """
    if (images := _images(request)) is not None:
        yield from images
        return
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
    if len(request.rules.keys) > 1 and EVENT_NUMBERS in arrays:
        raise DataError(f"array {EVENT_NUMBERS} numbers the events; {', '.join(request.rules.keys)} cannot do so too")
    names, further = _event_arrays(arrays, request.rules.further)
    rules = request.rules._replace(further=further)
    found = table_events(
        _open_table(request._replace(rules=rules)), rules, chunk_hits=request.chunk_hits, limits=request.limits
    )
    yield from with_event_arrays(request.path, found, names, limits=request.limits)


def _event_arrays(
    arrays: Mapping[str, _Array], further: Sequence[str] | None
) -> tuple[set[str] | None, list[str] | None]:
    """Divide the further columns to read into arrays `event.NAME` and `track.NAME`, and columns of hits; None: all."""
    if further is None or EVENT_NUMBERS not in arrays:
        return None, None if further is None else list(further)
    chosen = {name for name in further if name in arrays and name.startswith((EVENT_PREFIX, TRACK_PREFIX))}
    return chosen, [name for name in further if name not in chosen]


def _holds_images(request: ReadRequest) -> bool:
    return _chosen_images(request) is not None


def _chosen_images(request: ReadRequest) -> _Array | None:
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
        if request.array is None and _is_one_dimensional(arrays, request):
            return None
        names = HIT_LIST_COLUMNS if _is_image(arrays.get(request.array or "")) else _column_names(archive, arrays)
        chosen = _chosen(arrays, request.array, len(names))
    return chosen if _is_image(chosen) else None


def _check_joined(request: ReadRequest) -> None:
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
    if EVENT_NUMBERS in arrays and request.rules.further is None:
        raise DataError(
            f"arrays of events, such as {EVENT_NUMBERS}, cannot be read of several files; read each by itself, or "
            "choose columns of hits alone with --columns.further"
        )


def _images(request: ReadRequest) -> Iterator[Events] | None:
    """Return the events of images; None where the file holds a hit list."""
    if (images := _chosen_images(request)) is None:
        return None
    return _image_events(request, images)


def _image_events(request: ReadRequest, images: _Array) -> Iterator[Events]:
    detector = request.rules.detector
    if request.rules.units != "pixels" or request.rules.further is not None or request.rules.is_renamed:
        raise DataError(f"array {images} holds images: columns and units can be chosen for hit lists only")
    check_images(images.shape, images.dtype, detector=detector)
    n_per_block = images_per_block(
        detector=detector, chunk_hits=request.chunk_hits, itemsize=images.dtype.itemsize, limits=request.limits
    )
    with zipfile.ZipFile(request.path) as archive, ExitStack() as stack:
        arrays = _arrays(archive)
        columns = {
            name: array
            for name, array in arrays.items()
            if array.shape == images.shape[:1] and array.dtype.kind in "biuf" and name != "columns"
        }
        for name, array in arrays.items():
            if name not in columns and array.member.filename != images.member.filename:
                request.rules.reading.left_out[name] = f"{array.dtype}{list(array.shape)}"
        streams = {name: _Stream(archive, array, width=1) for name, array in columns.items()}
        for stream in streams.values():
            stack.enter_context(stream.file)
        last = -1
        for events in image_events(
            _image_blocks(archive, images, n_per_block), detector=detector, limits=request.limits
        ):
            found = {name: native(stream.read(events.n_events)[:, 0]) for name, stream in streams.items()}
            if "event" in found:
                place = partial(_place, int(events.event_columns["event"][0]))
                found["event"] = event_numbers(found["event"], place)
                if (np.diff(found["event"], prepend=last) < 1).any():
                    raise DataError("array event numbers the images and has to rise")
                last = int(found["event"][-1])
            yield events._replace(event_columns={**events.event_columns, **found})


def _is_image(array: _Array | None) -> bool:
    return array is not None and len(array.shape) > 2


def _is_one_dimensional(arrays: Mapping[str, _Array], request: ReadRequest) -> bool:
    return all(name in arrays and len(arrays[name].shape) == 1 for name in request.rules.names.values())


def _open_table(request: ReadRequest) -> Table:
    """Open the 1-D arrays, or the 2-D array, as a table of one row per hit."""
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
        if request.array is None and _is_one_dimensional(arrays, request):
            sources = _one_dimensional(arrays, request)
        else:
            names = _column_names(archive, arrays)
            sources = _two_dimensional(_chosen(arrays, request.array, len(names)), names)
    columns = {name: _column(source.array) for source in sources for name in source.names}

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        wanted = [source for source in sources if set(names) & set(source.names)]
        with zipfile.ZipFile(request.path) as archive:
            for rows in _row_blocks(archive, wanted, request.limits):
                yield {name: native(rows[name]) for name in names}

    return Table("", columns, read)


def _column(array: _Array) -> Column:
    is_number = array.dtype.kind in "biuf" and array.dtype.itemsize <= np.dtype(np.float64).itemsize
    return Column(array.dtype if is_number else None, False, str(array))


def _arrays(archive: zipfile.ZipFile) -> dict[str, _Array]:
    """Return the headers of all arrays in the file by name."""
    arrays = {}
    for member in zip_members(archive).values():
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
    if columns is None:
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
        several = [found.member.filename.removesuffix(".npy") for found in candidates]
        raise SeveralTables(f"{len(several)} arrays to read", several, option="array", shown=listing(candidates))
    if not candidates:
        raise DataError(
            f"neither 1-D arrays {', '.join(HIT_LIST_COLUMNS)}, nor a 2-D array of these columns, nor images; "
            f"it has {shown}"
        )
    return candidates[0]


def _column_names_of(request: ReadRequest) -> list[str]:
    """Return the names of the 1-D arrays of numbers."""
    if request.array is not None:
        return []
    with zipfile.ZipFile(request.path) as archive:
        arrays = _arrays(archive)
    return [name for name, array in arrays.items() if len(array.shape) == 1 and array.dtype.kind in "biuf"]


class _Source(NamedTuple):
    """Columns that are read together."""

    array: _Array
    names: tuple[str, ...]
    skip: int = 0


def _one_dimensional(arrays: Mapping[str, _Array], request: ReadRequest) -> list[_Source]:
    """Locate the columns of a hit list that has an array for each."""
    needed = [*(key for key in request.rules.keys if key in arrays), *request.rules.names.values()]
    lengths = [arrays[name].shape[0] if len(arrays[name].shape) == 1 else -1 for name in needed]
    if len(set(lengths)) > 1:
        raise DataError(f"arrays {', '.join(needed)} have lengths {lengths}; the same length expected")
    needed_for = {EVENT_PREFIX: [EVENT_NUMBERS], TRACK_PREFIX: [EVENT_NUMBERS, TRACK_EVENTS]}
    of_events = [prefix for prefix, keys in needed_for.items() if all(key in arrays for key in keys)]
    sources = []
    for name, array in arrays.items():
        if name.startswith(tuple(of_events)):  # `with_event_arrays` reads it
            if array.dtype.kind not in "biuf":
                request.rules.reading.left_out[name] = f"{array.dtype}{list(array.shape)}"
            continue
        if array.shape == (lengths[0],):
            sources.append(_Source(array, (name,)))
        elif name.startswith((EVENT_PREFIX, TRACK_PREFIX)):
            prefix = EVENT_PREFIX if name.startswith(EVENT_PREFIX) else TRACK_PREFIX
            key = next(key for key in needed_for[prefix] if key not in arrays)
            raise DataError(f"array {array} has no array {key} beside it, which says what its values belong to")
        else:
            request.rules.reading.left_out[name] = f"{array.dtype}{list(array.shape)}"
    return sources


def _two_dimensional(chosen: _Array, names: tuple[str, ...]) -> list[_Source]:
    """Locate the columns of a 2-D array."""
    if chosen.dtype.kind not in "iuf" or chosen.shape[1] != len(names):
        raise DataError(
            f"array {chosen}; integers or floats with {len(names)} columns ({one_line(', '.join(names))}) expected"
        )
    if len(set(names)) < len(names):
        raise DataError(f"array columns says {one_line(names)}; each name once expected")
    if not chosen.is_fortran:
        return [_Source(chosen, names)]
    n_column_bytes = chosen.shape[0] * chosen.dtype.itemsize  # in Fortran order the columns lie one after the other
    return [_Source(chosen, (name,), number * n_column_bytes) for number, name in enumerate(names)]


def _row_blocks(archive: zipfile.ZipFile, sources: list[_Source], limits: Limits) -> Iterator[dict[str, np.ndarray]]:
    n_rows = sources[0].array.shape[0]
    n_bytes = sum(len(source.names) * source.array.dtype.itemsize for source in sources)
    at_once = limits.rows_at_once(ROWS_PER_BLOCK, n_bytes, "the hit list")
    with ExitStack() as stack:
        streams = []
        for array, names, skip in sources:
            streams.append((names, _Stream(archive, array, width=len(names), skip=skip)))
            stack.enter_context(streams[-1][1].file)
        for start in range(0, n_rows, at_once):
            columns: dict[str, np.ndarray] = {}
            for names, stream in streams:
                columns |= dict(zip(names, stream.read(min(at_once, n_rows - start)).T, strict=True))
            yield columns
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


FORMAT = Format(
    (".npz",),
    "hits as one NumPy array per column or as a 2-D array, or images",
    read=_read,
    open_table=_open_table,
    column_names=_column_names_of,
    holds_images=_holds_images,
    check_joined=_check_joined,
    writer=NpzWriter,
    begins=(b"PK\x03\x04", b"PK\x05\x06"),
    arrangements=("arrays",),
    holds=("hits", "images"),
    has_named_arrays=True,
)
