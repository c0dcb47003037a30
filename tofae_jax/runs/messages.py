"""Messages for the user, through the logger `tofae_jax`.

Users of the library decide what becomes of them: by default Python prints warnings to stderr and drops other messages.
The command line prints both, see `messages_on_stderr`. Results of commands are printed by `show`. All that is printed
goes through `core.text.visible`: names and texts of files may hold control characters.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache

from tofae_jax.core.text import visible, visible_lines

LOGGER = logging.getLogger("tofae_jax")
Say = Callable[[str], object]
"""a function that takes a message for the user, such as `say`"""


def say(message: str) -> None:
    """Log a message about the progress of the program."""
    LOGGER.info(message)


def warn(message: str) -> None:
    """Log a warning."""
    LOGGER.warning(message)


@cache
def warn_once(message: str) -> None:
    """Log a warning, unless this process already did."""
    warn(message)


def show(lines: str | Iterable[str], *, is_on_disk: bool = False) -> None:
    """Print results of a command to stdout, see `core.text.visible_lines`.

    Args:
        lines: what to print.
        is_on_disk: whether it is, or says where, the files that the command has written: these are a success also for
            those who have closed stdout.

    Raises:
        OSError: they cannot be printed.
    """
    try:
        print(visible_lines(lines))
    except OSError as error:
        if not is_on_disk or error.errno != errno.EBADF:
            raise


class _StderrHandler(logging.Handler):
    """Prints to what is `sys.stderr` at the time: a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message, a warning with `warning: ` before it."""
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        print(f"{prefix}{visible(record.getMessage())}", file=sys.stderr)


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print messages to stderr while the context is open; a nested context changes nothing."""
    if any(isinstance(handler, _StderrHandler) for handler in LOGGER.handlers):
        yield
        return
    handler, level, propagate = _StderrHandler(), LOGGER.level, LOGGER.propagate
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # handlers of other libraries would print them again
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate
