"""Say what may be replaced: what this program wrote, of the same kind; never anything else, and never an input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

Obstacle = Callable[[Path], str | None]
"""is given what lies at the place of an output; returns why it may not be replaced, None where it may"""
_HEAD = 4096  # bytes that tell text from other files


def nothing(path: Path) -> None:
    """Let anything be replaced: files of a run's own folder."""
    del path


def no_file_of(*begins: bytes, or_text: bool = False) -> Obstacle:
    """Return what lets only files be replaced that begin so, are text if that may be, or are empty."""

    def obstacle(path: Path) -> str | None:
        if not path.is_file():
            return "is a folder" if path.is_dir() else "is no file"
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        is_same = head.startswith(begins) or (or_text and b"\0" not in head)
        return None if is_same or not head else "is a file of another kind"

    return obstacle


_BEGINS = {
    ".html": (b"<!DOCTYPE html>",),
    ".pdf": (b"%PDF-",),
    ".png": (b"\x89PNG",),
    ".xlsx": (b"PK\x03\x04",),
}
"""of files of reports, by ending; those of other endings are text"""


def no_file_like(path: Path) -> Obstacle:
    """Return what lets only files of the same kind be replaced, by the ending of `path`: page, PDF, PNG, table."""
    begins = _BEGINS.get(path.suffix.lower())
    return no_file_of(*begins) if begins is not None else no_file_of(or_text=True)


def no_folder_of(is_ours: Callable[[str], bool], *, needs: str, kind: str) -> Obstacle:
    """Return what lets only folders be replaced that hold nothing else than what this program writes.

    Args:
        is_ours: whether an entry of this name is part of such a folder.
        needs: name of a file that each of them has.
        kind: what they are called, for messages.
    """

    def obstacle(path: Path) -> str | None:
        if not path.is_dir():
            return f"is no {kind}"
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if needs not in names:
            return f"is no {kind}"
        foreign = [name for name in names if not is_ours(name)]
        return f"holds {foreign[0]!r}, which is not part of a {kind}" if foreign else None

    return obstacle


def check_free(
    path: Path,
    obstacle: Obstacle,
    *,
    overwrite: bool,
    sources: Iterable[Path] = (),
    error_type: type[Exception] = ValueError,
) -> None:
    """Check that an output may be written to a place, before it is computed.

    Args:
        path: the place.
        obstacle: says what may not be replaced.
        overwrite: whether what may be replaced shall be.
        sources: files and folders that are read.
        error_type: of the errors.

    Raises:
        error_type: something is there that is not to be replaced; the message names it.
    """
    if not os.path.lexists(path):
        return
    if not path.exists():
        raise error_type(f"{path}: is a link to {os.readlink(path)}, where nothing is; give another name")
    place = path.resolve()
    for source in sources:
        if source.resolve() == place:
            raise error_type(f"{path}: is the input too; give another name")
        if source.resolve().is_relative_to(place):
            raise error_type(f"{path}: holds {source.name}, which is read; give another name")
    if why := obstacle(place):
        raise error_type(f"{path}: exists already and {why}; give another name")
    if not overwrite:
        raise error_type(f"{path}: exists already; give another name, or --overwrite")
