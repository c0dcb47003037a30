"""Read events from files of other programs, in chunks, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.registry import (
    ending_of,
    endings_of_text,
    endings_with_arrays,
    endings_with_offsets,
    endings_with_trees,
    format_of,
    readable_endings,
    table_endings,
)
from tofae_jax.data.files.several import SourceFile, holds_images, is_joined, joined_images, joined_table, source_files
from tofae_jax.data.files.table_events import table_events
from tofae_jax.data.files.tables import HitRules, Reading, SeveralTables, Table, guarded
from tofae_jax.data.files.units import AxisOrigin, Units, check_units

_NAMES = ("x", "y", "t")
_LIMITS = Limits()


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
    decimal: Literal[".", ","] = ".",
    per: Literal["", "hit", "event"] = "",
    reading: Reading | None = None,
    keeps_own: bool = False,
    limits: Limits = _LIMITS,
) -> Iterator[Events]:
    """Yield the events of a file of another program, in its order, in chunks of complete events.

    The ending decides on the format, see `registry.FORMATS`; docs/files.md describes what files may look like. Memory
    is bounded by `chunk_hits`, and by what the file itself keeps together, such as a compressed batch.

    Args:
        path: the file; a pattern such as `run*.root`, or a folder of files, which are read as one.
        detector: bounds of the hits.
        array: name of the array to read in an `.npz` file; None: the only one there is.
        chunk_hits: most hits (images: pixels) of a chunk that holds more than one event.
        tree: tree of a ROOT file, or group or dataset of an HDF5 file; None: the only one there is.
        columns: names in the table of `event, x, y, t`, where they differ; an empty name of `event` counts the rows,
            several separated by commas, such as `run,event`, number the events together.
        further: further columns of the table to read; None: all that hold numbers.
        units: of a table's `x, y, t`: pixels and time bins, or `physical`: mm and ns, see `in_pixels`. Hits outside the
            detector (NaN and negative times too) are an error in pixels; in physical units they are dropped.
        origin: zero of physical `x` and `y`: edge or centre of the detector.
        decimal: decimal point of text.
        per: what columns of an HDF5 group have a value for, where there are as many hits as events.
        reading: is given what is found out about the file: its layout, the columns left out, the hits dropped.
        keeps_own: whether the values of `x, y, t` are kept as the file has them, too, see `layout`.
        limits: memory, hits of an event and expansion that a file may ask for; more is a `DataError`.

    Returns:
        Events in chunks, each read when it is asked for; none for a file without events. Each has the event column
        `event`: its number in the file (of images: its position; of several columns: a count, beside `key.NAME`).

    Raises:
        DataError: when called or when the chunk is read, for whatever is wrong with the file.
        ValueError: when called, for an option that is not allowed.
    """
    files = source_files(Path(path))
    given = dict(columns or {})
    event = given.pop("event", "event")
    keys = tuple(name.strip() for name in event.split(",") if name.strip())
    names = {name: name for name in _NAMES} | given
    reading = Reading() if reading is None else reading
    rules = HitRules(detector, names, keys, further, units, origin, reading, decimal, per, keeps_own)
    request = ReadRequest(files[0].path, array, tree, chunk_hits, rules, limits)
    kind = _checked_format(request, files)
    with naming_file(files[0].path):
        import_libraries(kind, ending_of(files[0].path))
    return _events(kind, request, files, Path(path))


def check_decimal(path: Path, kind: Format, decimal: str) -> None:
    """Raise `DataError` for a decimal comma of a file that is no text."""
    if decimal != "." and not kind.has_dialects:
        raise DataError(f"{path}: a decimal comma can be said for {', '.join(endings_of_text())} files only")


def _checked_format(request: ReadRequest, files: Sequence[SourceFile]) -> Format:
    """Return the format of the files, once the options are found to be allowed for it."""
    path, array, tree, chunk_hits, rules, limits = request
    if chunk_hits < 1:
        raise ValueError(f"chunk_hits must be at least 1, got {chunk_hits}")
    limits.check()
    check_units(rules.units, rules.origin)
    for name, value, allowed in (("decimal", rules.decimal, (".", ",")), ("per", rules.per, ("", "hit", "event"))):
        if value not in allowed:
            raise ValueError(f"{name} = {value!r}: {' or '.join(map(repr, allowed))} allowed")
    if unknown := set(rules.names) - set(_NAMES):
        raise ValueError(f"columns has {', '.join(sorted(unknown))}; event, {', '.join(_NAMES)} allowed")
    kind = format_of(path)
    if kind is None:
        raise DataError(f"{path}: unknown ending {ending_of(path)!r}; known are {', '.join(readable_endings())}")
    if array is not None and not kind.has_named_arrays:
        raise DataError(
            f"{path}: array {array!r} chosen, but only {', '.join(endings_with_arrays())} files have named arrays"
        )
    if tree is not None and not kind.has_trees:
        raise DataError(
            f"{path}: tree {tree!r} chosen, but only {', '.join(endings_with_trees())} files have trees or groups"
        )
    if not kind.is_table and (rules.is_renamed or rules.further is not None or rules.units != "pixels"):
        raise DataError(f"{path}: columns and units can be chosen for {', '.join(table_endings())} files only")
    check_decimal(path, kind, rules.decimal)
    if rules.per and not kind.has_offsets:
        raise DataError(
            f"{path}: per {rules.per!r} chosen, but only in {', '.join(endings_with_offsets())} files may it be open "
            "what columns have a value for"
        )
    for file in files:
        if not file.path.is_file():
            raise DataError(f"{file.path}: {'is no file' if file.path.exists() else 'does not exist'}")
        if not file.path.stat().st_size:
            raise DataError(f"{file.path}: is empty")
    return kind


def _events(kind: Format, request: ReadRequest, files: Sequence[SourceFile], source: Path) -> Iterator[Events]:
    if is_joined(files, source, request.rules.keys):
        with naming_file(source, damage=()):
            if holds_images(kind, request):
                yield from joined_images(kind, request, files)
            else:
                table = joined_table(kind, request, files)
                yield from table_events(table, request.rules, chunk_hits=request.chunk_hits, limits=request.limits)
        return
    with naming_file(request.path):
        if kind.read is not None:
            yield from kind.read(request)
        elif kind.open_table is not None:
            table = _opened(kind.open_table, request)
            yield from table_events(table, request.rules, chunk_hits=request.chunk_hits, limits=request.limits)


def read_table(
    path: Path,
    names: Sequence[str],
    *,
    optional: Sequence[str] = (),
    called: str = "",
    limits: Limits = _LIMITS,
) -> dict[str, np.ndarray]:
    """Read columns of numbers of a whole table, from a file of a format with `open_table`.

    Args:
        path: the file, which may hold other columns and tables too.
        names: columns to read; `DataError` where one is missing.
        optional: columns to read if they are there.
        called: name of the tree or group to read where there are several.
        limits: of `read_events`.

    Returns:
        The columns by name, [n_rows].
    """
    kind = format_of(path)
    if kind is None or kind.open_table is None:
        raise ValueError(f"{path}: ending {path.suffix!r}; {', '.join(table_endings())} allowed")
    with naming_file(path):
        import_libraries(kind, ending_of(path))
        # HDF5 files tell columns from other arrays by the length of x; any column of the table will do
        own: dict[str, str] = dict.fromkeys(_NAMES, names[-1])
        rules = HitRules(Detector(), own, ("event",), None, "pixels", "edge", Reading())
        table = _only_table(kind.open_table, ReadRequest(path, None, None, 1_000_000, rules, limits), called)
        chosen = [*names, *(name for name in optional if name in table.columns)]
        for name in chosen:
            column = table.columns.get(name)
            if column is None:
                raise DataError(f"lacks {name}; it has {one_line(', '.join(table.columns)) or 'no columns'}")
            if column.problem is not None:
                raise DataError(column.problem())
            if column.is_list or column.dtype is None:
                raise DataError(f"column {name} is of type {one_line(column.shown)}; a number per row expected")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
        n_bytes = 0
        with closing(table.read(chosen)) as rows:
            for block in guarded(rows):
                for name in chosen:
                    parts[name].append(np.asarray(block[name]))
                    n_bytes += 2 * parts[name][-1].nbytes  # once more where they are joined
                limits.check_bytes(n_bytes, "the table")
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
