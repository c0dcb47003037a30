"""Signals that stop a program: when they arrive, and what they leave."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
from places import ROOT

from tofae_jax.data.storage import interrupts
from tofae_jax.data.storage.interrupts import STOP_SIGNALS, deferred_interrupts, signals_interrupt


def handlers():
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@pytest.fixture
def interrupting():
    with signals_interrupt():
        yield


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signals_interrupt_raises_the_name_and_restores_handlers(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match=number.name), signals_interrupt():
        signal.raise_signal(number)
    assert handlers() == before


def test_signals_interrupt_leaves_other_handlers_alone(monkeypatch):
    called = []
    before = signal.signal(signal.SIGTERM, lambda number, _: called.append(number)), signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals_interrupt():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
    assert called == [signal.SIGTERM]


def test_signals_interrupt_off_the_main_thread_does_nothing():
    before, found = handlers(), []

    def work():
        with signals_interrupt(), deferred_interrupts():
            found.append(handlers() == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGHUP]])
def test_deferred_interrupts_come_after_the_block(interrupting, numbers):
    done = []
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match=numbers[0].name), deferred_interrupts():
        for number in numbers:
            signal.raise_signal(number)
        done.append("block")
    assert done == ["block"]
    assert handlers() == before


def test_deferred_interrupts_error_of_the_block_is_in_the_chain(interrupting):
    with pytest.raises(KeyboardInterrupt) as caught, deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("of the block")
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize(("n", "code"), [(2, 7), (3, -signal.SIGTERM)])
def test_deferred_interrupts_third_signal_ends_the_process(n, code):
    program = f"""
import signal, sys
from tofae_jax.data.storage.interrupts import deferred_interrupts, signals_interrupt
with signals_interrupt():
    try:
        with deferred_interrupts():
            for _ in range({n}):
                signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == code


FORGOTTEN = """
import gc, signal, sys, time
from tofae_jax.data.storage.interrupts import signals_interrupt

def while_collecting(phase, info):
    if phase == "start":
        gc.callbacks.remove(while_collecting)
        signal.raise_signal(signal.SIGTERM)

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGHUP)

with signals_interrupt():
    try:
        gc.callbacks.append(while_collecting)
        gc.collect()
        time.sleep(60)
    except KeyboardInterrupt as error:
        print(error)
    try:
        Deleted()
        time.sleep(60)
    except KeyboardInterrupt as error:
        print(error)
"""


def test_signals_interrupt_where_python_forgets_exceptions_comes_again():
    done = subprocess.run(
        [sys.executable, "-c", FORGOTTEN], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGTERM\nSIGHUP\n", "")


def test_signals_interrupt_other_forgotten_exceptions_are_told(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: told.append(failure.exc_value))

    class Deleted:
        def __del__(self):
            raise ValueError("of a destructor")

    before = sys.unraisablehook
    with signals_interrupt():
        Deleted()
    assert [str(error) for error in told] == ["of a destructor"]
    assert sys.unraisablehook is before


CLOSED = """
import os, signal, sys, time
from tofae_jax.data.storage.interrupts import signals_interrupt
os.open(os.ttyname(0), os.O_RDWR)  # of a new session, it becomes the terminal
told = int(sys.argv[1])
with signals_interrupt():
    try:
        os.write(told, b"ready")
        time.sleep(60)
    except KeyboardInterrupt as error:
        print("goes nowhere", file=sys.stderr, flush=True)
        os.write(told, str(error).encode())
"""


def test_leave_closed_terminal_lets_the_program_end_in_good_order():
    """Closing the terminal sends SIGHUP, and makes writing to it an error."""
    reader, writer = os.pipe()
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED, str(writer)],
        cwd=ROOT,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        pass_fds=[writer],
    )
    os.close(writer)
    os.close(inner)
    assert os.read(reader, 100) == b"ready"
    os.close(terminal)
    assert os.read(reader, 100) == b"SIGHUP"
    assert process.wait(timeout=30) == 0
    os.close(reader)


def test_leave_closed_terminal_leaves_open_output_alone(capfd):
    interrupts.leave_closed_terminal()
    os.write(1, b"out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")
