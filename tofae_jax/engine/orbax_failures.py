"""Keep what Orbax prints of its failures off the terminal: each is raised too, and told in one line.

When one of many writes fails, e.g. on a full disk, Orbax closes the event loop that the others report to. Each of them
then prints a traceback of its own, up to the end of the process, none of which says what is wrong.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OF_NO_USE = ("read_only", "read only", "did not provide metrics")
"""Opening to read only makes Orbax warn, at length, that it will only read; saves within an epoch have no score."""


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a message says what no error says; warnings of Orbax are about its own workings, not about a run."""
    if record.levelno < logging.ERROR and "orbax" in Path(record.pathname).parts:
        return False
    return not record.exc_info and not any(words in record.getMessage() for words in _OF_NO_USE)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Whether a message of an event loop is about work of others than Orbax."""
    trace = traceback.format_exception(*record.exc_info) if record.exc_info else []
    return "orbax" not in "".join([record.getMessage(), *trace])


logging.getLogger("absl").addFilter(_is_worth_a_line)
logging.getLogger("asyncio").addFilter(_is_not_of_orbax)


@contextmanager
def quiet_failures() -> Iterator[None]:
    """Print nothing of what fails in threads of Orbax, nor, where the block ends with an error, of what fails later."""
    on_thread, on_unraisable = threading.excepthook, sys.unraisablehook

    def thread_hook(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("orbax."):
            on_thread(failure)

    def unraisable_hook(failure: Any) -> None:
        is_late = isinstance(failure.exc_value, RuntimeError) and str(failure.exc_value) == "Event loop is closed"
        if not is_late or failure.object is not None:  # TensorStore, of which Orbax makes use, names no object
            on_unraisable(failure)

    threading.excepthook, sys.unraisablehook = thread_hook, unraisable_hook
    try:
        yield
        sys.unraisablehook = on_unraisable
    except BaseException:  # Orbax may keep writes that it never began, up to the end of the process
        warnings.filterwarnings("ignore", r"coroutine 'async_serialize.* was never awaited", RuntimeWarning)
        raise
    finally:
        threading.excepthook = on_thread


def forget_unfinished(error: BaseException | None) -> None:
    """Delete what an error of Orbax left unfinished now, without the warnings that it would give later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a coroutine was never awaited
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        gc.collect()
