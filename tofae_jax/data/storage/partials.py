"""Folders beside an output that hold it until it is complete, and those that killed processes left."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tofae_jax.data.storage.interrupts import deferred_interrupts
from tofae_jax.data.storage.lock import locked_folder

SUFFIX = ".tofae_jax-partial"
_NAME_SIGNS = 40  # of the output's name, as names of files have at most 255 bytes
_NAME = re.compile(r"\..+\.[0-9a-f]{8}" + re.escape(SUFFIX))


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder beside `path`, which is removed in the end, with all that is in it.

    Its process holds a lock on it, so that others know it from the folder of a process that was killed: that is removed
    by the next one that writes beside it. Missing parents are made, and removed again where they stay empty.

    Args:
        path: output that will be moved from within the folder; in the same file system, therefore.

    Raises:
        OSError: the folder cannot be made.
    """
    made: list[Path] = []
    with ExitStack() as stack:
        try:
            with deferred_interrupts():
                _make_parents(path.parent, made)
                remove_leftovers(path.parent)
                folder = _locked_folder_beside(path, stack)
            yield folder
        finally:
            with deferred_interrupts():
                stack.close()
                for parent in made:
                    with suppress(OSError):  # it is not empty
                        parent.rmdir()


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the partial folders in a folder whose processes were killed; returns their paths."""
    removed = []
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in list(entries):
            if _NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError), locked_folder(Path(entry), wait=False) as is_locked:
                    if is_locked:
                        shutil.rmtree(entry.path, ignore_errors=True)
                        removed.append(Path(entry))
    return removed


def _make_parents(parent: Path, made: list[Path]) -> None:
    """Make a folder and those above it; appends what was made, the deepest first."""
    missing = []
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir()
            made.insert(0, folder)


def _locked_folder_beside(path: Path, stack: ExitStack) -> Path:
    """Make a folder, lock it, and have the stack remove it."""
    while True:
        folder = path.parent / f".{path.name[:_NAME_SIGNS]}.{uuid.uuid4().hex[:8]}{SUFFIX}"
        folder.mkdir()
        with suppress(FileNotFoundError):  # it was removed as a leftover before it was locked
            stack.enter_context(locked_folder(folder, wait=True))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            return folder
