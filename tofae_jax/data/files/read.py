"""Events from files of other programs, in chunks, so that memory does not grow with the file."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.event_columns import once_per_event, with_event_arrays
from tofae_jax.data.files.format_arrow import arrow_table, parquet_table
from tofae_jax.data.files.format_csv import csv_events
from tofae_jax.data.files.format_hdf5 import hdf5_table
from tofae_jax.data.files.format_images import check_images, image_events, images_per_block
from tofae_jax.data.files.format_npz import npz_events
from tofae_jax.data.files.format_pt import load_tensors
from tofae_jax.data.files.format_root import root_table
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS
from tofae_jax.data.files.npy import npy_header
from tofae_jax.data.files.optional_libraries import libraries
from tofae_jax.data.files.tables import HitRules, SeveralTables, Table, guarded, table_events
from tofae_jax.data.files.units import Origin, Tally, Units, check_units

_DAMAGE = (  # what the libraries raise for a file that is cut, damaged or of another format
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,  # an encrypted or unusual zip file
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)


class _Request(NamedTuple):
    """What is asked of a reader."""

    path: Path
    array: str | None
    tree: str | None
    chunk_hits: int
    rules: HitRules


def read_events(
    path: Path,
    *,
    detector: Detector,
    array: str | None = None,
    chunk_hits: int = 1_000_000,
    tree: str | None = None,
    columns: Mapping[str, str] | None = None,
    further: Sequence[str] | None = None,
    units: Units = "pixels",
    origin: Origin = "edge",
    tally: Tally | None = None,
) -> Iterator[Events]:
    """Events of a file of another program, in its order, in chunks of complete events.

    The file's ending says what it is:

    - `.npy`: images [n, y, x] or [n, 1, y, x]; a pixel holds the time bin of a hit, or 0.
    - `.npz`: a hit list or images, see `npz_events`; `array` names the array to read where there is a choice.
    - `.csv`: a hit list with a header, see `csv_events`.
    - `.pt`: images as one tensor, as PyTorch saves it, of which nothing is run; held in memory as a whole.
    - `.root`, `.parquet` (`.pq`), `.arrow` (`.feather`), `.h5` (`.hdf5`): a table of one row per event, with lists
      of hits, or of one row per hit, see `readers_tables`; each needs a library that an extra brings.

    A hit list has one row per hit: the event's number, x, y, t. Rows of an event follow each other, and numbers never
    fall; gaps are fine. Further columns become hit columns of the same name, or event columns if they are called
    `event.NAME`.

    A chunk has at most `chunk_hits` hits (images: pixels); an event with more stays whole. Memory is bounded by that,
    and by what the file itself keeps together: a compressed basket, page, batch or chunk is unpacked as a whole.
    Each chunk has the event column `event`: the event's number in the file (images: its position). A file without
    events gives no chunk.

    Args:
        path: the file.
        detector: what the hits have to lie in.
        array: array of an `.npz` file.
        chunk_hits: see above.
        tree: tree of a ROOT file, or group or dataset of records of an HDF5 file; None: the only one there is.
        columns: names in the table of `event, x, y, t`, where they differ; an empty name of `event` counts the rows.
        further: further columns of the table to read; None: all that hold numbers.
        units: of a table's `x, y, t`: pixels and time bins, or `physical`: mm and ns, see `in_pixels`. Hits outside the
            detector (NaN and negative times too) are an error in pixels; in physical units they are dropped.
        origin: what physical `x` and `y` are measured from.
        tally: counts the hits of a table, and those dropped.

    Raises `DataError`, when called or when the chunk is read, for whatever is wrong with the file.
    """
    names = {name: name for name in HIT_LIST_COLUMNS} | dict(columns or {})
    rules = HitRules(detector, names, further, units, origin, Tally() if tally is None else tally)
    asked = _Request(path, array, tree, chunk_hits, rules)
    _check_request(asked)
    ending = path.suffix.lower()
    if ending in _READERS:
        return _READERS[ending](asked)
    with _naming(path):
        libraries(ending)
    return _read_table(asked, _TABLES[ending])


def _check_request(asked: _Request) -> None:
    path, array, tree, chunk_hits, rules = asked
    if chunk_hits < 1:
        raise ValueError(f"chunk_hits must be at least 1, got {chunk_hits}")
    check_units(rules.units, rules.origin)
    if unknown := set(rules.names) - set(HIT_LIST_COLUMNS):
        raise ValueError(f"columns has {', '.join(sorted(unknown))}; {', '.join(HIT_LIST_COLUMNS)} allowed")
    ending = path.suffix.lower()
    if ending not in known_formats():
        raise DataError(f"{path}: unknown ending {ending!r}; known are {', '.join(known_formats())}")
    if array is not None and ending != ".npz":
        raise DataError(f"{path}: array {array!r} chosen, but only .npz files have named arrays")
    if tree is not None and ending not in _WITH_TREES:
        raise DataError(f"{path}: tree {tree!r} chosen, but only {', '.join(_WITH_TREES)} files have trees or groups")
    is_renamed = any(name != column for name, column in rules.names.items())
    if ending in _READERS and (is_renamed or rules.further is not None or rules.units != "pixels"):
        raise DataError(f"{path}: columns and units can be chosen for {', '.join(_TABLES)} files only")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty")


def table_formats() -> tuple[str, ...]:
    """The file endings of tables that libraries read."""
    return tuple(_TABLES)


def known_formats() -> tuple[str, ...]:
    """The file endings that `read_events` knows; those at the end need extras."""
    return tuple(sorted(_READERS)) + tuple(sorted(_TABLES))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of errors, and turn what libraries raise for bad files into `DataError`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: cut, damaged or not a {path.suffix.lower()} file ({one_line(error)})") from error


def _read_csv(asked: _Request) -> Iterator[Events]:
    with _naming(asked.path):
        chunks = csv_events(asked.path, detector=asked.rules.detector, chunk_hits=asked.chunk_hits)
        yield from once_per_event(chunks)


def _read_npz(asked: _Request) -> Iterator[Events]:
    path, detector = asked.path, asked.rules.detector
    with _naming(path):
        chunks = npz_events(path, detector=detector, array=asked.array, chunk_hits=asked.chunk_hits)
        yield from with_event_arrays(path, chunks)


def _read_npy(asked: _Request) -> Iterator[Events]:
    path, detector = asked.path, asked.rules.detector
    with _naming(path):
        # Not np.load, which goes by the content and would take a zip file or, if allowed to, a pickle.
        with path.open("rb") as file:
            shape, is_fortran, dtype = npy_header(file)
            start = file.tell()
        check_images(shape, dtype, detector=detector)
        images = np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")
        yield from _array_events(images, detector, asked.chunk_hits)


def _read_pt(asked: _Request) -> Iterator[Events]:
    tensors = list(_tensors(load_tensors(asked.path)))
    if len(tensors) != 1:
        raise DataError(f"{asked.path}: {len(tensors)} tensors; one tensor of images expected")
    with _naming(asked.path):
        yield from _array_events(tensors[0], asked.rules.detector, asked.chunk_hits)


def _read_table(asked: _Request, open_table: Callable[[_Request], Table]) -> Iterator[Events]:
    with _naming(asked.path):
        (table,) = guarded(open_table(asked) for _ in range(1))
        yield from table_events(table, asked.rules, chunk_hits=asked.chunk_hits)


def read_table(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), called: str = ""
) -> dict[str, np.ndarray]:
    """Columns of numbers of a whole table, one row after the other, from a file that may hold anything else besides.

    Of several trees or groups it is the one of the name `called`. DataError where a column is missing that is not
    `optional`.
    """
    with _naming(path):
        libraries(path.suffix.lower())
        # HDF5 files tell columns from other arrays by the length of x; any column of the table will do
        rules = HitRules(Detector(), {"x": names[-1]}, None, "pixels", "edge", Tally())
        table = _opened_table(_Request(path, None, None, 1_000_000, rules), called)
        chosen = [*names, *(name for name in optional if name in table.columns)]
        for name in chosen:
            column = table.columns.get(name)
            if column is None:
                raise DataError(f"no column {name!r}; it has {', '.join(map(one_line, table.columns)) or 'none'}")
            if column.is_list or column.dtype is None:
                raise DataError(f"column {name} is of type {one_line(column.shown)}; a number per row expected")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
        with closing(table.read(chosen)) as rows:
            for block in guarded(rows):
                for name in chosen:
                    parts[name].append(np.asarray(block[name]))
        return {name: np.concatenate(values) if values else np.zeros(0) for name, values in parts.items()}


def _opened_table(asked: _Request, called: str) -> Table:
    """The only table of a file, or the one of that name."""
    opened = _TABLES[asked.path.suffix.lower()]
    try:
        return next(guarded(opened(asked) for _ in range(1)))
    except SeveralTables as several:
        try:
            return next(guarded(opened(asked._replace(tree=called)) for _ in range(1)))
        except DataError:
            raise DataError(f"several tables, and none of them is called {called}: {several.names}") from None


def _root(asked: _Request) -> Table:
    return root_table(asked.path, asked.tree, chunk_hits=asked.chunk_hits)


def _parquet(asked: _Request) -> Table:
    return parquet_table(asked.path, chunk_hits=asked.chunk_hits)


def _arrow(asked: _Request) -> Table:
    return arrow_table(asked.path, chunk_hits=asked.chunk_hits)


def _hdf5(asked: _Request) -> Table:
    return hdf5_table(asked.path, asked.tree, x=asked.rules.names["x"], chunk_hits=asked.chunk_hits)


def _array_events(images: np.ndarray, detector: Detector, chunk_hits: int) -> Iterator[Events]:
    check_images(images.shape, images.dtype, detector=detector)
    n_per_block = images_per_block(detector=detector, chunk_hits=chunk_hits)
    blocks = (np.asarray(images[start : start + n_per_block]) for start in range(0, len(images), n_per_block))
    yield from image_events(blocks, detector=detector)


def _tensors(tree: object) -> Iterator[np.ndarray]:
    """All arrays in nested lists and dictionaries."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)


_READERS: dict[str, Callable[[_Request], Iterator[Events]]] = {
    ".csv": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_pt,
}
_TABLES: dict[str, Callable[[_Request], Table]] = {
    ".root": _root,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
}
_WITH_TREES = (".root", ".h5", ".hdf5")
