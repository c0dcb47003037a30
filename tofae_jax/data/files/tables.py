"""What a table in a file is: columns with names and types, read block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import library_errors, listing
from tofae_jax.data.files.layout import Layout
from tofae_jax.data.files.units import AxisOrigin, Tally, Units

T = TypeVar("T")


class Column(NamedTuple):
    """Type of a column of a file."""

    dtype: np.dtype | None
    """of its numbers; None: not numbers, or of an unsupported kind"""
    is_list: bool
    """whether each row holds a list instead of one number"""
    shown: str
    """its type in the terms of the file, for messages"""
    problem: Callable[[], str] | None = None
    """what is wrong with its values, for the error where it is to be read"""
    has_values: bool = True
    """False where it has none, so that in text nothing says of which type they are"""


class Lists(NamedTuple):
    """A list per row."""

    counts: np.ndarray
    """int64[n_rows]: their lengths"""
    values: np.ndarray
    """all their values, one list after the other"""


class SeveralTables(DataError):
    """A file has several tables, and none was chosen."""

    def __init__(self, what: str, tables: Sequence[str], *, option: str = "tree", shown: str = "") -> None:
        """Make the error: `what` the tables are and how many, their names, and the option that chooses one."""
        self.tables, self.names, self.option = tuple(tables), shown or listing(tables), option
        super().__init__(f"{what}; choose one with --{option}: {self.names}")


Rows = Mapping[str, "np.ndarray | Lists"]


class Table(NamedTuple):
    """A table in a file."""

    name: str
    """its name in messages, e.g. `tree hits`; may be empty"""
    columns: Mapping[str, Column]
    read: Callable[[Sequence[str]], Generator[Rows, None, None]]
    """yields blocks of rows of the named columns, in order"""
    place: Callable[[int], str] | None = None
    """where a row is in the file, for messages; None: its number"""
    own_name: str = ""
    """name of the tree or group; empty: it needs none"""
    delimiter: str = ","
    """between the columns of text"""


@dataclass
class Reading:
    """What a reader finds out about a file while it reads it."""

    tally: Tally = field(default_factory=Tally)
    left_out: dict[str, str] = field(default_factory=dict)
    """columns that cannot be read, and of which type they are"""
    layout: Layout | None = None
    """of the file, once its first events are read; None for images"""


class HitRules(NamedTuple):
    """Bounds and units of the hits of a file, and the names of its columns."""

    detector: Detector
    names: Mapping[str, str]
    """names that `x, y, t` have in the file"""
    keys: Sequence[str]
    """columns that number the events; none: the rows are the events and are counted"""
    further: Sequence[str] | None
    """further columns to read; None: all that hold numbers"""
    units: Units
    origin: AxisOrigin
    reading: Reading
    decimal: str = "."
    """decimal point of text"""
    per: str = ""
    """`hit` or `event`: what columns of an HDF5 group have a value for, where both fit; empty: not said"""
    keeps_own: bool = False
    """whether `x, y, t` are kept as the file has them, too"""

    @property
    def is_renamed(self) -> bool:
        """Whether a column has another name than usual."""
        return tuple(self.keys) != ("event",) or any(name != column for name, column in self.names.items())


def guarded(rows: Iterator[T]) -> Iterator[T]:
    """Yield `rows`, which a library reads; its errors become `DataError`, those of the caller do not."""
    nothing: Any = object()
    while True:
        with library_errors():
            found = next(rows, nothing)
        if found is nothing:
            return
        yield found
