"""Steering a run from outside: signals, a time limit, and the files STOP and PAUSE in its folder."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tofae_jax.data.storage.interrupts import STOP_SIGNALS, leave_closed_terminal

STOP, PAUSE = "STOP", "PAUSE"
POLL_S = 0.5  # between looks at the files


class Control:
    """Asks a run to stop or to wait; a context manager that takes over SIGINT, SIGTERM and SIGHUP.

    The first signal asks the run to end in good order; a second one stops it at once, by KeyboardInterrupt. Signals
    reach the main thread of a process only: elsewhere only the time limit and the files work. SIGHUP stays ignored
    where it is, as under `nohup`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        time_limit_s: float | None = None,
        began_s: float | None = None,
        say: Callable[[str], None],
    ) -> None:
        """Watch `folder` for STOP and PAUSE; the time limit counts from entering the context.

        A STOP that is older than `began_s`, when the process began [s since the epoch], was meant for a run before.
        """
        self._folder, self._limit_s, self._say = folder, time_limit_s, say
        self._process_began_s = began_s
        self._asked = ""
        self.signal: int | None = None
        """the signal that stopped the run"""
        self._previous: dict[int, Any] = {}
        self._looked = -POLL_S
        self._found: set[str] = set()
        self._told: set[str] = set()

    def __enter__(self) -> Control:
        self._began = time.monotonic()
        self._remove_old_stop()
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def _remove_old_stop(self) -> None:
        stop = self._folder / STOP
        if self._process_began_s is not None and stop.is_file() and stop.stat().st_mtime < self._process_began_s:
            self._say(f"{stop}: removed, as it is older than this process")
            stop.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # one that Python did not install cannot be put back
                signal.signal(number, handler)
        self._previous = {}

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        leave_closed_terminal()
        if self.signal is not None:
            raise KeyboardInterrupt(f"{name} again")
        self.signal, self._asked = number, name
        # not `say`: the signal may have come while something was being printed
        os.write(2, f"{name}: finishing this step, saving and writing all outputs; once more stops at once\n".encode())

    def reason_to_stop(self) -> str:
        """Why the run is to end now: a signal's name, the time limit or the STOP file; empty if it is not."""
        if not self._asked and self._limit_s is not None and time.monotonic() - self._began >= self._limit_s:
            self._asked = f"time limit of {self._limit_s:g} s"
        if not self._asked and STOP in self._files():
            (self._folder / STOP).unlink(missing_ok=True)
            self._asked = f"{STOP} file"
        return self._asked

    def is_to_pause(self) -> bool:
        """Whether there is a PAUSE file."""
        return PAUSE in self._files()

    def wait_while_paused(self) -> float:
        """Returns once the PAUSE file is gone or the run is to stop, with the seconds that it took."""
        began = time.monotonic()
        self._say(f"paused; remove {self._folder / PAUSE} to go on")
        while (self._folder / PAUSE).is_file() and not self.reason_to_stop():
            time.sleep(POLL_S / 5)
        self._looked = -POLL_S
        return time.monotonic() - began

    def _files(self) -> set[str]:
        """Which of the two files are there; looks now and then only, as on a network disk that takes time."""
        now = time.monotonic()
        if now - self._looked >= POLL_S:
            self._looked = now
            self._found = {name for name in (STOP, PAUSE) if (self._folder / name).is_file()}
            for name in (STOP, PAUSE):
                if name not in self._told and (self._folder / name).is_dir():
                    self._told.add(name)
                    self._say(f"{self._folder / name}: is a folder, which asks for nothing; a file of that name does")
        return self._found
