"""Propose the options that read a table of another program, by the names of its columns and what they hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tofae_jax.data.events import DataError
from tofae_jax.data.files.event_keys import run_columns
from tofae_jax.data.files.format import ReadRequest
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Lists, Reading, Table, guarded

_GUESSES = {
    name: words.split()
    for name, words in {
        "event": "event eventid eventnumber evt evtid evtno eventno evno entry ievt trigger",
        "x": "x posx xpos hitx hitsx xmm posxmm px pixelx xpixel ix col column",
        "y": "y posy ypos hity hitsy ymm posymm py pixely ypixel iy row",
        "t": "t time toa tof tdc hitt hitst tns timens toans hittime arrivaltime timestamp timebin bin",
    }.items()
}
"""usual names, in lower case and of letters and digits alone, the likeliest first"""
_LENGTH_OR_TIME = re.compile(r"(?<![a-z])(mm|ns)(?![a-z])")


def guess(name: str, columns: Mapping[str, object]) -> str | None:
    """Return the column that is likely to be `event`, `x`, `y` or `t`; None where none is."""
    if name in columns:
        return name
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed([*columns])}
    momenta = {"px", "py"} if "pz" in plain else set()
    return next((plain[word] for word in _GUESSES[name] if word in plain and word not in momenta), None)


def proposed(path: Path, table: Table, chosen: Mapping[str, Any], request: ReadRequest) -> list[str]:
    """Return what a table holds and the options that read it, line by line.

    Args:
        path: what `read_events` reads.
        table: a table in it.
        chosen: options of `read_events` with which the table was opened.
        request: which file was opened, with the detector and the limits.
    """
    names = {name: column for name in _GUESSES if (column := guess(name, table.columns)) is not None}
    if missing := [name for name in "xyt" if name not in names]:
        return [f"  no column looks like {', '.join(missing)}: name it with --columns.{missing[0]} NAME"]
    texts = [names[name] for name in "xyt" if table.columns[names[name]].dtype is None]
    if texts:
        return [f"  {', '.join(texts)}: no numbers, so that they cannot be the hits; --columns.x, y and t name others"]
    found = _contents(table, names)
    is_list = table.columns[names["x"]].is_list
    options = dict(chosen) | {"columns": {name: column for name, column in names.items() if name != column}}
    if found.unfit:
        options["further"] = found.fitting
    remark = ""
    if _is_physical(table, names):
        is_centred = any(bounds and min(bounds) < 0 for bounds in (found.ranges["x"], found.ranges["y"]))
        options |= {"units": "physical"} | ({"origin": "centre"} if is_centred else {})
        remark = " (if these are mm and ns)"
    if "event" not in names and is_list:
        options["columns"]["event"] = ""
    elif "event" not in names:
        words = f"{_words(options)} --columns.event NAME".strip()
        return [str(found), f"  options    {words} (no column looks like event numbers){remark}"]
    options, problem = _tried(path, table, options, names, request)
    return [str(found), f"  options    {_words(options) or 'none needed'}{remark}", *problem]


def _tried(
    path: Path, table: Table, options: dict[str, Any], names: Mapping[str, str], request: ReadRequest
) -> tuple[dict[str, Any], list[str]]:
    """Return the first of several options that read the file, else the first; and lines that say what is not read."""
    event = names.get("event")
    keys = [f"{run},{event}" for run in run_columns(table.columns) if run != event] if event is not None else []
    candidates = [options, *(options | {"columns": options["columns"] | {"event": key}} for key in keys)]
    problems = []
    detector, limits = request.rules.detector, request.limits
    for candidate in candidates:
        reading = Reading()
        try:
            for _ in read_events(path, detector=detector, reading=reading, limits=limits, **candidate):
                pass
        except DataError as error:
            problems.append(str(error).removeprefix(f"{path}: "))
            if "--columns.event" not in problems[-1]:
                break  # another key does not help
        else:
            return candidate, [f"  outside    {reading.tally}"] * (reading.tally.n_outside > 0)
    return options, [f"  problem    with these options: {problems[0]}"]


def _is_physical(table: Table, names: Mapping[str, str]) -> bool:
    columns = [names[name] for name in "xyt"]
    kinds = [table.columns[column].dtype for column in columns]
    is_float = any(kind is not None and kind.kind == "f" for kind in kinds)
    has_values = any(table.columns[column].has_values for column in columns)
    return (is_float and has_values) or any(_LENGTH_OR_TIME.search(column.lower()) for column in columns)


def _words(options: Mapping[str, Any]) -> str:
    """Return options of `read_events` as they are typed."""
    words = []
    for name, value in options.items():
        if name == "columns":
            words += [f"--columns.{part} {shlex.quote(column)}" for part, column in value.items()]
        elif name == "further":
            words.append(f"--columns.further {shlex.quote(','.join(value)) if value else 'none'}")
        elif name == "per":
            words.append(f"--columns.per {value}")
        else:
            words.append(f"--{name} {shlex.quote(value)}")
    return " ".join(words)


class _Contents(NamedTuple):
    """What the columns of a table hold."""

    names: Mapping[str, str]
    n_rows: int
    n_hits: int
    ranges: dict[str, list[float]]
    """least and largest values, block by block"""
    unfit: set[str]
    """columns of lists that are not as long as those of the hits"""
    fitting: list[str]
    """columns of numbers besides the hits that are"""

    def __str__(self) -> str:
        shown = ", ".join(f"{self.names[name]} {min(b):g} to {max(b):g}" for name, b in self.ranges.items() if b)
        return f"  rows       {self.n_rows}, hits {self.n_hits}{': ' * bool(shown)}{shown}"


def _contents(table: Table, names: Mapping[str, str]) -> _Contents:
    """Count rows and hits, and find the ranges of the coordinates and which lists are as long as them."""
    n_rows = n_hits = 0
    ranges: dict[str, list[float]] = {name: [] for name in "xyt"}
    unfit: set[str] = set()
    wanted = dict.fromkeys(names[name] for name in "xyt")
    others = [
        name
        for name, column in table.columns.items()
        if column.is_list and column.dtype is not None and name not in wanted and not name.startswith("track.")
    ]
    others = others if table.columns[names["x"]].is_list else []
    with closing(table.read([*wanted, *others])) as rows:
        for block in guarded(rows):
            hits = block[names["x"]]
            counts = hits.counts if isinstance(hits, Lists) else hits
            for name, bounds in ranges.items():
                column = block[names[name]]
                values = column.values if isinstance(column, Lists) else column
                finite = values[np.isfinite(values)]
                if len(finite):
                    bounds += [float(finite.min()), float(finite.max())]
            n_rows += len(counts)
            n_hits += len(hits.values) if isinstance(hits, Lists) else len(hits)
            lists = {name: column for name in others if isinstance(column := block[name], Lists)}
            unfit |= {name for name, column in lists.items() if not np.array_equal(column.counts, counts)}
    used = {*names.values(), *unfit}
    numbers = [name for name, column in table.columns.items() if column.dtype is not None and column.problem is None]
    fitting = [name for name in numbers if name not in used and "," not in name]
    return _Contents(names, n_rows, n_hits, ranges, unfit, fitting)
