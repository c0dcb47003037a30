"""Move files and folders in one step, without replacing what another process made meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

_HERE = -100  # AT_FDCWD: paths are relative to the working folder
_NOREPLACE, _EXCHANGE = 1, 2
_NOT_AVAILABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
"""errors of a kernel or file system that does not know the call; a network disk, for example"""


def move_new(source: Path, target: Path) -> None:
    """Move a file or folder to a place where nothing is.

    Raises:
        FileExistsError: something is there, whatever it is; nothing is changed.
        OSError: it cannot be moved.
    """
    if _renamed(source, target, _NOREPLACE):
        return
    if os.name == "nt":
        os.rename(source, target)  # it refuses by itself
    elif source.is_dir():
        os.mkdir(target)
        try:
            os.rename(source, target)  # only an empty folder can be replaced
        except OSError:
            with suppress(OSError):
                os.rmdir(target)
            raise
    else:
        _link_new(source, target)
        os.unlink(source)


def exchange(one: Path, other: Path) -> None:
    """Exchange two files or folders, in one step where the system can.

    Raises:
        OSError: one is missing or cannot be moved; nothing is changed.
    """
    if _renamed(one, other, _EXCHANGE):
        return
    aside = one.with_name(f"{one.name}.aside")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _link_new(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(source, target)
        source.touch()


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Call `renameat2`; returns whether the system has it."""
    call = _renameat2()
    if call is None:
        return False
    if call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_AVAILABLE:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _renameat2() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # another system than Linux, or an old one
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
