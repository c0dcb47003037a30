"""Folders of outputs under way: removed by whoever made them, or by the next one after a kill."""

import os
import signal
import subprocess
import sys

import pytest

from tofae_jax.data.storage import partials
from tofae_jax.data.storage.partials import SUFFIX, partial_folder, remove_leftovers

HOLDING = """
import sys, time
from pathlib import Path
from tofae_jax.data.storage.partials import partial_folder
with partial_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("written")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that writes beside `tmp_path / "out"`."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path / "out"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        folder = run.stdout.readline().strip()
        yield run, folder
        run.kill()


def test_partial_folder_is_beside_and_removed(tmp_path):
    path = tmp_path / "a" / "b" / "out"
    with partial_folder(path) as folder:
        assert folder.parent == path.parent and os.listdir(folder) == []
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert os.listdir(tmp_path) == []


def test_partial_folder_parents_with_something_in_them_stay(tmp_path):
    with partial_folder(tmp_path / "a" / "b" / "out") as folder:
        folder.rename(tmp_path / "a" / "b" / "out")
    assert os.listdir(tmp_path / "a" / "b") == ["out"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "." * 200, " "])
def test_partial_folder_of_any_name(tmp_path, name):
    with partial_folder(tmp_path / name) as folder:
        (folder / name).touch()
        assert partials._NAME.fullmatch(folder.name)


def test_leftovers_of_a_killed_process_are_removed_by_the_next(tmp_path, holder):
    run, folder = holder
    assert remove_leftovers(tmp_path) == [] and os.path.isdir(folder)  # it is at work
    with partial_folder(tmp_path / "other"):
        assert os.path.isdir(folder)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert os.path.isdir(folder)
    with partial_folder(tmp_path / "other") as own:
        assert os.listdir(tmp_path) == [own.name]


def test_leftovers_are_nothing_else(tmp_path):
    """Only folders of our own names: no files, links, or names that somebody else could choose."""
    kept = [".a.partial", ".out.1234.tofae_jax-partial", "out.12345678.tofae_jax-partial", ".b.12345678" + SUFFIX]
    for name in kept[:-1]:
        (tmp_path / name).mkdir()
    (tmp_path / kept[-1]).symlink_to(tmp_path)
    (tmp_path / (".c.12345678" + SUFFIX)).write_text("a file")
    ours = tmp_path / (".d.12345678" + SUFFIX)
    ours.mkdir()
    assert remove_leftovers(tmp_path) == [ours]
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".c.12345678" + SUFFIX])
    assert remove_leftovers(tmp_path / "missing") == []


def test_partial_folder_without_locks_removes_no_leftovers(tmp_path, monkeypatch):
    from tofae_jax.data.storage import lock

    ours = tmp_path / (".d.12345678" + SUFFIX)
    ours.mkdir()
    monkeypatch.setattr(lock, "fcntl", None)
    with partial_folder(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == [ours.name]


def test_partial_folder_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """Another process may take a folder that is not locked yet for a leftover."""
    usual, calls = partials.locked_folder, []

    def slow(folder, *, wait):
        if not calls:
            folder.rmdir()
        calls.append(folder)
        return usual(folder, wait=wait)

    monkeypatch.setattr(partials, "locked_folder", slow)
    with partial_folder(tmp_path / "out") as folder:
        assert folder.is_dir() and len(calls) == 2
