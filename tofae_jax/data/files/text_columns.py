"""Find the types of the columns of a text table, and parse their values.

A column is of integers (int64, or uint64 where that is too narrow), of `true` and `false`, of floats, or of text. The
whole column decides, not its beginning. A missing value (empty, `NA`, `N/A`, `null`, `None`) is NaN, which makes a
column of integers one of floats. No integer is ever rounded: where a column of floats holds one that float64 cannot
hold, reading the column is an error.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import pyarrow as arrow
import pyarrow.compute

compute: Any = pyarrow.compute  # its functions are made at run time, so that no type checker knows them
Kind = Literal["int", "uint", "bool", "float", "text"]
MISSING = ("", "NA", "N/A", "null", "None")
LARGEST_EXACT = 2**53
_INTEGER = re.compile(r"-?[0-9]+|0[xX][0-9a-fA-F]+")
_TRIED = 256
_DIGITS = 18  # of the largest int64, less one
_DTYPES = {"int": np.int64, "uint": np.uint64, "bool": bool, "float": np.float64}


class TextColumn:
    """What the values of a column are, found block by block."""

    def __init__(self, decimal: str) -> None:
        self.decimal = decimal
        self.kind: Kind | None = None
        """None: all values are missing"""
        self.missing: int | None = None
        """first row without a value"""
        self.text: tuple[int, str] | None = None
        """first row, and its value, that is no number"""
        self.rounded: tuple[int, str] | None = None
        """first row, and its value, of an integer that float64 cannot hold"""
        self.other: int | None = None
        """first row that is not an integer of the kind before"""
        self._low = 0

    def add(self, strings: Any, first: int) -> None:
        """Take in the next values, an Arrow array of strings, of the rows from `first` on."""
        if self.kind == "text":
            return
        values = strings
        numbers = _integers(values)
        is_float = numbers is None and self.decimal == "." and _cast(values, arrow.float64()) is not None
        if numbers is None and not is_float:  # slow
            values = cleaned(values, self.decimal)
            if values.null_count and self.missing is None:
                self.missing = first + compute.index(compute.is_null(values), True).as_py()
            if values.null_count == len(values):
                return
            numbers = _integers(values)
        if numbers is not None:
            self._add_integers(numbers, first)
        elif is_float or _cast(values, arrow.float64()) is not None:
            self._add_floats(values, first)
        elif _is_bool(values):
            self._join("bool", first, str(values.drop_null()[0]))
        else:
            self._set_text(values, strings, first)

    def _add_integers(self, numbers: Any, first: int) -> None:
        is_wide = numbers.type == arrow.uint64()
        bounds: Any = compute.min_max(numbers).as_py()
        self._low = min(self._low, bounds["min"])
        if max(-bounds["min"], bounds["max"]) > LARGEST_EXACT and self.rounded is None:
            exact = numbers.fill_null(0).to_numpy()
            near = exact.astype(np.float64)
            top = 2.0**64 if is_wide else 2.0**63
            bad = (near >= top) | (np.where(near < top, near, 0).astype(exact.dtype) != exact)
            if bad.any():
                row = int(bad.argmax())
                self.rounded = (first + row, str(exact[row]))
        self._join("uint" if is_wide else "int", first, "")

    def _add_floats(self, values: Any, first: int) -> None:
        if self.rounded is None:
            for row in _rows_of_long_integers(values):
                text = values[int(row)].as_py()
                if int(text) != int(float(text)):
                    self.rounded = (first + int(row), text)
                    break
        self._join("float", first, "")

    def _join(self, kind: Kind, first: int, sample: str) -> None:
        """Take a kind of values that follow into the kind of the column."""
        before = self.kind
        if before is None or before == kind:
            self.kind = kind
            return
        self.other = first if self.other is None else self.other
        if "bool" in (before, kind):
            self.kind, self.text = "text", (first, sample or "a number")
        elif "float" in (before, kind) or self._low < 0:
            self.kind = "float"
        else:
            self.kind = "uint"

    def _set_text(self, values: Any, strings: Any, first: int) -> None:
        self.kind = "text"
        for row, value in enumerate(values.to_pylist()):
            if value is not None and not _is_float(value):
                self.text = (first + row, strings[row].as_py().strip())
                return

    @property
    def dtype(self) -> np.dtype | None:
        """Type of the column; None for text, for one without values, and for true and false that are missing."""
        if self.kind in (None, "text") or (self.kind == "bool" and self.missing is not None):
            return None
        return np.dtype(np.float64 if self.missing is not None else _DTYPES[self.kind])


def parsed(strings: Any, dtype: np.dtype, decimal: str) -> np.ndarray:
    """Return the values of an Arrow array of this type, or of strings that are of it; NaN for missing ones."""
    kind = arrow.from_numpy_dtype(dtype)
    found = _cast(strings, kind)
    if found is None:
        found = cleaned(strings, decimal).cast(kind)
    return found.to_numpy(zero_copy_only=False)


def cleaned(strings: Any, decimal: str) -> Any:
    """Return the strings without blanks around, plus signs and the decimal comma; missing values become null.

    Where the comma is the decimal point, a point is none: it may group thousands, so that a value with one is text.
    """
    values = compute.utf8_trim_whitespace(strings)
    values = compute.replace_substring_regex(values, r"^\+([0-9.])", r"\1")
    if decimal != ".":
        values = compute.replace_substring(values, ".", "..")  # no number
        values = compute.replace_substring(values, decimal, ".")
    is_missing = compute.is_in(values, arrow.array(MISSING))
    return compute.if_else(is_missing, arrow.scalar(None, arrow.string()), values)


def _rows_of_long_integers(values: Any) -> np.ndarray:
    """Return the rows of integers of so many digits that float64 may not hold them."""
    is_long = compute.greater_equal(compute.binary_length(values), 16).fill_null(False)
    rows = np.flatnonzero(is_long.to_numpy(zero_copy_only=False))
    digits = compute.match_substring_regex(values.take(arrow.array(rows)), r"^-?[0-9]{16,}$")
    return rows[digits.to_numpy(zero_copy_only=False).astype(bool)]


def _integers(values: Any) -> Any:
    """Return the values as integers; None where one is none. Some are tried first, as casts that fail are slow."""
    tried = values.slice(0, _TRIED).to_pylist()
    if not all(value is None or _INTEGER.fullmatch(value) for value in tried):
        return None
    found = _cast(values, arrow.int64())
    if found is None and (compute.max(compute.binary_length(values)).as_py() or 0) >= _DIGITS:
        found = _cast(values, arrow.uint64())
    return found


def _is_bool(values: Any) -> bool:
    known = compute.is_in(compute.utf8_lower(values.drop_null()), arrow.array(["true", "false"]))
    return bool(compute.all(known).as_py())


def _is_float(value: str) -> bool:
    return _cast(arrow.array([value]), arrow.float64()) is not None


def _cast(values: Any, kind: Any) -> Any:
    """Return the values as numbers; None where one is none."""
    try:
        return values.cast(kind)
    except arrow.ArrowInvalid:
        return None
