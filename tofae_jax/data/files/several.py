"""Read several files as one: a pattern such as `run*.root`, or a folder of files, partitioned or not."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.event_keys import FILE
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.registry import ending_of, format_of, readable_endings
from tofae_jax.data.files.tables import Column, Lists, Rows, Table, guarded

_WILD = re.compile(r"[*?\[]")
_HIDDEN = (".", "_")
"""begin the names of files that are no data, such as `_SUCCESS`"""


class SourceFile(NamedTuple):
    """One of several files."""

    path: Path
    values: dict[str, int | float] = {}
    """numbers that the names of its folders give, `NAME=VALUE`"""


def source_files(path: Path) -> list[SourceFile]:
    """Return the files of a path: itself, those that a pattern matches, or those in a folder and the folders in it.

    Raises:
        DataError: there are none, or they are of different formats.
    """
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))]
        found = [file for file in found if format_of(file) is not None]
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
            f"{path}: files of several formats: {', '.join(sorted(kinds))}; {', '.join(readable_endings())}"
        )
    base = path if path.is_dir() else path.parent
    return [SourceFile(file, _values(file, base)) for file in sorted(found, key=_natural)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.parts)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Return a key that sorts `run9` before `run10`."""
    parts = re.split(r"(\d+)", str(path))
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _values(file: Path, base: Path) -> dict[str, int | float]:
    values: dict[str, int | float] = {}
    for part in file.parent.parts if not file.is_relative_to(base) else file.parent.relative_to(base).parts:
        name, is_given, value = part.partition("=")
        if is_given:
            for kind in (int, float):
                try:
                    values[name] = kind(value)
                    break
                except ValueError:
                    continue
    return values


def joined_table(kind: Format, request: ReadRequest, files: Sequence[SourceFile]) -> Table:
    """Open the tables of several files as one, with a column `file` that counts the files from 0.

    Raises:
        DataError: their columns differ.
    """
    assert kind.open_table is not None  # `is_table`
    tables: list[Table] = []
    for file in files:
        with naming_file(file.path), library_errors():
            tables.append(kind.open_table(request._replace(path=file.path)))
    first, values = tables[0], files[0].values
    for file, table in zip(files, tables, strict=True):
        if file.values.keys() != values.keys():
            raise DataError(f"{file.path}: its folders give {_listed(file.values)}, {files[0].path}: {_listed(values)}")
        for name in first.columns.keys() ^ table.columns.keys():
            lacking = file.path if name in first.columns else files[0].path
            raise DataError(f"{lacking}: has no column {one_line(name)}, which the other files have")
        for name, column in table.columns.items():
            known = first.columns[name]
            if (column.is_list, column.dtype) != (known.is_list, known.dtype):
                raise DataError(
                    f"{file.path}: column {one_line(name)} is of type {one_line(column.shown)}, in {files[0].path} of "
                    f"{one_line(known.shown)}"
                )
    added = {name: np.array(value).dtype for name, value in values.items() if name not in first.columns}
    if FILE not in first.columns and len(files) > 1:
        added[FILE] = np.dtype(np.int64)
    columns = {**first.columns, **{name: Column(dtype, False, str(dtype)) for name, dtype in added.items()}}

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
            constant = {**file.values, FILE: number}
            with naming_file(file.path):
                for block in guarded(table.read(stored)):
                    n_rows = _n_rows(block)
                    n_read += n_rows
                    extra = {name: np.full(n_rows, constant[name], added[name]) for name in names if name in added}
                    yield {**block, **extra}

    return Table("", columns, read, place, own_name=first.own_name, delimiter=first.delimiter)


def _listed(values: dict[str, int | float]) -> str:
    return ", ".join(values) or "no columns"


def _n_rows(block: Rows) -> int:
    values = next(iter(block.values()))
    return len(values.counts) if isinstance(values, Lists) else len(values)


def joined_images(kind: Format, request: ReadRequest, files: Sequence[SourceFile]) -> Iterator[Events]:
    """Yield the events of files of images, numbered through."""
    assert kind.read is not None  # formats of images have it
    n_before = 0
    for file in files:
        n_here = 0
        with naming_file(file.path):
            for events in kind.read(request._replace(path=file.path)):
                numbers = events.event_columns["event"] + n_before
                n_here += events.n_events
                yield events._replace(event_columns={**events.event_columns, "event": numbers})
        n_before += n_here
