"""Verify files by their recorded checksums once, and remember which have been, by size and time stamps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tofae_jax.config.documents import DocumentError, decode_json, sealed, unsealed
from tofae_jax.data.storage.atomic import write_text
from tofae_jax.data.storage.cache import cache_folder
from tofae_jax.data.storage.checksum import file_checksum

MOST_FOLDERS = 1000
"""that are remembered; then the older half is forgotten"""
SWITCH = "TOFAE_JAX_VERIFY"
"""environment variable: 0 has files used as they are"""


def verifies_by_default() -> bool:
    """Return whether files are verified, unless a caller says otherwise."""
    return os.environ.get(SWITCH, "1") != "0"


class Verified:
    """What is known of the files of a folder, kept in the user's cache; the folder itself may be read only.

    A file counts as verified while its size, its times of change and its inode stay as they were.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is known; nothing where that is damaged or missing."""
        self._folder = folder.resolve()
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:32]
        self._memory = cache_folder() / "verified" / f"{name}.json"
        self._known: dict[str, Any] = {}
        with suppress(OSError, DocumentError):
            tree = unsealed(decode_json(self._memory.read_bytes()), is_required=True)
            if isinstance(files := tree.get("files"), dict):
                self._known = files

    def first_damaged(self, checksums: Mapping[str, str]) -> Path | None:
        """Verify files, as far as they are not known; returns the first that is missing or not as it was written.

        Args:
            checksums: SHA-256 of each file, in hexadecimal, by name.
        """
        before = dict(self._known)
        for name, checksum in checksums.items():
            path = self._folder / name
            try:
                state = _state(path, checksum)
                if self._known.get(name) == state:
                    continue
                if file_checksum(path) != checksum:
                    return path
            except OSError:
                return path
            self._known[name] = state
        if self._known != before:
            self._remember()
        return None

    def trust(self, checksums: Mapping[str, str]) -> None:
        """Remember files that were just written, with these checksums."""
        with suppress(OSError):
            self._known = {name: _state(self._folder / name, checksum) for name, checksum in checksums.items()}
            self._remember()

    def _remember(self) -> None:
        tree = sealed({"folder": str(self._folder), "files": self._known})
        with suppress(OSError, UnicodeError):  # a cache that cannot be written costs time alone
            write_text(self._memory, msgspec.json.encode(tree).decode())
            _forget_oldest(self._memory.parent)


def _forget_oldest(folder: Path) -> None:
    files = list(folder.glob("*.json"))
    if len(files) > MOST_FOLDERS:
        for path in sorted(files, key=lambda path: path.stat().st_mtime)[: -MOST_FOLDERS // 2]:
            path.unlink(missing_ok=True)


def _state(path: Path, checksum: str) -> list[Any]:
    found = path.stat()
    return [checksum, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
