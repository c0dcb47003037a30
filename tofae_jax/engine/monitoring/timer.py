"""What took how long: named spans of time, nested, of any thread."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from tofae_jax.data.storage.atomic import write_text
from tofae_jax.runs.timeline import Span, Timeline, Total

_MOST_SPANS = 100_000  # some 15 MB of memory, and as much as JSON


class _Nothing:
    """What a timer that is off gives for a span."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Running:
    """A span that has not ended, and the block that it measures."""

    __slots__ = ("depth", "name", "start_s", "thread", "timer")

    def __init__(self, timer: Timer, name: str) -> None:
        self.timer, self.name = timer, name
        self.thread, self.depth, self.start_s = threading.current_thread(), 0, 0.0

    def __enter__(self) -> None:
        self.timer._begin(self)

    def __exit__(self, *_: object) -> None:
        self.timer._end(self, time.perf_counter())

    def span(self, stop_s: float | None, closed_at_exit: bool = False) -> Span:
        return Span(
            name=self.name,
            start_s=self.start_s,
            stop_s=stop_s,
            depth=self.depth,
            thread=self.thread.name,
            closed_at_exit=closed_at_exit,
        )


class Timer:
    """Measures named spans; a context manager whose end closes all that are open. Never raises for a missing partner.

    Threads may share it; a span belongs to the thread that begins it.
    """

    def __init__(self, *, enabled: bool = True, most_spans: int = _MOST_SPANS) -> None:
        """Begin to count time; a timer that is not enabled does nothing, at next to no cost.

        `most_spans` bounds the memory: of what closes after so many spans, only the totals are kept. ValueError if
        it is negative.
        """
        if most_spans < 0:
            raise ValueError(f"most_spans is {most_spans}, must not be negative")
        self.enabled = enabled
        self._most_spans = most_spans
        self._nothing = _Nothing()
        self._lock = threading.RLock()  # re-entrant: a signal's handler may time something in the midst of a span
        self._open: dict[threading.Thread, list[_Running]] = {}
        self._closed: list[Span] = []
        self._totals: dict[str, Total] = {}
        self._problems: dict[str, int] = {}
        self._zero_s = time.perf_counter()

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_: object) -> None:
        now_s = time.perf_counter()
        with self._lock:
            for running in [running for stack in self._open.values() for running in reversed(stack)]:
                self._end(running, now_s, closed_at_exit=True)

    def span(self, name: str) -> AbstractContextManager[None]:
        """A block to measure: `with timer.span("train"): ...`."""
        return _Running(self, name) if self.enabled else self._nothing

    def start(self, name: str) -> None:
        """Begin a span; if one of that name is open in this thread, the new one is nested in it."""
        if self.enabled:
            self._begin(_Running(self, name))

    def stop(self, name: str) -> None:
        """End this thread's innermost open span of that name; where there is none, that is counted as a problem."""
        if not self.enabled:
            return
        now_s = time.perf_counter()
        with self._lock:
            for running in reversed(self._open.get(threading.current_thread(), [])):
                if running.name == name:
                    self._end(running, now_s)
                    return
            self._problems[name] = self._problems.get(name, 0) + 1

    def _begin(self, running: _Running) -> None:
        with self._lock:
            stack = self._open.setdefault(running.thread, [])
            running.depth = len(stack)
            stack.append(running)
            running.start_s = time.perf_counter() - self._zero_s

    def _end(self, running: _Running, now_s: float, *, closed_at_exit: bool = False) -> None:
        stop_s = now_s - self._zero_s
        with self._lock:
            stack = self._open.get(running.thread, [])
            if running not in stack:  # the timer's exit or a stop() ended it already
                self._problems[running.name] = self._problems.get(running.name, 0) + 1
                return
            stack.remove(running)
            if not stack:
                del self._open[running.thread]
            if len(self._closed) < self._most_spans:
                self._closed.append(running.span(stop_s, closed_at_exit))
            total = self._totals.get(running.name, Total(0, 0.0))
            self._totals[running.name] = Total(total.count + 1, total.seconds + stop_s - running.start_s)

    @property
    def spans(self) -> list[Span]:
        """All spans by start, those that are open included."""
        with self._lock:
            running = [running.span(None) for stack in self._open.values() for running in stack]
            return sorted(self._closed + running, key=lambda span: (span.start_s, span.depth))

    @property
    def problems(self) -> dict[str, int]:
        """Stops without a start, by name."""
        with self._lock:
            return dict(self._problems)

    def totals(self) -> dict[str, Total]:
        """Count and seconds of the closed spans by name."""
        with self._lock:
            return dict(self._totals)

    def save(self, path: Path) -> Path:
        """Write everything as JSON, completely or not at all; returns the path."""
        with self._lock:
            totals = self.totals()
            timeline = Timeline(
                totals=totals,
                problems=self.problems,
                n_not_kept=sum(total.count for total in totals.values()) - len(self._closed),
                spans=self.spans,
            )
        return write_text(Path(path), msgspec.json.encode(timeline).decode())
