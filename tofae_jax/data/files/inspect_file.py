"""Describe a file of another program: its tables, their columns, and the options that read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import library_errors, naming_file
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import ending_of, format_of, readable_endings
from tofae_jax.data.files.several import joined_table, source_files
from tofae_jax.data.files.tables import HitRules, Lists, Reading, SeveralTables, Table, guarded

_GUESSES = {
    "event": (
        "event",
        "eventid",
        "eventnumber",
        "evt",
        "evtid",
        "evtno",
        "eventno",
        "evno",
        "entry",
        "ievt",
        "trigger",
    ),
    "x": ("x", "posx", "xpos", "hitx", "xmm", "px", "pixelx", "xpixel", "ix", "col", "column"),
    "y": ("y", "posy", "ypos", "hity", "ymm", "py", "pixely", "ypixel", "iy", "row"),
    "t": ("t", "time", "toa", "tof", "tdc", "tns", "timens", "hittime", "arrivaltime", "timestamp", "timebin", "bin"),
}
"""usual names, in lower case and of letters and digits alone, the likeliest first"""
_SHOWN = 60


def describe_file(path: Path, *, detector: Detector, decimal: str = ".") -> list[str]:
    """Describe a file, line by line.

    Args:
        path: what `read_events` reads.
        detector: bounds of images; tables are described as they are.
        decimal: decimal point of text.

    Raises:
        DataError: the file cannot be read.
    """
    files = source_files(path)
    kind = format_of(files[0].path)
    if not files[0].path.is_file():
        raise DataError(f"{files[0].path}: does not exist")
    if kind is None:
        raise DataError(f"{path}: unknown ending {ending_of(path)!r}; known are {', '.join(readable_endings())}")
    size = sum(file.path.stat().st_size for file in files) / 1e6
    lines = [f"source       {path} ({len(files)} file{'s' * (len(files) > 1)}, {kind.description}, {size:.3g} MB)"]
    names = {name: name for name in "xyt"}
    rules = HitRules(detector, names, ("event",), None, "pixels", "edge", Reading(), decimal)
    request = ReadRequest(files[0].path, None, None, 1_000_000, rules)
    with naming_file(files[0].path):
        import_libraries(kind, ending_of(files[0].path))
        if kind.open_table is None:
            return lines + _images(path, detector)
        if len(files) > 1 or files[0].values:
            tables = [joined_table(kind, request, files)]
        else:
            tables = [*_tables(kind, request)]
    if not tables:
        return lines + _images(path, detector)
    several = len(tables) > 1
    return lines + [line for table in tables for line in _table(table, several=several)]


def _tables(kind: Format, request: ReadRequest) -> Iterator[Table]:
    """Yield all tables of a file; none where it holds images."""
    assert kind.open_table is not None  # the caller has checked it
    try:
        with library_errors():
            yield kind.open_table(request)
    except SeveralTables as several:
        for name in several.tables:
            with library_errors():
                yield kind.open_table(request._replace(tree=name))
    except DataError:
        if "images" not in kind.holds:
            raise


def _images(path: Path, detector: Detector) -> list[str]:
    n_events = n_hits = 0
    for events in read_events(path, detector=detector):
        n_events, n_hits = n_events + events.n_events, n_hits + events.n_hits
    return [f"images       {n_events}, {detector.n_x} x {detector.n_y} pixels, {n_hits} hits"]


def _table(table: Table, *, several: bool) -> list[str]:
    lines = [f"table        {table.name or 'the only one'}"]
    for name, column in [*table.columns.items()][:_SHOWN]:
        per = " a list per row" if column.is_list else ""
        lines.append(f"  {one_line(name)}: {one_line(column.shown)}{per}")
    if len(table.columns) > _SHOWN:
        lines.append(f"  ... and {len(table.columns) - _SHOWN} more")
    found = {name: guess(name, table.columns) for name in _GUESSES}
    missing = [name for name in "xyt" if found[name] is None]
    if missing:
        return [*lines, f"  no column looks like {', '.join(missing)}: name it with --columns.{missing[0]} NAME"]
    names = {name: column for name, column in found.items() if column is not None}
    contents, ranges = _contents(table, names)
    is_centred = any(bounds and min(bounds) < 0 for bounds in (ranges["x"], ranges["y"]))
    options = _options(table, names, several=several, is_centred=is_centred)
    return [*lines, *contents, f"  options    {options}"]


def guess(name: str, columns: Mapping[str, object]) -> str | None:
    """Return the column that is likely to be `event`, `x`, `y` or `t`; None where none is."""
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed([*columns])}
    if name in columns:
        return name
    return next((plain[word] for word in _GUESSES[name] if word in plain), None)


def _options(table: Table, names: Mapping[str, str], *, several: bool, is_centred: bool) -> str:
    words = [f"--tree {table.own_name}"] if several else []
    words += [f"--columns.{name} {column}" for name, column in names.items() if name != column]
    is_list = table.columns[names["x"]].is_list
    if "event" not in names:
        words.append("--columns.event ''" if is_list else "--columns.event NAME (no column looks like event numbers)")
    kinds = {table.columns[names[name]].dtype for name in "xyt"}
    if any(kind is not None and kind.kind == "f" for kind in kinds):
        words.append(f"--units physical{' --origin centre' * is_centred} (if these are mm and ns)")
    return " ".join(words) or "none needed"


def _contents(table: Table, names: Mapping[str, str]) -> tuple[list[str], dict[str, list[float]]]:
    """Count rows and hits, and find the ranges of the coordinates."""
    n_rows = n_hits = 0
    ranges: dict[str, list[float]] = {name: [] for name in "xyt"}
    wanted: Sequence[str] = list(dict.fromkeys(names[name] for name in "xyt"))
    if any(table.columns[column].dtype is None for column in wanted):
        return [], ranges
    with closing(table.read(wanted)) as rows:
        for block in guarded(rows):
            for name, bounds in ranges.items():
                column = block[names[name]]
                values = column.values if isinstance(column, Lists) else column
                if name == "x":
                    n_rows += len(column.counts) if isinstance(column, Lists) else len(column)
                    n_hits += len(values)
                finite = values[np.isfinite(values)]
                if len(finite):
                    bounds += [float(finite.min()), float(finite.max())]
    shown = ", ".join(f"{names[name]} {min(b):g} to {max(b):g}" for name, b in ranges.items() if b)
    return [f"  rows       {n_rows}, hits {n_hits}{': ' * bool(shown)}{shown}"], ranges
