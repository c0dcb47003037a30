"""Describe a file of another program: its tables, their columns, and the options that read it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.proposal import guess, proposed
from tofae_jax.data.files.read import check_decimal, read_events
from tofae_jax.data.files.registry import ending_of, format_of, readable_endings
from tofae_jax.data.files.several import SourceFile, is_joined, joined_table, source_files
from tofae_jax.data.files.tables import Column, HitRules, Reading, SeveralTables, Table

_SHOWN = 60
_LIMITS = Limits()


class _Source(NamedTuple):
    """What is described."""

    path: Path
    kind: Format
    files: Sequence[SourceFile]
    request: ReadRequest

    def opened(self, chosen: dict[str, str], **changes: Any) -> Table:
        """Open the table that is `chosen` by its `tree` or `array`, with other rules."""
        request = self.request._replace(rules=self.request.rules._replace(**changes), **chosen)
        with library_errors():
            if is_joined(self.files, self.path):
                return joined_table(self.kind, request, self.files)
            assert self.kind.open_table is not None  # else nothing is opened
            return self.kind.open_table(request)


def describe_file(
    path: Path, *, detector: Detector, decimal: Literal[".", ","] = ".", limits: Limits = _LIMITS
) -> list[str]:
    """Describe a file, line by line.

    Where columns of a table look like hits, options that read it are proposed, and tried: the file is read through.

    Args:
        path: what `read_events` reads.
        detector: bounds of the hits.
        decimal: decimal point of text.
        limits: what the file may ask for.

    Raises:
        DataError: the file cannot be read.
    """
    files = source_files(path)
    kind = format_of(files[0].path)
    if not files[0].path.is_file():
        raise DataError(f"{files[0].path}: does not exist")
    if kind is None:
        raise DataError(f"{path}: unknown ending {ending_of(path)!r}; known are {', '.join(readable_endings())}")
    check_decimal(path, kind, decimal)
    size = sum(file.path.stat().st_size for file in files) / 1e6
    lines = [f"source       {path} ({len(files)} file{'s' * (len(files) > 1)}, {kind.description}, {size:.3g} MB)"]
    rules = HitRules(detector, {name: name for name in "xyt"}, ("event",), None, "pixels", "edge", Reading(), decimal)
    source = _Source(path, kind, files, ReadRequest(files[0].path, None, None, 1_000_000, rules, limits))
    with naming_file(path):
        import_libraries(kind, ending_of(files[0].path))
        found = [] if kind.open_table is None else [*_tables(source)]
        for chosen, table in found:
            lines += _table(source, chosen, table)
    return lines if found else lines + _images(path, detector, limits)


def _tables(source: _Source) -> Iterator[tuple[dict[str, Any], Table | DataError]]:
    """Yield the options that choose and open each table of a file, and the table; none where it holds images."""
    try:
        yield _opened(source, {})
    except SeveralTables as several:
        for name in several.tables:
            try:
                yield _opened(source, {several.option: name})
            except DataError as error:
                yield {several.option: name}, error
    except DataError:
        if "images" not in source.kind.holds:
            raise


def _opened(source: _Source, chosen: dict[str, str]) -> tuple[dict[str, Any], Table]:
    """Open a table, text with the decimal comma that it needs; where columns may be of hits or events, as of events."""
    kind, decimal = source.kind, source.request.rules.decimal
    options: dict[str, Any] = dict(chosen)
    changes: dict[str, Any] = {}
    if kind.column_names is not None:  # the columns depend on which of them are the hits
        with library_errors():
            names = dict.fromkeys(kind.column_names(source.request._replace(**chosen)))
        changes["names"] = {name: guess(name, names) or name for name in "xyt"}
        changes["keys"] = (guess("event", names) or "event",)
    try:
        table = source.opened(chosen, **changes)
    except DataError:
        if not kind.has_offsets:
            raise
        options["per"] = changes["per"] = "event"
        table = source.opened(chosen, **changes)
    hits = [name for part in "xyt" if (name := guess(part, table.columns)) is not None]
    if decimal == "." and kind.has_dialects and any(_is_text(table.columns[name]) for name in hits):
        other = source.opened(chosen, **changes, decimal=",")
        if not any(_is_text(other.columns[name]) for name in hits):
            table, decimal = other, ","
    return options if decimal == "." else options | {"decimal": decimal}, table


def _is_text(column: Column) -> bool:
    return column.dtype is None and column.has_values


def _images(path: Path, detector: Detector, limits: Limits) -> list[str]:
    n_events = n_hits = 0
    for events in read_events(path, detector=detector, limits=limits):
        n_events, n_hits = n_events + events.n_events, n_hits + events.n_hits
    return [f"images       {n_events}, {detector.n_x} x {detector.n_y} pixels, {n_hits} hits"]


def _table(source: _Source, chosen: dict[str, Any], table: Table | DataError) -> list[str]:
    if isinstance(table, DataError):
        ((option, name),) = chosen.items()
        if option == "array":
            return [f"images       {one_line(name)}", f"  options    --array {shlex.quote(name)}"]
        return [f"table        {one_line(name)}", f"  {table}"]
    name = chosen.get("array") or table.name or "the only one"
    lines = [f"table        {one_line(name)}"]
    for name, column in [*table.columns.items()][:_SHOWN]:
        per = " a list per row" if column.is_list else ""
        lines.append(f"  {one_line(name)}: {one_line(column.shown)}{per}")
    if len(table.columns) > _SHOWN:
        lines.append(f"  ... and {len(table.columns) - _SHOWN} more")
    return lines + proposed(source.path, table, chosen, source.request)
