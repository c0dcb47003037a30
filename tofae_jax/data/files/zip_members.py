"""Members of zip files, the containers of `.npz` and PyTorch files, each under a name of its own."""

from __future__ import annotations

import zipfile

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError


def zip_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name.

    Raises:
        DataError: two have the same name, so that programs would read one or the other.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if member.filename in members:
            raise DataError(f"has two members {one_line(repr(member.filename))}; each name once expected")
        members[member.filename] = member
    return members
