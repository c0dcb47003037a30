"""NumPy files with images [n, y, x] or [n, 1, y, x], memory-mapped; read only."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.format import Format, ReadRequest
from tofae_jax.data.files.images import array_events, check_images
from tofae_jax.data.files.npy_header import npy_header


def _read(request: ReadRequest) -> Iterator[Events]:
    path, detector = request.path, request.rules.detector
    # Not np.load: it goes by the content and would take a zip file or, if allowed to, a pickle.
    with path.open("rb") as file:
        shape, is_fortran, dtype = npy_header(file)
        start = file.tell()
    check_images(shape, dtype, detector=detector)
    n_bytes = math.prod(shape) * dtype.itemsize
    if start + n_bytes > path.stat().st_size:
        raise DataError(f"declares {n_bytes} bytes of images {list(shape)}, and has {path.stat().st_size - start}")
    images = np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")
    yield from array_events(images, detector=detector, chunk_hits=request.chunk_hits, limits=request.limits)


FORMAT = Format((".npy",), "images as one NumPy array", read=_read, holds=("images",))
