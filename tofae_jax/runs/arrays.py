"""Arrays of a run on disk, checked when read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.npy_header import npy_header
from tofae_jax.data.files.zip_members import zip_members
from tofae_jax.data.storage.atomic import replacing_file

_VERSION = 1
_MOST_BYTES = Limits().n_bytes  # of a run: counts of scores, some events, latents, some tens of MB at most


def reason_of(error: Exception) -> str:
    """Return why an error was raised, without the path that an OSError adds; never empty."""
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays to one `.npz`, completely or not at all; returns its path."""
    with replacing_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, version=np.asarray(_VERSION), **arrays)
    return path


def load_scores(path: Path) -> dict[str, np.ndarray]:
    """Counts of hits by score, as `save_arrays` wrote them; DataError naming the file if it holds no such."""
    arrays = load_arrays(path)
    if sorted(arrays) != ["n_signal", "noise", "signal"]:
        raise DataError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; signal, noise and n_signal expected")
    signal, noise, n_signal = (arrays[name] for name in ("signal", "noise", "n_signal"))
    if signal.ndim != 2 or signal.shape != noise.shape or n_signal.ndim != 0:
        raise DataError(f"{path}: its arrays do not match")
    for name, counts in arrays.items():
        if counts.dtype.kind not in "iuf" or not (np.isfinite(counts) & (counts >= 0)).all():
            raise DataError(f"{path}: {name} holds what is no count of hits")
    return arrays


def _arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Read all arrays, whose declared sizes are compared with the file first: a small one can declare any."""
    members = zip_members(archive)
    n_bytes = sum(member.file_size for member in members.values())
    if n_bytes > _MOST_BYTES:
        raise DataError(f"its arrays have {n_bytes / 1e9:.3g} GB; arrays of a run have at most {_MOST_BYTES / 1e9:g}")
    arrays = {}
    for name, member in members.items():
        with archive.open(member) as file:
            shape, _, dtype = npy_header(file)
            if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                raise DataError(
                    f"array {one_line(name)} has {member.file_size} bytes, which its shape {shape} does not"
                )
        with archive.open(member) as file:
            arrays[name.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote; DataError naming the file if it is no such."""
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            arrays = _arrays(archive)
        version = int(arrays.pop("version"))
    except Exception as error:  # a damaged archive raises anything: zlib.error, NotImplementedError, MemoryError
        raise DataError(f"{path}: cannot be read: {reason_of(error)}") from error
    if version != _VERSION:
        raise DataError(f"{path}: of version {version}, this program reads {_VERSION}")
    return arrays
