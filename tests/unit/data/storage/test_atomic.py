"""Files and folders that are there completely or not at all."""

import os
from pathlib import Path
from unittest import mock

import pytest
from permissions import without_privileges

from tofae_jax.data.storage import atomic
from tofae_jax.data.storage.atomic import (
    check_can_be_written,
    naming_path,
    replacing_file,
    replacing_folder,
    writable_folder,
    write_text,
)
from tofae_jax.data.storage.replaceable import nothing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing_file_success_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("old", "new"):
        with replacing_file(path) as partial:
            assert partial.name == path.name and partial.parent.parent == path.parent
            partial.write_text(text)
            assert path.exists() == (text == "new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_file_error_leaves_the_old_one(tmp_path, error):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), replacing_file(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_replacing_file_nothing_written_raises(tmp_path):
    with pytest.raises(FileNotFoundError), replacing_file(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_write_text_utf8_returns_the_path(tmp_path):
    path = write_text(tmp_path / "a.txt", "Čerenkov\n")
    assert path == tmp_path / "a.txt"
    assert path.read_bytes() == "Čerenkov\n".encode()


def test_replacing_folder_success_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "run"
    for text in ("old", "new"):
        with replacing_folder(path, may_replace=nothing) as partial:
            assert names(partial) == []
            (partial / text).write_text(text)
            assert path.exists() == (text == "new")
    assert names(path) == ["new"]
    assert names(path.parent) == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_folder_error_leaves_the_old_one(tmp_path, error):
    with replacing_folder(tmp_path / "run") as partial:
        (partial / "old").touch()
    with pytest.raises(error), replacing_folder(tmp_path / "run", may_replace=nothing) as partial:
        (partial / "half").touch()
        raise error
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_replacing_folder_failed_move_puts_the_old_one_back(tmp_path, monkeypatch):
    with replacing_folder(tmp_path / "run") as partial:
        (partial / "old").touch()
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "exchange", mock.Mock(side_effect=OSError(28, "No space left on device")))
        with (
            pytest.raises(OSError, match=r"No space left on device.*run"),
            replacing_folder(tmp_path / "run", may_replace=nothing, error_type=KeyError) as partial,
        ):
            (partial / "new").touch()
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_replacing_what_appeared_meanwhile_stays(tmp_path, replacing):
    """Neither a folder nor a file that somebody makes meanwhile is lost, whatever is in it."""
    path = tmp_path / "out"
    for make in (lambda: path.mkdir(), lambda: path.write_text("thesis"), lambda: path.symlink_to("nowhere")):
        with (
            pytest.raises(KeyError, match="out: appeared meanwhile; it stays"),
            replacing(path, may_replace=None, error_type=KeyError) as partial,
        ):
            partial.touch()
            make()
        assert names(tmp_path) == ["out"] and os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()


def test_replacing_asks_of_what_lies_there_in_the_end(tmp_path):
    """What may be replaced is asked when it is done, and again when nobody else can change it."""
    path, asked = tmp_path / "a.txt", []

    def obstacle(place):
        asked.append((place.name, place.read_text()))
        return "is precious" if place.read_text() == "precious" else None

    path.write_text("old")
    with replacing_file(path, may_replace=obstacle) as partial:
        partial.write_text("new")
    assert asked == [("a.txt", "old")] * 2 and path.read_text() == "new"
    with (
        pytest.raises(FileExistsError, match=r"is precious; it stays.*a\.txt"),
        replacing_file(path, may_replace=obstacle) as partial,
    ):
        partial.write_text("newer")
        path.write_text("precious")
    assert path.read_text() == "precious" and names(tmp_path) == ["a.txt"]
    answers = iter([None, "was changed in between"])
    with (
        pytest.raises(FileExistsError, match=r"was changed in between; it stays"),
        replacing_file(path, may_replace=lambda _: next(answers)) as partial,
    ):
        partial.write_text("newer")
    assert path.read_text() == "precious" and names(tmp_path) == ["a.txt"]


def test_replacing_what_cannot_be_put_back_is_kept_beside(tmp_path, monkeypatch):
    """A thing that changed in between is never removed with the folder of the output."""
    path = tmp_path / "a.txt"
    path.write_text("precious")
    answers, calls, usual = iter([None, "was changed in between"]), [], atomic.exchange

    def once(one, other):
        if calls:
            raise OSError(16, "Device or resource busy")
        calls.append(one)
        usual(one, other)

    monkeypatch.setattr(atomic, "exchange", once)
    with (
        pytest.raises(FileExistsError, match=r"was changed in between, and is now a\.txt\.[0-9a-f]{8}\.kept"),
        replacing_file(path, may_replace=lambda _: next(answers)) as partial,
    ):
        partial.write_text("new")
    [kept] = tmp_path.glob("a.txt.*.kept")
    assert (kept.read_text(), path.read_text()) == ("precious", "new")


def test_replacing_through_a_link_keeps_the_link(tmp_path):
    write_text(tmp_path / "there" / "a.txt", "old")
    (tmp_path / "a.txt").symlink_to("there/a.txt")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == "new"
    assert names(tmp_path / "there") == ["a.txt"]


def test_replacing_folder_below_a_file_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run: cannot be written: Not a directory"):
        replacing_folder(tmp_path / "file" / "run").__enter__()


def test_writable_folder_missing_is_made(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert names(tmp_path / "a" / "b") == []


def test_writable_folder_file_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: not a folder that can be written"):
        writable_folder(tmp_path / "file")


def test_naming_path_os_error_names_the_path(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, naming_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device", "elsewhere")
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "a.txt"))
    with pytest.raises(ValueError, match="as it was"), naming_path(tmp_path):
        raise ValueError("as it was")


def test_check_can_be_written_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_can_be_written(Path("a/b/c"))
    check_can_be_written(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^file/a: not a folder that can be written: Not a directory$"):
        check_can_be_written(Path("file/a"))
    (tmp_path / "closed").mkdir(0o500)
    with without_privileges(), pytest.raises(ValueError, match=r"closed/a: not a folder that can be written: Perm"):
        check_can_be_written(tmp_path / "closed" / "a")
