"""Figures in the background of a training: another process draws them, from what the run has saved.

A thread would not do: drawing holds Python's lock, and the training's own few calls per step would wait for it. The
process is of low priority, knows no accelerator, and is never waited for until the end. It reads epoch numbers, one per
line, and answers with one JSON object per line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tofae_jax.config.documents import DocumentError, decode_json
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.messages import Say

PATIENCE_S = 120.0  # at the end of a run, for the figures under way
_NICENESS = 10
_MARK = "tofae_jax.runs.background_figures"  # libraries write to the same pipe


class BackgroundPlots:
    """Draws the figures of an epoch elsewhere; a context manager, which waits for those under way when it ends."""

    def __init__(self, paths: RunPaths, *, say: Say) -> None:
        """No process is started before the first request."""
        self._paths, self._say = paths, say
        self.note: Say = lambda _: None
        """is given what is being drawn, whenever that changes"""
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._lock = threading.Lock()
        self._under_way = 0
        self._cpu_s = 0.0
        self._tail = ""
        self._is_done = False

    def __enter__(self) -> BackgroundPlots:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):  # whoever insists does not want to wait
            self._end(patience_s=0)
        self.wait()

    def wait(self) -> None:
        """Wait for what is under way; nothing more can be asked for."""
        self._end(patience_s=PATIENCE_S)

    def _end(self, *, patience_s: float) -> None:
        if self._process is None or self._listener is None:
            return
        self._is_done = True
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._listener.join(patience_s)
        if self._listener.is_alive():
            if patience_s:
                self._say(f"figures: still being drawn after {patience_s:.0f} s, so given up")
            with self._lock:
                self._under_way = 0  # and it has not died by itself
            self._process.kill()
            self._listener.join()
        self._process.wait()
        self._process.stdout.close()

    @property
    def is_free(self) -> bool:
        """False while figures are being drawn, or where the process has died."""
        with self._lock:
            if self._process is None:
                return not self._is_done
            return self._under_way == 0 and self._process.poll() is None

    def request(self, epoch: int) -> None:
        """Draw what the run has saved of an epoch."""
        if self._process is None:
            try:
                self._process = self._started()
            except OSError as error:  # no memory, no processes left
                self._is_done = True
                self._say(f"figures: none until the end of the run: {error}")
                return
            self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
            self._listener.start()
        with self._lock:
            self._under_way += 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{epoch}\n")
            self._process.stdin.flush()
        except OSError:  # it died; the listener says so
            with self._lock:
                self._under_way = 0

    def take_cpu_s(self) -> float:
        """Processor time that drawing took since this was asked last, in seconds."""
        with self._lock:
            taken, self._cpu_s = self._cpu_s, 0.0
        return taken

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tofae_jax.runs.background_figures", str(self._paths.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the run alone, while this starts too
        )

    def _listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            answer = None
            with contextlib.suppress(DocumentError):
                answer = decode_json(line.encode())
            if isinstance(answer, dict) and _MARK in answer:
                self._hear(answer)
            else:  # not ours: a warning of some library, or the end of a traceback
                self._tail = line.strip() or self._tail
        with self._lock:
            died, self._under_way = self._under_way > 0 or not self._is_done, 0
        if died:
            why = self._tail or "it said nothing"
            self._say(f"figures: the process that draws has died, so there are none until the end of the run: {why}")

    def _hear(self, answer: dict[str, Any]) -> None:
        if "drawing" in answer:
            self.note(answer["drawing"])
            return
        if "warning" in answer:
            self._say(f"figures of epoch {answer['epoch']}: {answer['warning']}")
            return
        with self._lock:
            self._under_way -= 1
            self._cpu_s += answer["cpu_s"]
        if "error" in answer:
            self._say(f"figures of epoch {answer['epoch']}: not drawn: {answer['error']}")
        else:
            self._say(f"plots saved: {answer['saved']} of epoch {answer['epoch']}, under {self._paths.plots}")


def draw_epoch(paths: RunPaths, epoch: int, *, say: Say, warn: Say) -> list[Path]:
    """Draw what is drawn during a training, from what the run has saved of this epoch; returns the figures' paths.

    `say` is given what is being drawn, `warn` what cannot be drawn or read.
    """
    from tofae_jax.runs.figures import curve_drawings, deliver_all, event_drawings
    from tofae_jax.runs.saved_run import read_saved

    folder = paths.epoch_plots(epoch)
    run = read_saved(paths.folder, views=folder / paths.plot_data.name)
    for problem in run.problems:
        warn(problem)
    saved = deliver_all(curve_drawings(run), paths.plots, "save", say=say, warn=warn)
    return saved + deliver_all(event_drawings(run, "stages", "3d"), folder, "save", say=say, warn=warn)


def main(arguments: Sequence[str], requests: Iterable[str]) -> int:
    """Draw for the run folder in `arguments` until `requests`, lines of epoch numbers, end; answers go to stdout."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the run stops in good order, and so its figures do
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICENESS)
    (folder,) = arguments

    def answer(**message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the run is gone; what is under way gets finished
            print(json.dumps({_MARK: True, **message}), flush=True)

    used = 0.0
    for line in requests:
        epoch, message = int(line), {}
        try:
            saved = draw_epoch(
                RunPaths(folder),
                epoch,
                say=lambda what: answer(drawing=what),
                warn=lambda what: answer(epoch=epoch, warning=what),  # noqa: B023
            )
            message = {"saved": len(saved)}
        except Exception as error:  # a figure is no reason to end a run
            message = {"error": f"{type(error).__name__}: {error}"}
        now = time.process_time()  # imports included
        answer(epoch=epoch, cpu_s=now - used, **message)
        used = now
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin))
