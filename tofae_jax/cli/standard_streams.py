"""The standard streams of the program, when they are closed or full.

A file that is opened while descriptor 1 or 2 is free gets that number, and with it all that is printed. So nothing is
opened before `open_closed_streams`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

STDOUT = "standard output"
"""its name in messages"""


class _Stdout(io.TextIOWrapper):
    """Standard output, whose errors name it. What cannot be written is forgotten: it would fail again at the exit."""

    def write(self, text: str, /) -> int:
        """Write text; an OSError that names the stream where it cannot."""
        try:
            return super().write(text)
        except OSError as error:
            raise _lost(error) from None

    def flush(self) -> None:
        """Write what waits; an OSError that names the stream where it cannot."""
        try:
            super().flush()
        except OSError as error:
            raise _lost(error) from None


class _ClosedStdout(io.TextIOBase):
    """Standard output that the caller has closed: writing to it is an error that names it."""

    def write(self, text: str, /) -> int:
        """Raise an OSError, unless there is nothing to write."""
        if text:
            raise OSError(errno.EBADF, "closed", STDOUT)
        return 0


class _Stderr(io.TextIOWrapper):
    """Standard error: a message that cannot be written is no reason to end a run, unless its reader is gone."""

    def write(self, text: str, /) -> int:
        """Write text, or forget it."""
        with _forgiving():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what waits, or leave it for the next time."""
        with _forgiving():
            super().flush()


@contextlib.contextmanager
def _forgiving() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _divert(2)
        raise
    except OSError:
        pass


def _lost(error: OSError) -> OSError:
    """Drop what waits for standard output; returns the error that says so."""
    _divert(1)
    if isinstance(error, BrokenPipeError):
        return error
    return OSError(error.errno, error.strerror, STDOUT)


def _divert(number: int) -> None:
    """Have a descriptor lead nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def open_closed_streams() -> None:
    """Open the null device for each closed one of the descriptors 0, 1 and 2, and have Python's streams tell errors."""
    is_closed = [_is_closed(number) for number in (0, 1, 2)]
    for number in (0, 1, 2):
        if is_closed[number]:  # the lowest free number is the one that a new file gets
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(number, True)
    if is_closed[0]:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _ClosedStdout() if is_closed[1] else _like(sys.stdout, _Stdout, 1)
    sys.stderr = _like(sys.stderr, _Stderr, 2)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _like(stream: TextIO | None, kind: type[io.TextIOWrapper], number: int) -> TextIO:
    """Return a stream of another class to the same descriptor; a sign that the terminal does not know ends no run."""
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # of whoever runs the program inside another
    encoding = "utf-8" if stream is None else stream.encoding
    file = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    is_by_line = number == 2 or (stream is not None and stream.line_buffering)
    return kind(file, encoding=encoding, errors="replace", line_buffering=is_by_line)


def end_streams() -> None:
    """Write what waits; what standard error cannot take is forgotten.

    Raises:
        OSError: standard output could not take all.
    """
    if isinstance(sys.stderr, _Stderr):
        try:
            sys.stderr.buffer.flush()
        except OSError:
            _divert(2)  # or Python fails to write it too, and ends with a code of its own
    sys.stdout.flush()
