"""Write files and folders that are there completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, which takes its place at the end; after an error, nothing is left of it.

    Missing parents are made. An OSError from within names `path`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with naming_path(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, *, error_type: type[Exception] = ValueError) -> Iterator[Path]:
    """Yield a new folder beside `path`, which takes its place at the end; after an error, nothing is left of it.

    Missing parents are made. A folder that is at `path` by then is deleted once the new one is in its place, and stays
    where that fails.

    Raises:
        error_type: the folder cannot be made or moved; the message names `path`.
    """
    unique = f".{path.name}.{uuid.uuid4().hex[:8]}"
    partial, old = (path.parent / f"{unique}.{state}" for state in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise error_type(f"{path}: cannot be made: {error.strerror or error}") from None
    try:
        yield partial
        try:
            if path.exists():
                os.rename(path, old)
            os.rename(partial, path)
        except OSError as error:  # e.g. another process made it meanwhile
            if old.exists() and not path.exists():
                os.rename(old, path)
            raise error_type(f"{path}: cannot be made: {error.strerror or error}") from None
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file so that it is there completely or not at all; returns its path."""
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def writable_folder(folder: Path) -> Path:
    """Make the folder if it is missing, and return it; ValueError where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"{folder}: not a folder that can be written: {error.strerror or error}") from None


def check_can_be_written(folder: Path) -> None:
    """Check that a folder can be written, or made if it is missing, without making it.

    Raises:
        ValueError: it cannot; the message names it.
    """
    try:
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(f"{folder}: not a folder that can be written: {error.strerror or error}") from None


@contextmanager
def naming_path(path: Path) -> Iterator[None]:
    """Name `path` in an OSError from within, in place of a file beside it or of none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
