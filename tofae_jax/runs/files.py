"""Files that are there completely or not at all, and folders that can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to beside `path`, which takes its place at the end; after an error, nothing is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a file so that it is there completely or not at all; returns its path."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def writable_folder(folder: Path) -> Path:
    """The folder, made if it was missing; ValueError naming it where it cannot be made or nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(f"{folder}: not a folder that can be written: {error.strerror or error}") from None
