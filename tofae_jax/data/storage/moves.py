"""Move files and folders in one step, without replacing what another process made meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

_NAME_SIGNS = 40  # of a name, as names of files have at most 255 bytes
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
        source.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange two files or folders, in one step where the system can.

    Elsewhere `other` lies in `.NAME.XXXXXXXX.old` beside its place for a moment. Whatever happens then, it is not lost:
    no folder that is removed later holds it.

    Raises:
        OSError: one is missing or cannot be moved. Nothing is changed; or, where `other` could not be put back, the
            error names the place where it lies.
    """
    if _renamed(one, other, _EXCHANGE):
        return
    aside = other.with_name(f".{other.name[:_NAME_SIGNS]}.{uuid.uuid4().hex[:8]}.old")
    os.rename(other, aside)
    try:
        move_new(one, other)
    except OSError as error:
        try:
            move_new(aside, other)
        except OSError:  # something else appeared there
            raise OSError(error.errno, f"{error.strerror}; what was there is now {aside.name}", str(other)) from None
        raise
    os.rename(aside, one)


def _link_new(source: Path, target: Path) -> None:
    """Have a file under another name, where nothing is; it may keep the first one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (*_NOT_AVAILABLE, errno.EMLINK):
            raise
        _claim(source, target)


def _claim(source: Path, target: Path) -> None:
    """Move a file to where nothing is, on a file system without hard links: an empty file claims the place first."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(source, target)
    except OSError:
        os.unlink(target)
        raise


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
