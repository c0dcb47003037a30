"""Lock a file or a folder between processes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def locked_file(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock on a file, which is made if it is missing. A process that is killed holds nothing.

    There is no lock on Windows, nor on file systems without locks, as some network disks are.

    Args:
        path: file that nothing else is done with.
        wait: wait for a process that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: the file cannot be made.
    """
    while True:
        with path.open("a") as file:
            _lock(file.fileno(), wait=wait)
            if _is_still(file.fileno(), path):  # otherwise it was deleted while this process waited
                yield
                return


@contextmanager
def locked_folder(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock on a folder itself; yields whether there are locks, as on Windows and some network disks are none.

    Args:
        folder: an existing folder.
        wait: wait for a process that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        FileNotFoundError: the folder is not there, or was deleted while this process waited.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        has_locks = _lock(descriptor, wait=wait)
        if not _is_still(descriptor, folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        yield has_locks
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock what is open; returns whether there are locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False  # a file system without locks
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
