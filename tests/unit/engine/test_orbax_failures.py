"""What Orbax prints of its failures stays off the terminal, and what others print stays on it."""

import asyncio
import gc
import logging
import sys
import threading
import warnings

import pytest

from tofae_jax.engine.orbax_failures import forget_unfinished, quiet_failures


@pytest.fixture
def hooks(monkeypatch):
    """Hooks that note what is printed."""
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: printed.append(str(failure.exc_value)))
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: printed.append(str(failure.exc_value)))
    return printed


class FailingThread(threading.Thread):
    def run(self):
        raise ValueError("in a thread")


class OrbaxThread(FailingThread):
    __module__ = "orbax.checkpoint.futures"


def fail_in(thread):
    thread.start()
    thread.join()


class Failure:
    """What Python tells `sys.unraisablehook`."""

    def __init__(self, error, of=None):
        self.exc_value, self.object = error, of


def test_quiet_failures_threads_of_orbax_alone(hooks):
    before = threading.excepthook, sys.unraisablehook
    with quiet_failures():
        fail_in(OrbaxThread())
        assert hooks == []
        fail_in(FailingThread())
    assert hooks == ["in a thread"]
    assert (threading.excepthook, sys.unraisablehook) == before


def test_quiet_failures_late_writes_alone(hooks):
    with quiet_failures():
        sys.unraisablehook(Failure(RuntimeError("Event loop is closed")))
        assert hooks == []
        sys.unraisablehook(Failure(RuntimeError("Event loop is closed"), of=FailingThread))
        sys.unraisablehook(Failure(ValueError("another")))
    assert hooks == ["Event loop is closed", "another"]


def test_quiet_failures_after_an_error_late_writes_stay_quiet(hooks):
    with pytest.raises(OSError, match="full"), quiet_failures():
        raise OSError("full")
    sys.unraisablehook(Failure(RuntimeError("Event loop is closed")))
    assert hooks == []


def test_forget_unfinished_deletes_coroutines_without_a_warning():
    async def write():
        pass

    def fail():
        never_awaited = write()
        raise OSError(str(never_awaited))

    try:
        fail()
    except OSError as error:
        forgotten = error
    forget_unfinished(RuntimeError())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forget_unfinished(forgotten)
        gc.collect()
    assert caught == []


@pytest.mark.parametrize(("path", "is_printed"), [("orbax/checkpoint/serialization.py", False), ("user.py", True)])
def test_event_loops_messages_about_orbax_are_dropped(caplog, path, is_printed):
    """An exception that nobody asked for."""
    namespace = {}
    exec(compile("async def fail():\n    raise OSError('full')", path, "exec"), namespace)

    async def forget():
        task = asyncio.ensure_future(namespace["fail"]())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(forget())
    assert ("exception was never retrieved" in caplog.text) == is_printed


@pytest.mark.parametrize(
    ("message", "error", "is_printed"),
    [
        ("Checkpoint is read only", None, False),
        ("failed", OSError("full"), False),
        ("a step was skipped", None, True),
    ],
)
def test_messages_of_orbax_that_errors_repeat_are_dropped(caplog, message, error, is_printed):
    with caplog.at_level("WARNING", "absl"):  # a command that ran before may have set it higher
        logging.getLogger("absl").warning(message, exc_info=error)
    assert bool(caplog.records) == is_printed


def test_quiet_failures_after_an_error_writes_that_never_began_stay_quiet():
    async def async_serialize_from_host():
        pass

    async def of_others():
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match="full"), quiet_failures():
            raise OSError("full")
        for unfinished in (async_serialize_from_host, of_others):
            unfinished.__qualname__ = f"{unfinished.__name__}.<locals>.write_fragment"
            unfinished()
            gc.collect()
    (warning,) = caught
    assert "'of_others.<locals>.write_fragment' was never awaited" in str(warning.message)


@pytest.mark.parametrize(("path", "is_printed"), [("/lib/orbax/checkpoint/manager.py", False), ("/lib/else.py", True)])
def test_warnings_of_orbax_are_dropped_and_those_of_others_are_not(caplog, path, is_printed):
    logger = logging.getLogger("absl")
    logger.handle(logger.makeRecord("absl", logging.WARNING, path, 1, "asynchronous", (), None))
    assert bool(caplog.records) == is_printed
