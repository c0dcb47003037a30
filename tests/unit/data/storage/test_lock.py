"""Locks between processes: a second open file conflicts with the first as another process does."""

import threading

import pytest

from tofae_jax.data.storage import lock
from tofae_jax.data.storage.lock import locked_file
from tofae_jax.runs.folder import RunError, RunPaths, locked

pytest.importorskip("fcntl")
SOON_S = 0.2
PATIENCE_S = 30


class Holder(threading.Thread):
    """Holds the lock on a file until it is told to leave."""

    def __init__(self, path):
        super().__init__()
        self.path, self.has_it, self.may_leave = path, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with locked_file(self.path, wait=True):
            self.has_it.set()
            self.may_leave.wait(PATIENCE_S)

    def leave(self):
        self.may_leave.set()
        self.join(PATIENCE_S)


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".lock"


@pytest.fixture
def holder(path):
    thread = Holder(path)
    assert thread.has_it.wait(PATIENCE_S)
    yield thread
    thread.leave()


def is_held(path):
    try:
        with locked_file(path, wait=False):
            return False
    except BlockingIOError:
        return True


def test_locked_file_held_elsewhere_raises(path, holder):
    assert is_held(path)
    holder.leave()
    assert not is_held(path)


def test_locked_file_left_by_an_error_is_free(path):
    with pytest.raises(KeyError), locked_file(path, wait=False):
        assert is_held(path)
        raise KeyError
    assert not is_held(path)


def test_locked_file_wait_holds_once_freed(path, holder):
    second = Holder(path)
    assert not second.has_it.wait(SOON_S)
    holder.leave()
    assert second.has_it.wait(PATIENCE_S)
    second.leave()


def test_locked_file_deleted_while_waiting_is_made_again(path, holder):
    """A lock on the deleted file would exclude nobody."""
    second = Holder(path)
    assert not second.has_it.wait(SOON_S)
    path.unlink()
    holder.leave()
    assert second.has_it.wait(PATIENCE_S)
    assert is_held(path)
    second.leave()


def test_locked_file_without_locks_goes_on(path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with locked_file(path, wait=False):
        assert not is_held(path)
    monkeypatch.setattr(lock, "fcntl", None)  # as on Windows
    with locked_file(path, wait=True):
        assert not is_held(path)


def test_locked_file_in_no_folder_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        locked_file(tmp_path / "none" / ".lock", wait=False).__enter__()


def test_locked_run_held_elsewhere_raises(tmp_path, holder):
    with pytest.raises(RunError, match="another process works on this run"), locked(RunPaths(tmp_path)):
        pytest.fail("not reached")
    holder.leave()
    with pytest.raises(BlockingIOError, match="from within"), locked(RunPaths(tmp_path)):
        raise BlockingIOError("from within")
