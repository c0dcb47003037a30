"""Read events from files of other programs, in chunks, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.registry import (
    endings_with_arrays,
    endings_with_trees,
    format_of,
    readable_endings,
    table_endings,
)
from tofae_jax.data.files.tables import HitRules, SeveralTables, Table, guarded, table_events
from tofae_jax.data.files.units import AxisOrigin, Tally, Units, check_units


def read_events(
    path: str | Path,
    *,
    detector: Detector,
    array: str | None = None,
    chunk_hits: int = 1_000_000,
    tree: str | None = None,
    columns: Mapping[str, str] | None = None,
    further: Sequence[str] | None = None,
    units: Units = "pixels",
    origin: AxisOrigin = "edge",
    tally: Tally | None = None,
) -> Iterator[Events]:
    """Yield the events of a file of another program, in its order, in chunks of complete events.

    The file's ending decides on the format; `registry.FORMATS` lists the formats, each a module `format_NAME.py`:

    - images [n, y, x] or [n, 1, y, x] (`.npy`, `.npz`, `.pt`); a pixel holds the time bin of a hit, or 0;
    - a hit list (`.csv`, `.npz`): one row per hit with the event's number, x, y, t. Rows of an event follow each other,
      and numbers never fall; gaps are fine. Further columns become hit columns of the same name, or event columns if
      they are called `event.NAME`;
    - a table (ROOT, Parquet, Arrow, HDF5) of one row per event, with lists of hits, or of one row per hit, see
      `tables`; each needs a library that an extra brings.

    A chunk has at most `chunk_hits` hits (images: pixels); an event with more is one chunk. Memory is bounded by that,
    and by what the file itself keeps together: a compressed basket, page, batch or chunk is unpacked as a whole.

    Args:
        path: the file.
        detector: bounds of the hits.
        array: name of the array to read in an `.npz` file; None: the only one there is.
        chunk_hits: most hits of a chunk that holds more than one event.
        tree: tree of a ROOT file, or group or dataset of records of an HDF5 file; None: the only one there is.
        columns: names in the table of `event, x, y, t`, where they differ; an empty name of `event` counts the rows.
        further: further columns of the table to read; None: all that hold numbers.
        units: of a table's `x, y, t`: pixels and time bins, or `physical`: mm and ns, see `in_pixels`. Hits outside the
            detector (NaN and negative times too) are an error in pixels; in physical units they are dropped.
        origin: zero of physical `x` and `y`: edge or centre of the detector.
        tally: counts the hits of a table, and those dropped.

    Returns:
        Events in chunks, each read when it is asked for; none for a file without events. Each has the event column
        `event`: the event's number in the file (images: its position).

    Raises:
        DataError: when called or when the chunk is read, for whatever is wrong with the file.
        ValueError: when called: `chunk_hits` below 1, unknown `units`, `origin` or keys of `columns`, or an `origin` in
            pixels.
    """
    path = Path(path)
    names = {name: name for name in HIT_LIST_COLUMNS} | dict(columns or {})
    rules = HitRules(detector, names, further, units, origin, Tally() if tally is None else tally)
    request = ReadRequest(path, array, tree, chunk_hits, rules)
    kind = _checked_format(request)
    with naming_file(path):
        import_libraries(kind, path.suffix.lower())
    return _events(kind, request)


def _checked_format(request: ReadRequest) -> Format:
    """Return the format of the file, once the options are found to be allowed for it."""
    path, array, tree, chunk_hits, rules = request
    if chunk_hits < 1:
        raise ValueError(f"chunk_hits must be at least 1, got {chunk_hits}")
    check_units(rules.units, rules.origin)
    if unknown := set(rules.names) - set(HIT_LIST_COLUMNS):
        raise ValueError(f"columns has {', '.join(sorted(unknown))}; {', '.join(HIT_LIST_COLUMNS)} allowed")
    kind = format_of(path)
    if kind is None:
        raise DataError(f"{path}: unknown ending {path.suffix.lower()!r}; known are {', '.join(readable_endings())}")
    if array is not None and not kind.has_named_arrays:
        raise DataError(
            f"{path}: array {array!r} chosen, but only {', '.join(endings_with_arrays())} files have named arrays"
        )
    if tree is not None and not kind.has_trees:
        raise DataError(
            f"{path}: tree {tree!r} chosen, but only {', '.join(endings_with_trees())} files have trees or groups"
        )
    is_renamed = any(name != column for name, column in rules.names.items())
    if not kind.is_table and (is_renamed or rules.further is not None or rules.units != "pixels"):
        raise DataError(f"{path}: columns and units can be chosen for {', '.join(table_endings())} files only")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty")
    return kind


def _events(kind: Format, request: ReadRequest) -> Iterator[Events]:
    with naming_file(request.path):
        if kind.open_table is not None:
            table = _opened(kind.open_table, request)
            yield from table_events(table, request.rules, chunk_hits=request.chunk_hits)
        elif kind.read is not None:
            yield from kind.read(request)


def read_table(
    path: Path, names: Sequence[str], *, optional: Sequence[str] = (), called: str = ""
) -> dict[str, np.ndarray]:
    """Read columns of numbers of a whole table, from a file of a format with `open_table`.

    Args:
        path: the file, which may hold other columns and tables too.
        names: columns to read; `DataError` where one is missing.
        optional: columns to read if they are there.
        called: name of the tree or group to read where there are several.

    Returns:
        The columns by name, [n_rows].
    """
    kind = format_of(path)
    if kind is None or kind.open_table is None:
        raise ValueError(f"{path}: ending {path.suffix!r}; {', '.join(table_endings())} allowed")
    with naming_file(path):
        import_libraries(kind, path.suffix.lower())
        # HDF5 files tell columns from other arrays by the length of x; any column of the table will do
        rules = HitRules(Detector(), {"x": names[-1]}, None, "pixels", "edge", Tally())
        table = _only_table(kind.open_table, ReadRequest(path, None, None, 1_000_000, rules), called)
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


def _only_table(open_table: Callable[[ReadRequest], Table], request: ReadRequest, called: str) -> Table:
    """Open the only table of a file, or of several the one of that name."""
    try:
        return _opened(open_table, request)
    except SeveralTables as several:
        try:
            return _opened(open_table, request._replace(tree=called))
        except DataError:
            raise DataError(f"several tables, and none of them is called {called}: {several.names}") from None


def _opened(open_table: Callable[[ReadRequest], Table], request: ReadRequest) -> Table:
    with library_errors():
        return open_table(request)
