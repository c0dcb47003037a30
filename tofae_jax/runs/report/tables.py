"""Numbers of one or many runs as tables: CSV for programs, XLSX for spreadsheets."""

from __future__ import annotations

import csv
import gc
import io
import math
import re
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tofae_jax.config import leaves
from tofae_jax.data.storage.atomic import replacing_output
from tofae_jax.plots.labels import QUALITIES

Cell = str | int | float | bool | None

# "Excel specifications and limits", support.microsoft.com; lengths in UTF-16 code units
MAX_SHEET_NAME, MAX_CELL_TEXT = 31, 32_767
MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
_RESERVED_SHEET_NAMES = {"history"}
_LARGEST_EXACT = 2**53  # spreadsheets keep numbers as float64

_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # "CSV Injection", owasp.org
_NOT_IN_SHEET_NAMES = re.compile("[\\[\\]:*?/\\\\\u0000-\u001f\u007f-\u009f]")
_NOT_AT_ENDS = re.compile(r"^[\s']+|[\s']+$")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2

_RUN, _EPOCH, _INTERVALS = "run", "epoch", "intervals"
_OTHER_LOW_IS_GOOD = {
    "loss",
    "noise_left",
    "noise_made",
    "not_finite",
    "false_positives",
    "false_negatives",
    "calibration_error",
}
_OTHER_HIGH_IS_GOOD = {
    "true_positives",
    "true_positives_xy",
    "true_positives_tof",
    "true_positives_tof_near",
    "average_precision",
    "best_f1",
}
# orange against blue looks different to everybody: Okabe and Ito, "Color Universal Design" (2008)
BAD, MIDDLE, GOOD = "E69F00", "FFFFFF", "56B4E9"
_WIDTHS = (9, 40)  # of columns, in digits: narrowest and widest
_PLAIN = (1e-3, 1e6)  # numbers between these are written without an exponent


class RunNumbers(NamedTuple):
    """What tables tell of one run."""

    run_id: str
    about: Mapping[str, Any]
    """what it was: status, data, model, settings, times in s; nested or not"""
    test: Mapping[str, Any] | None = None
    """numbers of its test, as `metrics.compute` gives them; an `intervals` subtree of the same form may hold
    `[low, high]` of some"""
    history: Sequence[Mapping[str, Any]] = ()
    """records of its epochs, in order"""


class NumberTable(NamedTuple):
    """Rows of cells beneath the names of the columns."""

    columns: list[str]
    rows: list[list[Cell]]


def flat_cells(tree: Mapping[str, Any]) -> dict[str, Cell]:
    """Return the texts and numbers of nested dicts by dotted name, in order.

    Lists are left out, NaN and infinities are None, scalars of array libraries become plain ones, and other objects
    their text. `{"f1": 0.5, "intervals": {"f1": [0.4, 0.6]}}` becomes `f1`, `f1.low`, `f1.high`; an interval of a
    number that is not there comes last.
    """
    found: dict[str, Cell] = {}
    bounds: dict[str, dict[str, Cell]] = {}
    for name, value in leaves(tree):
        *sections, last = name.split(".")
        if _INTERVALS in sections:
            sections.remove(_INTERVALS)
            of = ".".join([*sections, last])
            if isinstance(value, Iterable) and len(ends := list(value)) == 2:
                low, high = map(_cell, ends)
                bounds[of] = {f"{of}.low": low, f"{of}.high": high}
        elif getattr(value, "ndim", None) == 0 or isinstance(value, str) or not isinstance(value, Iterable):
            found[name] = _cell(value)
    ordered: dict[str, Cell] = {}
    for name, value in found.items():
        ordered |= {name: value} | bounds.pop(name, {})
    for left_over in bounds.values():
        ordered |= left_over
    return ordered


def _cell(value: Any) -> Cell:
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _table(records: Sequence[Mapping[str, Cell]]) -> NumberTable:
    """All columns of all records; one that a later record adds stands behind what it follows there."""
    columns: list[str] = []
    for record in records:
        after = 0
        for name in record:
            if name not in columns[after:]:
                if name in columns:
                    continue
                columns.insert(after, name)
            after = columns.index(name, after) + 1
    return NumberTable(columns, [[record.get(name) for name in columns] for record in records])


def result_table(runs: Sequence[RunNumbers]) -> NumberTable:
    """One row per run: its id (`run`), what it was, and its test, in the union of all runs' columns.

    What is missing, NaN or infinite is None. A name of `about` that a test has too is written as `about.NAME`.
    """
    tests = [flat_cells(run.test or {}) for run in runs]
    taken = {_RUN}.union(*tests)
    abouts = [
        {f"about.{name}" if name in taken else name: cell for name, cell in flat_cells(run.about).items()}
        for run in runs
    ]
    before, numbers = _table(abouts), _table(tests)
    rows = zip(runs, before.rows, numbers.rows, strict=True)
    columns = [_RUN, *before.columns, *numbers.columns]
    return NumberTable(columns, [[run.run_id, *about, *test] for run, about, test in rows])


def history_table(runs: Sequence[RunNumbers]) -> NumberTable:
    """One row per epoch of each run: `run`, `epoch`, then all numbers of its record, as in `result_table`."""
    table = _table(
        [
            {_RUN: run.run_id, _EPOCH: None} | flat_cells(record) | {_RUN: run.run_id}
            for run in runs
            for record in run.history
        ]
    )
    return table if table.columns else NumberTable([_RUN, _EPOCH], [])


def _checked(path: str | Path, ending: str) -> Path:
    path = Path(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"{path}: this table needs a name that ends in {ending!r}, not in {path.suffix!r}")
    return path


def _csv_cell(cell: Cell) -> str | int | float | None:
    if isinstance(cell, bool):
        return str(cell).lower()
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell


def _write_csv(path: str | Path, table: NumberTable, *, overwrite: bool) -> Path:
    path = _checked(path, ".csv")
    with (
        replacing_output(path, overwrite=overwrite) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        csv.writer(file).writerows([_csv_cell(cell) for cell in row] for row in [table.columns, *table.rows])
    return path


def write_csv(path: str | Path, runs: Sequence[RunNumbers], *, overwrite: bool = True) -> Path:
    """Write `result_table` as CSV, completely or not at all; returns its path.

    RFC 4180 in UTF-8; numbers come back exactly, None is an empty field. A text that a spreadsheet could run as a
    formula (it begins with `=`, `+`, `-`, `@`, their full-width forms, a tab or a line break) gets an apostrophe before
    it. Raises `ValueError` for a name that does not end in `.csv`.
    """
    return _write_csv(path, result_table(runs), overwrite=overwrite)


def write_history_csv(path: str | Path, runs: Sequence[RunNumbers], *, overwrite: bool = True) -> Path:
    """Write `history_table` as `write_csv` does; returns its path."""
    return _write_csv(path, history_table(runs), overwrite=overwrite)


def _clipped(text: str, most: int) -> str:
    """The text's beginning, in at most that many UTF-16 code units, no character torn."""
    return text.encode("utf-16-le")[: 2 * most].decode("utf-16-le", errors="ignore")


def sheet_names(names: Sequence[str]) -> list[str]:
    """A name for a spreadsheet's sheet for each of any texts, in order: allowed, and unlike the others in any case.

    A name that is allowed and new stays as it is. Otherwise what is not allowed (``[]:*?/\\``, control characters, an
    apostrophe or space at either end, the reserved "History", more than 31 letters) goes, nothing left is "run", and a
    name that was there before ends in "~2", "~3", ...
    """
    used = set(_RESERVED_SHEET_NAMES)
    made = []
    for name in names:
        allowed = _NOT_AT_ENDS.sub("", _NOT_IN_SHEET_NAMES.sub("", _NOT_XML.sub("", name)))
        base = _NOT_AT_ENDS.sub("", _clipped(allowed, MAX_SHEET_NAME)) or "run"
        unique, number = base, 1
        while (key := unicodedata.normalize("NFKC", unique).casefold()) in used:
            number += 1
            suffix = f"~{number}"
            unique = _clipped(base, MAX_SHEET_NAME - len(suffix)) + suffix
        used.add(key)
        made.append(unique)
    return made


def is_low_good(name: str) -> bool | None:
    """Whether less of a metric is better, by its dotted name; None where neither is, or nobody knows."""
    last = name.rpartition(".")[2]
    if last in QUALITIES:
        return QUALITIES[last].less_is_better
    return True if last in _OTHER_LOW_IS_GOOD else False if last in _OTHER_HIGH_IS_GOOD else None


def _xlsx_cell(cell: Cell) -> Cell:
    if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) > _LARGEST_EXACT:
        return str(cell)
    if isinstance(cell, str):
        cell = _NOT_XML.sub("", cell) or None
        if cell and len(cell.encode("utf-16-le")) > 2 * MAX_CELL_TEXT:
            return f"{_clipped(cell, MAX_CELL_TEXT - 1)}…"
    return cell


def _number_format(name: str, cells: Iterable[Cell]) -> str:
    """How a column's numbers are shown; the cells hold them in full."""
    numbers = [abs(cell) for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool) and cell]
    if all(isinstance(number, int) for number in numbers):
        return "#,##0"
    if name.endswith(("_s", "_percent", "_db")):
        return "#,##0.00"
    return "0.0000" if min(numbers) >= _PLAIN[0] and max(numbers) < _PLAIN[1] else "0.000E+00"


def _fill_sheet(sheet: Any, table: NumberTable) -> None:
    """Write a table with a bold header that stays in view, number formats and fitting widths."""
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for i, row in enumerate([table.columns, *table.rows], start=1):
        for j, value in enumerate(map(_xlsx_cell, row), start=1):
            cell = sheet.cell(i, j, value)
            if isinstance(value, str):
                cell.data_type = "s"  # and not a formula or an error
    for j, name in enumerate(table.columns, start=1):
        cells = [row[j - 1] for row in table.rows]
        sheet.cell(1, j).font = Font(bold=True)
        number_format = _number_format(name, cells)
        for i, cell in enumerate(cells, start=2):
            if isinstance(cell, int | float) and not isinstance(cell, bool):
                sheet.cell(i, j).number_format = number_format
        texts = [cell for cell in cells if isinstance(cell, str)]
        width = max(len(text) for text in [name, *texts]) + 2
        sheet.column_dimensions[get_column_letter(j)].width = min(max(width, _WIDTHS[0]), _WIDTHS[1])
    sheet.freeze_panes = "B2"


def _colour_metrics(sheet: Any, table: NumberTable) -> None:
    """Blue is the best of a column, orange the worst, where it is known which is which; values of one loss alone."""
    from openpyxl.formatting.rule import ColorScaleRule
    from openpyxl.utils import get_column_letter

    losses = {row[j] for row in table.rows for j, name in enumerate(table.columns) if name == "validation_loss"}
    for j, name in enumerate(table.columns, start=1):
        low_is_good = is_low_good(name)
        if low_is_good is None or not table.rows or (name == "loss" and len(losses) > 1):
            continue
        lowest, highest = (GOOD, BAD) if low_is_good else (BAD, GOOD)
        rule = ColorScaleRule(
            start_type="min",
            start_color=lowest,
            mid_type="percentile",
            mid_value=50,
            mid_color=MIDDLE,
            end_type="max",
            end_color=highest,
        )
        letter = get_column_letter(j)
        sheet.conditional_formatting.add(f"{letter}2:{letter}{len(table.rows) + 1}", rule)


def _check_limits(name: str, table: NumberTable) -> None:
    for what, n, most in (("rows", len(table.rows) + 1, MAX_ROWS), ("columns", len(table.columns), MAX_COLUMNS)):
        if n > most:
            raise ValueError(f"{name}: {n} {what}, but a sheet holds at most {most}: write CSV instead")


def _forget(error: BaseException) -> None:
    """Close what an error left half written, now and quietly: else it complains whenever it is forgotten."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
    finally:
        sys.unraisablehook = hook


def check_can_write_xlsx() -> None:
    """Check that the library that writes spreadsheets is there.

    Raises:
        ModuleNotFoundError: it is not; the message says how to install it.
    """
    try:
        import_module("openpyxl")
    except ModuleNotFoundError:  # or what it needs itself is missing
        raise ModuleNotFoundError(
            "XLSX tables need openpyxl: pip install 'tofae-jax[report]'", name="openpyxl"
        ) from None


def write_xlsx(path: str | Path, runs: Sequence[RunNumbers], *, overwrite: bool = True) -> Path:
    """Write a workbook, completely or not at all: sheet "metrics" with `result_table`, then each run's history.

    Metrics are coloured from orange (worst) to blue (best). Numbers are kept in full, integers beyond 2^53 as text.
    Text is never a formula; what XML cannot hold is left out, and what is beyond 32767 letters ends in "…".

    Raises:
        ValueError: the name does not end in `.xlsx`, or a table is too large for a sheet.
        ModuleNotFoundError: openpyxl is not installed.
    """
    path = _checked(path, ".xlsx")
    check_can_write_xlsx()
    from openpyxl import Workbook

    results = result_table(runs)
    tables = [results, *(history_table([run]) for run in runs)]
    names = sheet_names(["metrics", *(run.run_id for run in runs)])
    for name, table in zip(names, tables, strict=True):
        _check_limits(f"{path}: sheet {name!r}", table)
    book = Workbook()
    book.remove(book.worksheets[0])
    for name, table in zip(names, tables, strict=True):
        _fill_sheet(book.create_sheet(name), table)
    _colour_metrics(book.worksheets[0], results)
    buffer = io.BytesIO()
    try:
        book.save(buffer)
    except OSError as error:  # openpyxl writes each sheet to a temporary file first
        _forget(error)
        raise OSError(error.errno, error.strerror, str(path)) from None
    with replacing_output(path, overwrite=overwrite) as partial:
        partial.write_bytes(buffer.getvalue())
    return path
