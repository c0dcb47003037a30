"""Lock a file between processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
            _lock(file, wait=wait)
            if _is_still(file, path):  # otherwise it was deleted while this process waited
                yield
                return


def _lock(file: IO[str], *, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _is_still(file: IO[str], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
