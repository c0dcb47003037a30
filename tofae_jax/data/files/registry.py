"""List the file formats; endings, help texts, error messages and optional libraries follow from this list."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tofae_jax.data.files.format import Content, Format

_MODULES = (
    "format_csv",
    "format_npz",
    "format_npy",
    "format_pt",
    "format_root",
    "format_parquet",
    "format_arrow",
    "format_hdf5",
)
"""modules of this package, each with a constant `FORMAT`; messages and help texts keep this order"""

FORMATS: tuple[Format, ...] = tuple(import_module(f"{__package__}.{name}").FORMAT for name in _MODULES)


def format_of(path: Path) -> Format | None:
    """Return the format of a file by its ending, in lower or upper case; None for an unknown ending."""
    ending = ending_of(path)
    return next((kind for kind in FORMATS if ending in kind.endings), None)


def ending_of(path: Path) -> str:
    """Return the ending of a file in lower case, with that of a compression: `.csv.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    both = "".join(suffixes[-2:])
    return both if any(both in kind.endings for kind in FORMATS) else "".join(suffixes[-1:])


def readable_endings(content: Content | None = None) -> tuple[str, ...]:
    """Return the endings of all files that can be read, or of those that can hold `hits` or `images`."""
    return _endings(lambda kind: content is None or content in kind.holds)


def writable_endings() -> tuple[str, ...]:
    """Return the endings of the files that can be written."""
    found = ((kind.written or kind.endings) for kind in FORMATS if kind.writer is not None)
    return tuple(ending for endings in found for ending in endings)


def table_endings() -> tuple[str, ...]:
    """Return the endings of tables, whose columns and units can be chosen."""
    return _endings(lambda kind: kind.is_table)


def track_endings() -> tuple[str, ...]:
    """Return the endings of files that can hold a table of tracks."""
    return table_endings()


def endings_with_trees() -> tuple[str, ...]:
    """Return the endings of files in which a tree or group can be chosen."""
    return _endings(lambda kind: kind.has_trees)


def endings_of_text() -> tuple[str, ...]:
    """Return the endings of text, whose decimal point can be chosen."""
    return _endings(lambda kind: kind.has_dialects)


def endings_with_offsets() -> tuple[str, ...]:
    """Return the endings of files in which `per` can say what columns have a value for."""
    return _endings(lambda kind: kind.has_offsets)


def endings_with_arrays() -> tuple[str, ...]:
    """Return the endings of files in which an array can be chosen."""
    return _endings(lambda kind: kind.has_named_arrays)


def _endings(is_listed: Callable[[Format], bool]) -> tuple[str, ...]:
    return tuple(ending for kind in FORMATS if is_listed(kind) for ending in kind.endings)
