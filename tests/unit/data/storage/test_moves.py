"""Moves in one step, with the system's calls and without."""

import os

import pytest

from tofae_jax.data.storage import moves
from tofae_jax.data.storage.moves import exchange, move_new


@pytest.fixture(params=["renameat2", "none", "no hard links"], autouse=True)
def system(request, monkeypatch):
    """A system that has the calls, one that has not, and one whose file system has no hard links."""
    if request.param == "renameat2":
        if moves._renameat2() is None:
            pytest.skip("another system than Linux")
        return
    monkeypatch.setattr(moves, "_renameat2", lambda: None)
    if request.param == "no hard links":

        def link(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)


def make(path, kind):
    if kind == "folder":
        path.mkdir()
        (path / "inside").write_text(path.name)
    elif kind == "file":
        path.write_text(path.name)
    elif kind == "empty folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    return path


def content(path):
    return (path / "inside" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_move_new_where_nothing_is(tmp_path, kind):
    move_new(make(tmp_path / "a", kind), tmp_path / "b")
    assert content(tmp_path / "b") == "a" and os.listdir(tmp_path) == ["b"]


@pytest.mark.parametrize("there", ["file", "folder", "empty folder", "link"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_move_new_replaces_nothing(tmp_path, kind, there):
    make(tmp_path / "b", there)
    with pytest.raises(FileExistsError):
        move_new(make(tmp_path / "a", kind), tmp_path / "b")
    assert content(tmp_path / "a") == "a" and os.path.lexists(tmp_path / "b")
    assert there in ("link", "empty folder") or content(tmp_path / "b") == "b"


@pytest.mark.parametrize("kinds", [("file", "file"), ("folder", "folder"), ("file", "folder")])
def test_exchange_swaps_two(tmp_path, kinds):
    a, b = (make(tmp_path / name, kind) for name, kind in zip("ab", kinds, strict=True))
    exchange(a, b)
    assert (content(a), content(b)) == ("b", "a") and sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_exchange_never_loses_what_was_there(tmp_path, monkeypatch):
    """Where neither can be moved back, as something appeared, the error names where the old one is."""
    if moves._renameat2() is not None:
        pytest.skip("exchanged in one step")
    (tmp_path / "work").mkdir()
    a, b = make(tmp_path / "work" / "a", "folder"), make(tmp_path / "b", "folder")
    usual = moves.move_new

    def crowded(source, target):
        if not (tmp_path / "b").exists():
            make(tmp_path / "b", "file")
        usual(source, target)

    monkeypatch.setattr(moves, "move_new", crowded)
    with pytest.raises(OSError, match=r"what was there is now \.b\.[0-9a-f]{8}\.old"):
        exchange(a, b)
    [old] = tmp_path.glob(".b.*.old")
    assert (content(old), content(a), content(tmp_path / "b")) == ("b", "a", "b")
    assert old.is_dir() and (tmp_path / "b").is_file()


@pytest.mark.parametrize("missing", ["a", "b"])
def test_exchange_missing_changes_nothing(tmp_path, missing):
    (other,) = {"a", "b"} - {missing}
    make(tmp_path / other, "folder")
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "b")
    assert content(tmp_path / other) == other and os.listdir(tmp_path) == [other]
