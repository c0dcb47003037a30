"""Make error messages about files: the file's name in front, one line, of bounded length."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError

DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,  # an encrypted or unusual zip file
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)
"""what Python and NumPy raise for a file that is cut, damaged or of another format"""
_MAX_LISTED = 12  # names


def listing(names: Sequence[object]) -> str:
    """Return the first names of a list for a message; empty if there are none."""
    return ", ".join([*map(one_line, names[:_MAX_LISTED]), *["..."] * (len(names) > _MAX_LISTED)])


@contextmanager
def naming_file(path: Path, *, damage: tuple[type[Exception], ...] = DAMAGE) -> Iterator[None]:
    """Put the name of a file in front of every `DataError`, and turn errors of the types `damage` into one."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except damage as error:
        raise DataError(f"{path}: cut, damaged or not a {path.suffix.lower()} file ({one_line(error)})") from error


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn whatever a library raises while it reads a file into a `DataError`.

    The libraries raise errors of every type for damaged files, since the damage can lead them anywhere.
    """
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        what = one_line(error)
        hint = f": pip install {error.name.partition('.')[0]}" if error.name and error.name in what else ""
        raise DataError(f"needs a library that is missing ({what}){hint}") from error
    except Exception as error:
        raise DataError(f"cut, damaged or in a form that cannot be read ({one_line(error)})") from error
