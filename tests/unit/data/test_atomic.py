"""Files and folders that are there completely or not at all."""

import os
from pathlib import Path

import pytest
from permissions import without_privileges

from tofae_jax.data.atomic import (
    check_can_be_written,
    naming_path,
    replacing_file,
    replacing_folder,
    writable_folder,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing_file_success_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("old", "new"):
        with replacing_file(path) as partial:
            assert partial.parent == path.parent and partial != path
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
        with replacing_folder(path) as partial:
            assert names(partial) == []
            (partial / text).write_text(text)
            assert path.exists() == (text == "new")
    assert names(path) == ["new"]
    assert names(path.parent) == ["run"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_folder_error_leaves_the_old_one(tmp_path, error):
    with replacing_folder(tmp_path / "run") as partial:
        (partial / "old").touch()
    with pytest.raises(error), replacing_folder(tmp_path / "run") as partial:
        (partial / "half").touch()
        raise error
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_replacing_folder_failed_move_puts_the_old_one_back(tmp_path, monkeypatch):
    with replacing_folder(tmp_path / "run") as partial:
        (partial / "old").touch()
    rename = os.rename

    def failing(source, target):
        if str(source).endswith(".partial"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with (
            pytest.raises(KeyError, match="run: cannot be made: No space left on device"),
            replacing_folder(tmp_path / "run", error_type=KeyError) as partial,
        ):
            (partial / "new").touch()
    assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]


def test_replacing_folder_below_a_file_raises(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/run: cannot be made: Not a directory"):
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
