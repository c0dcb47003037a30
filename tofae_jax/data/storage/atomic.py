"""Write files and folders that are there completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from tofae_jax.data.storage.interrupts import deferred_interrupts
from tofae_jax.data.storage.moves import exchange, move_new
from tofae_jax.data.storage.partials import partial_folder
from tofae_jax.data.storage.replaceable import Obstacle, no_file_like, nothing

OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""errors of a disk that is full or fails, which no other name for the output would help against"""


@contextmanager
def replacing_file(
    path: Path, *, may_replace: Obstacle | None = nothing, error_type: type[Exception] = OSError
) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` at the end; after an error, nothing is left of it.

    Missing parents are made. An OSError from within names `path`.

    Args:
        path: the file; where it is a link, the file that it leads to.
        may_replace: says why something that is there by then may not be replaced; None: nothing may.
        error_type: of the error where it may not.

    Raises:
        OSError: the disk is full or fails.
        error_type: what is at `path` by then may not be replaced; it stays.
    """
    with naming_path(path), placing(path, may_replace=may_replace, error_type=error_type) as new:
        yield new


def replacing_output(path: Path, *, overwrite: bool) -> AbstractContextManager[Path]:
    """Replace a file of a report as `replacing_file` does: only one of the same kind, and only where `overwrite`."""
    return replacing_file(path, may_replace=no_file_like(path) if overwrite else None, error_type=ValueError)


@contextmanager
def replacing_folder(
    path: Path, *, may_replace: Obstacle | None = None, error_type: type[Exception] = ValueError
) -> Iterator[Path]:
    """Yield a new folder, which takes its place at `path` at the end; after an error, nothing is left of it.

    Missing parents are made.

    Args:
        path: the folder; where it is a link, the folder that it leads to.
        may_replace: says why something that is there by then may not be replaced; None: nothing may.
        error_type: of errors.

    Raises:
        error_type: the folder cannot be made or moved, or what is at `path` by then may not be replaced and stays; the
            message names `path`.
    """
    with placing(path, may_replace=may_replace, error_type=error_type) as new:
        new.mkdir()
        yield new


@contextmanager
def placing(path: Path, *, may_replace: Obstacle | None, error_type: type[Exception] = ValueError) -> Iterator[Path]:
    """Yield a path where nothing is, and move what is there at the end to `path`; see `replacing_file`."""
    place = path.resolve() if path.is_symlink() else path
    with ExitStack() as stack:
        try:
            new = stack.enter_context(partial_folder(place)) / place.name
        except OSError as error:
            raise _not_written(path, error, error_type) from None
        yield new
        try:
            with deferred_interrupts():
                _put(new, place, may_replace)
        except FileExistsError as error:
            why = f"{error.strerror}; it stays as it is, and nothing was written"
            if issubclass(error_type, OSError):
                raise FileExistsError(error.errno, why, str(path)) from None
            raise error_type(f"{path}: {why}") from None
        except OSError as error:
            if not os.path.lexists(new):
                raise
            raise _not_written(path, error, error_type) from None


def _not_written(path: Path, error: OSError, error_type: type[Exception]) -> Exception:
    """Return the error for a place that cannot be written; that of a disk stays one of the machine."""
    if issubclass(error_type, OSError) or error.errno in OF_DISK:
        return OSError(error.errno, error.strerror or str(error), str(path))
    return error_type(f"{path}: cannot be written: {error.strerror or error}")


def _put(new: Path, place: Path, may_replace: Obstacle | None) -> None:
    """Move a file or folder to its place; FileExistsError where something is there that may not be replaced."""
    if may_replace is nothing and not new.is_dir():
        os.replace(new, place)
        return
    with suppress(FileExistsError):
        move_new(new, place)
        return
    if (why := "appeared meanwhile" if may_replace is None else may_replace(place)) is not None:
        raise FileExistsError(errno.EEXIST, why, str(place))
    exchange(new, place)
    # now the old one lies where the new one was, where nobody else changes it, and is removed with its folder
    if may_replace is not None and (why := may_replace(new)) is not None:
        try:
            exchange(new, place)
        except OSError:  # it must not be removed with the folder
            kept = place.with_name(f"{place.name}.{new.parent.name.split('.')[-2]}.kept")
            move_new(new, kept)
            raise FileExistsError(errno.EEXIST, f"{why}, and is now {kept.name}", str(place)) from None
        raise FileExistsError(errno.EEXIST, why, str(place))


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
