"""Describe a file format: its endings, its reader, its writer and the libraries that it needs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple

from tofae_jax.data.events import Events
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.layout import Arrangement, OutputRows
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.tables import HitRules, Table

Content = Literal["hits", "images"]


class ReadRequest(NamedTuple):
    """Arguments of a reader; see `read.read_events`."""

    path: Path
    array: str | None
    """name of the array to read; only formats with `has_named_arrays` get one"""
    tree: str | None
    """name of the tree or group to read; only formats with `has_trees` get one"""
    chunk_hits: int
    """most hits of a chunk that holds more than one event"""
    rules: HitRules
    limits: Limits = Limits()


class FormatWriter(ExitStack):
    """Write a file piece by piece; the base class of all writers.

    Whatever a subclass enters into this stack is closed by `finish`, or when the `with` block ends with an error.
    """

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        """Open the file; its folder is empty and may hold temporary files."""
        super().__init__()
        self.path = path
        self.types = types

    @abstractmethod
    def write(self, rows: OutputRows) -> None:
        """Write further events, whose columns are those of `types`, in native byte order."""

    def finish(self) -> None:
        """Complete the file."""
        self.close()


class Format(NamedTuple):
    """A file format. Each is one module `format_NAME.py` with one line in `registry`.

    Errors of readers and writers need not name the file: `read` and `write` put its name in front.
    """

    endings: tuple[str, ...]
    """endings of its files, in lower case and with the dot; the usual one first"""
    description: str
    read: Callable[[ReadRequest], Iterator[Events]] | None = None
    """read chunks of complete events, each with the event column `event`; None: `table_events` does"""
    open_table: Callable[[ReadRequest], Table] | None = None
    """open a table with named columns; None: files of this format hold images alone"""
    column_names: Callable[[ReadRequest], Sequence[str]] | None = None
    """names of what may be columns, where the columns of a table depend on which of them are `x, y, t`"""
    holds_images: Callable[[ReadRequest], bool] | None = None
    """whether a file holds images, where a format `holds` them and tables"""
    check_joined: Callable[[ReadRequest], None] | None = None
    """raise `DataError` for a file with more than its table, which `read` alone would read, to be read with others"""
    writer: Callable[[Path, ColumnTypes], FormatWriter] | None = None
    """open a file to be written; None: files of this format cannot be written"""
    written: tuple[str, ...] = ()
    """endings of the files that can be written; empty: all, where there is a writer"""
    begins: tuple[bytes, ...] = ()
    """ways in which files can begin that are written; those with `has_dialects` can be any text, too"""
    arrangements: tuple[Arrangement, ...] = ("lists", "rows")
    """how a file can arrange its rows, the usual way first"""
    holds: tuple[Content, ...] = ("hits",)
    libraries: tuple[str, ...] = ()
    """modules to import when a file is read or written"""
    extra: str | None = None
    """extra of pyproject.toml that brings them; None: they come with the package"""
    is_lossless: bool = True
    """whether a written file keeps tracks, events without hits, and the types of all columns (float16 aside)"""
    has_trees: bool = False
    """whether a file can hold several tables, chosen by `tree`"""
    has_named_arrays: bool = False
    """whether a file can hold several arrays, chosen by `array`"""
    has_dialects: bool = False
    """whether it is text, with one or another delimiter and decimal point"""
    has_offsets: bool = False
    """whether columns of a table of events can be without lists, so that `per` can say what they belong to"""

    @property
    def is_table(self) -> bool:
        """Whether columns and units can be chosen."""
        return self.open_table is not None
