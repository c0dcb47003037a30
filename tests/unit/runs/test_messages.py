"""Messages for the user."""

import errno
import logging
import sys

import pytest

from tofae_jax.runs.messages import LOGGER, messages_on_stderr, say, show, warn, warn_once


def state():
    return list(LOGGER.handlers), LOGGER.level, LOGGER.propagate


def test_messages_on_stderr_prints_both_kinds(capsys):
    with messages_on_stderr():
        say("100 % said")
        warn("warned")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "100 % said\nwarning: warned\n"


def test_messages_on_stderr_nested_prints_once(capsys):
    with messages_on_stderr():
        with messages_on_stderr():
            say("inside")
        say("outside")
    assert capsys.readouterr().err == "inside\noutside\n"


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_messages_on_stderr_leaves_the_logger_as_it_was(capsys, error):
    before = state()
    try:
        with messages_on_stderr():
            assert state() != before
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert state() == before
    say("unheard")
    assert capsys.readouterr().err == ""


def test_messages_on_stderr_other_handlers_stay_quiet(capsys):
    """As a library that configures logging for itself does, e.g. by `logging.basicConfig`."""
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with messages_on_stderr():
            warn("once")
    finally:
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "warning: once\n"


def test_messages_on_stderr_closed_pipe_raises(monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

    with messages_on_stderr(), monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Closed())
        with pytest.raises(BrokenPipeError):
            say("nobody reads this")


def test_warn_once_same_message_is_printed_once(capsys):
    warn_once.cache_clear()
    with messages_on_stderr():
        for message in ("a", "b", "a"):
            warn_once(message)
    assert capsys.readouterr().err == "warning: a\nwarning: b\n"


def test_messages_on_stderr_control_characters_are_visible(capsys):
    with messages_on_stderr():
        warn("run \x1b[31m\n")
    assert capsys.readouterr().err == "warning: run \\u001b[31m\\n\n"


def test_show_prints_lines_and_closed_stdout_is_an_error_unless_all_is_on_disk(capsys, monkeypatch):
    show(["a\x07", "b"])
    assert capsys.readouterr().out == "a\\u0007\nb\n"

    class Closed:
        def write(self, text):
            raise OSError(errno.EBADF, "closed")

    monkeypatch.setattr(sys, "stdout", Closed())
    show("a", is_on_disk=True)
    with pytest.raises(OSError, match="closed"):
        show("a")
