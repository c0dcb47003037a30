"""Signals that stop a program: end it in good order, and keep interruptions out of code that they would break."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""those that ask a program to end; Windows has no SIGHUP"""
AGAIN_S = 0.01
MOST_DEFERRED = 2
"""signals that wait; whoever sends more does not want to wait, and ends the process"""


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Deliver `STOP_SIGNALS` after the block, as far as Python handles them; for short blocks.

    An exception that a handler raises would otherwise begin anywhere in the block: in Orbax, it would leave event loops
    and threads that wait for each other. The third signal in a block ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():  # where no handler runs
        yield
        return
    handlers = {number: handler for number in STOP_SIGNALS if callable(handler := signal.getsignal(number))}
    waiting: list[int] = []

    def defer(number: int, _: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > MOST_DEFERRED:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    try:
        with _handled_by(defer, in_place_of=handlers):
            yield
    finally:
        for number in waiting:
            signal.raise_signal(number)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Have `STOP_SIGNALS` raise `KeyboardInterrupt` with their names, where they are neither ignored nor handled.

    Python prints and forgets exceptions that begin in a destructor or while garbage is collected. A signal whose
    interruption is lost so comes again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, _: FrameType | None) -> None:
        leave_closed_terminal()
        raise KeyboardInterrupt(signal.Signals(number).name)

    usual = (signal.SIG_DFL, signal.default_int_handler)
    handlers = {number: handler for number in STOP_SIGNALS if (handler := signal.getsignal(number)) in usual}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda failure: hook(failure) if not _is_sent_again(failure.exc_value) else None
    try:
        with _handled_by(on_signal, in_place_of=handlers):
            yield
    finally:
        sys.unraisablehook = hook


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], *, in_place_of: Mapping[int, Any]) -> Iterator[None]:
    """Have signals handled by another handler than theirs while the block lasts."""
    for number in in_place_of:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, own in in_place_of.items():
            signal.signal(number, own)


def _is_sent_again(error: BaseException | None) -> bool:
    """Send the signal again that an error names, if it is an interruption."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    number = getattr(signal, str(error).partition(" ")[0], signal.SIGINT)
    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
    return True


def leave_closed_terminal() -> None:
    """Have output to a terminal that is closed go nowhere: writing to it would be an error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
