"""Profiles of a run: of a few training steps by JAX, of the Python code by cProfile."""

from __future__ import annotations

import cProfile
import io
import pstats
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from tofae_jax.data.storage.atomic import replacing_file, writable_folder
from tofae_jax.runs.display import missing_display
from tofae_jax.runs.messages import Say, say

_TOP_FUNCTIONS = 15


class StepProfiler:
    """Traces a few training steps with the JAX profiler; a context manager that ends the trace on every way out.

    The steps before the first one traced are the warm-up: compiling belongs there.
    """

    def __init__(self, folder: Path, *, first_step: int, n_steps: int, say: Say = say) -> None:
        """Trace `n_steps` steps from `first_step` on, into `folder`/plugins/profile/TIME; `say` is given each line.

        Raises `ValueError` if the folder cannot be made or written, `first_step` is negative or `n_steps` below 1.
        """
        self._folder = writable_folder(Path(folder)).resolve()
        if first_step < 0:
            raise ValueError(f"first_step is {first_step}, must not be negative")
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}, must be at least 1")
        self._first_step, self._n_steps, self._say = first_step, n_steps, say
        self._is_open = self._is_active = False
        self._traced: tuple[int, int] | None = None
        """first and last step of the trace, so far"""

    def __enter__(self) -> StepProfiler:
        self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        if self._is_active:
            self._stop()
        elif self._traced is None:
            self._say(f"no step was profiled: training ended before step {self._first_step}")

    @property
    def is_active(self) -> bool:
        """True while steps are traced."""
        return self._is_active

    def at_step(self, step: int, wait_for: Any = None) -> None:
        """Call this once before every training step, with its number.

        The trace begins at the first step whose number is `first_step` or more: in a resumed run, maybe its very first.
        Work that is still under way where it begins or ends would be missing from it or spoil it: `wait_for`, e.g. the
        training state, is waited for there, and nowhere else. ValueError outside the context.
        """
        if not self._is_open:
            raise ValueError("the profiler is not open: call at_step inside its with statement")
        if self._is_active and self._traced is not None:
            first, _ = self._traced
            if step < first + self._n_steps:
                self._traced = first, step
            else:
                jax.block_until_ready(wait_for)
                self._stop()
        elif self._traced is None and step >= self._first_step:
            jax.block_until_ready(wait_for)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # it would hook into every thread, those that compile too
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._is_active, self._traced = True, (step, step)

    def step_annotation(self, step: int) -> AbstractContextManager[Any]:
        """A block around a training step that names it in the trace; it does nothing where none is made."""
        if self._is_active:
            return jax.profiler.StepTraceAnnotation("train", step_num=step)
        return nullcontext()

    def _stop(self) -> None:
        self._is_active = False
        jax.profiler.stop_trace()
        assert self._traced is not None
        first, last = self._traced
        install = "" if _is_installed("xprof") else "pip install xprof, then "
        self._say(f"profile of steps {first} to {last}; to view it: {install}tensorboard --logdir {self._folder}")


@contextmanager
def python_profile(path: Path, *, viewer: bool, say: Say) -> Iterator[None]:
    """Profile the Python code of a block, of the thread that runs it, and write what pstats reads to `path`.

    The file is written at the end of the block, also after an exception; `say` is given a line about it and the
    functions that took longest, a line each. With `viewer`, snakeviz then opens it in a browser until Ctrl-C, unless
    the block failed; where snakeviz or a display is missing, `say` is told that. Raises `ValueError` at the start if
    the file cannot be written.
    """
    path = Path(path).resolve()
    writable_folder(path.parent)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a file that can be written")
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        with replacing_file(path) as partial:
            profile.dump_stats(partial)
        say(f"Python profile: {path}; to read it: python -m pstats {path}")
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(_TOP_FUNCTIONS)
        for line in filter(str.strip, text.getvalue().splitlines()):
            say(line)
    if viewer:
        _view(path, say)


def _view(path: Path, say: Say) -> None:
    if not _is_installed("snakeviz"):
        say(f"the viewer snakeviz is missing: pip install snakeviz, then python -m snakeviz {path}")
        return
    if missing := missing_display():
        say(f"the viewer is not opened: {missing}")
        return
    say(f"snakeviz shows {path}; Ctrl-C ends it")
    try:
        answer = subprocess.run([sys.executable, "-m", "snakeviz", str(path)], check=False)
    except KeyboardInterrupt:  # the way to close it
        return
    if answer.returncode != 0:
        say(f"snakeviz failed with exit code {answer.returncode}")


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None
