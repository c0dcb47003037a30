"""Objects of an HDF5 file that lie in the file itself, and are no larger than what is stored allows.

HDF5 datasets can have their values in other files (external storage, virtual datasets), and names can be links to other
files. A file of another person could so make this program copy any file into its output: none of them is followed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.limits import Limits

MOST_DEPTH = 64
"""groups within one another"""
MOST_OBJECTS = 100_000
"""groups and datasets of a file"""


def is_own(h5py: Any, group: Any, name: str) -> bool:
    """Whether a name in a group is an object of the file, no link to another name or file."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def own(h5py: Any, group: Any, name: str) -> Any:
    """Return an object of a group.

    Raises:
        DataError: it is missing, or a link.
    """
    if not is_own(h5py, group, name):
        problem = "is a link, which is not followed" if group.get(name, getlink=True) is not None else "is missing"
        raise DataError(f"{one_line(f'{group.name}/{name}')} {problem}")
    return group[name]


def objects_in(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield all groups and datasets of a file but its root with their paths, each once, in the order of their names.

    Raises:
        DataError: there are too many, or groups lie too deep within one another.
    """
    waiting = [("", file, 0)]
    seen = {h5py.h5o.get_info(file.id).addr}
    n_found = 0
    while waiting:
        path, found, depth = waiting.pop()
        if path:
            yield path, found
        if not isinstance(found, h5py.Group):
            continue
        n_found += len(found)
        if depth >= MOST_DEPTH or n_found > MOST_OBJECTS:
            raise DataError(
                f"has groups more than {MOST_DEPTH} deep within one another, or more than {MOST_OBJECTS} objects"
            )
        inner = []
        for name in found:
            if is_own(h5py, found, name):
                child = found[name]
                address = h5py.h5o.get_info(child.id).addr
                if address not in seen and isinstance(child, h5py.Group | h5py.Dataset):
                    seen.add(address)
                    inner.append((f"{path}/{name}".lstrip("/"), child, depth + 1))
        waiting += reversed(inner)


def check_dataset(values: Any, limits: Limits) -> None:
    """Check a dataset before its values are read.

    Raises:
        DataError: its values lie in other files, or it declares more than `limits` allow.
    """
    what = f"dataset {one_line(values.name)}"
    if values.is_virtual or values.external:
        raise DataError(f"{what} has its values in other files, which is not followed; store them in this file")
    n_bytes = math.prod(values.shape or ()) * values.dtype.itemsize
    if values.chunks:  # a chunk is read as a whole
        limits.check_bytes(math.prod(values.chunks) * values.dtype.itemsize, f"a chunk of {what}")
    limits.check_expansion(n_bytes, values.id.get_storage_size(), what)


def all_of(values: Any, limits: Limits) -> Any:
    """Return all values of a dataset, which `check_dataset` and the memory allow."""
    check_dataset(values, limits)
    limits.check_bytes(math.prod(values.shape or ()) * values.dtype.itemsize, f"dataset {one_line(values.name)}")
    return values[:]
