"""Read several files as one: a pattern such as `run*.root`, or a folder of files, partitioned or not."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.event_keys import FILE
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.hit_rows import MAX_EXACT_FLOAT
from tofae_jax.data.files.registry import ending_of, format_of
from tofae_jax.data.files.tables import Column, Lists, Rows, Table, guarded

_WILD = re.compile(r"[*?\[]")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_HIDDEN = (".", "_")
"""begin the names of files that are no data, such as `_SUCCESS`"""


class SourceFile(NamedTuple):
    """One of several files."""

    path: Path
    values: dict[str, str] = {}
    """what the names of its folders say, `NAME=VALUE`"""


def source_files(path: Path) -> list[SourceFile]:
    """Return the files of a path: itself, those that a pattern matches, or those in a folder and the folders in it.

    Raises:
        DataError: there are none, or they are of different formats.
    """
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))]
        found = [file for file in found if format_of(file) is not None]
        _check_inside(path, found)
        if not found:
            raise DataError(f"{path}: is a folder without dataset.json and without files to read")
    elif _WILD.search(str(path)) and not path.exists():
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        found = [file for file in anchor.glob(str(path.relative_to(path.anchor))) if file.is_file()]
        if not found:
            raise DataError(f"{path}: no file matches")
    else:
        return [SourceFile(path)]
    kinds = {ending_of(file) for file in found}
    if len({format_of(file) for file in found}) > 1:
        raise DataError(
            f"{path}: files of several formats: {', '.join(sorted(kinds))}; a pattern in quotes, such as "
            f"'*{min(kinds)}', chooses those of one"
        )
    base = path if path.is_dir() else path.parent
    return [SourceFile(file, _values(file, base)) for file in sorted(found, key=_natural)]


def _check_inside(folder: Path, files: Sequence[Path]) -> None:
    """Raise `DataError` for a link that leads out of a folder, which may be another person's, to any file."""
    inside = folder.resolve()
    for file in files:
        if not file.resolve().is_relative_to(inside):
            raise DataError(
                f"{file}: is a link to a file outside {folder}, which is not followed; a pattern in quotes, such as "
                f"'{folder}/*{ending_of(file)}', reads through links"
            )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.parts)


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Return a key that sorts `run9` before `run10`, and `run=1` before `run=1.5`."""
    name = path.name[: len(path.name) - len(ending_of(path))]
    return [_natural_part(part) for part in (*path.parent.parts, name)]


def _natural_part(part: str) -> list[tuple[bool, int, str]]:
    pieces = re.split(r"(\d+)", part)
    return [(piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces]


def _values(file: Path, base: Path) -> dict[str, str]:
    folders = file.parent.relative_to(base) if file.is_relative_to(base) else file.parent
    pairs = [part.partition("=") for part in folders.parts]
    return {name: value for name, is_given, value in pairs if is_given}


def _folder_columns(
    request: ReadRequest, files: Sequence[SourceFile], columns: Container[str]
) -> dict[str, np.ndarray]:
    """Return the numbers that the folders of the files give, [n_files], besides the columns that these have."""
    names = files[0].values
    for file in files:
        if file.values.keys() != names.keys():
            raise DataError(f"{file.path}: its folders give {_listed(file.values)}, {files[0].path}: {_listed(names)}")
    found = {name: _numbers([file.values[name] for file in files]) for name in names if name not in columns}
    texts = [name for name, numbers in found.items() if numbers is None]
    request.rules.reading.left_out.update(dict.fromkeys(texts, "text in the names of folders"))
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def _numbers(words: Sequence[str]) -> np.ndarray | None:
    """Return words as integers, or as floats that hold each of them; None where they are no such numbers."""
    integers = [int(word) for word in words if _INTEGER.fullmatch(word)]
    if len(integers) == len(words):
        dtype = next((kind for kind in (np.int64, np.uint64) if all(_fits(number, kind) for number in integers)), None)
        return None if dtype is None else np.array(integers, dtype)
    if any("_" in word for word in words) or any(abs(number) > MAX_EXACT_FLOAT for number in integers):
        return None
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return None


def _fits(number: int, kind: type[np.integer]) -> bool:
    return np.iinfo(kind).min <= number <= np.iinfo(kind).max


def is_joined(files: Sequence[SourceFile], source: Path, keys: Sequence[str] = ()) -> bool:
    """Whether the files of a source are read as one, with columns that they do not have themselves.

    A pattern or folder of a single file is, where its column `file` is asked for.
    """
    return len(files) > 1 or bool(files[0].values) or (files[0].path != source and FILE in keys)


def holds_images(kind: Format, request: ReadRequest) -> bool:
    """Whether the first of several files holds images."""
    if kind.open_table is None:
        return True
    with naming_file(request.path), library_errors():
        return kind.holds_images is not None and kind.holds_images(request)


def joined_table(kind: Format, request: ReadRequest, files: Sequence[SourceFile]) -> Table:
    """Open the tables of several files as one, with a column `file` that counts the files from 0.

    Raises:
        DataError: their columns differ.
    """
    assert kind.open_table is not None  # `is_table`
    tables: list[Table] = []
    for file in files:
        with naming_file(file.path), library_errors():
            if kind.check_joined is not None:
                kind.check_joined(request._replace(path=file.path))
            tables.append(kind.open_table(request._replace(path=file.path)))
    columns = _common_columns(kind, tables, files)
    added = _folder_columns(request, files, columns)
    if len(files) > 1 or FILE in request.rules.keys:
        added[_free_name(FILE, {**columns, **added})] = np.arange(len(files))
    columns |= {name: Column(numbers.dtype, False, str(numbers.dtype)) for name, numbers in added.items()}

    starts: list[int] = []  # first row of each file that was read

    def place(row: int) -> str:
        number = max(bisect_right(starts, row) - 1, 0)
        own, within = tables[number].place, row - starts[number]
        return f"{files[number].path}, {own(within) if own is not None else f'row {within} (the first is 0)'}"

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        starts[:] = [0]
        n_read = 0
        stored = [name for name in names if name not in added]
        for number, (file, table) in enumerate(zip(files, tables, strict=True)):
            starts[number:] = [n_read]
            with naming_file(file.path):
                for block in guarded(table.read(stored)):
                    n_rows = _n_rows(block)
                    n_read += n_rows
                    found = {name: _of_type(name, block.get(name), columns[name], n_rows) for name in stored}
                    yield found | {name: np.full(n_rows, added[name][number]) for name in names if name in added}

    return Table("", columns, read, place, own_name=tables[0].own_name, delimiter=tables[0].delimiter)


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    while name in taken:
        name += "_"
    return name


def _common_columns(kind: Format, tables: Sequence[Table], files: Sequence[SourceFile]) -> dict[str, Column]:
    """Return the columns that all tables have; `DataError` where they differ in more than text leaves open."""
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        for name in first.columns.keys() ^ table.columns.keys():
            lacking = file.path if name in first.columns else files[0].path
            raise DataError(f"{lacking}: has no column {one_line(name)}, which the other files have")
    columns = {}
    for name in first.columns:
        found = [(table.columns[name], file.path) for table, file in zip(tables, files, strict=True)]
        columns[name] = _common_text(found) if kind.has_dialects else _same_type(name, found)
    return columns


def _same_type(name: str, found: Sequence[tuple[Column, Path]]) -> Column:
    known, known_path = found[0]
    for column, path in found:
        if (column.is_list, column.dtype) != (known.is_list, known.dtype):
            raise DataError(
                f"{path}: column {one_line(name)} is of type {one_line(column.shown)}, in {known_path} of "
                f"{one_line(known.shown)}"
            )
    return known


def _common_text(found: Sequence[tuple[Column, Path]]) -> Column:
    """Return the type of a column whose values in all files together decide on it, as those of one file do."""
    for column, path in found:
        if column.problem is not None and column.has_values:

            def problem(column: Column = column, path: Path = path) -> str:
                assert column.problem is not None  # checked above
                return f"{path}, {column.problem()}"

            return column._replace(problem=problem)
    decisive = [column for column, _ in found if column.has_values] or [found[0][0]]
    kinds = {column.dtype for column in decisive}
    if any(column.dtype is None for column, _ in found):  # all its values are missing in a file
        kinds.add(np.dtype(np.float64))
    if len(kinds) == 1:
        return decisive[0]._replace(dtype=kinds.pop())
    if np.dtype(bool) in kinds or None in kinds:
        shown = " and ".join(dict.fromkeys(column.shown for column in decisive))
        return Column(None, False, f"{shown}, of one or another file")
    dtype = np.dtype(np.uint64 if all(kind is not None and kind.kind in "iu" for kind in kinds) else np.float64)
    return Column(dtype, False, str(dtype))


def _of_type(name: str, values: np.ndarray | Lists | None, column: Column, n_rows: int) -> np.ndarray | Lists:
    """Return the values of a file in the type that the column has in all files; NaN where all are missing."""
    if values is None:
        return np.full(n_rows, np.nan)
    if isinstance(values, Lists) or column.dtype is None or values.dtype.kind == column.dtype.kind:
        return values
    is_lost = values < 0 if column.dtype.kind == "u" else (values < -MAX_EXACT_FLOAT) | (values > MAX_EXACT_FLOAT)
    if values.dtype.kind in "iu" and is_lost.any():
        raise DataError(
            f"column {one_line(name)} = {values[int(is_lost.argmax())]} cannot be held exactly as {column.dtype}, "
            "which the values in other files need; --columns.further chooses the columns to read"
        )
    return values.astype(column.dtype)


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(values) or "no columns"


def _n_rows(block: Rows) -> int:
    values = next(iter(block.values()))
    return len(values.counts) if isinstance(values, Lists) else len(values)


def joined_images(kind: Format, request: ReadRequest, files: Sequence[SourceFile]) -> Iterator[Events]:
    """Yield the events of files of images, numbered through."""
    assert kind.read is not None  # formats of images have it
    n_before = 0
    added = _folder_columns(request, files, ())
    for number, file in enumerate(files):
        n_here = 0
        with naming_file(file.path):
            for events in kind.read(request._replace(path=file.path)):
                numbers = events.event_columns["event"] + n_before
                n_here += events.n_events
                folders = {name: np.full(events.n_events, values[number]) for name, values in added.items()}
                yield events._replace(event_columns={**folders, **events.event_columns, "event": numbers})
        n_before += n_here
