"""Read headers of NumPy arrays without unpickling."""

from __future__ import annotations

import warnings
from io import BufferedIOBase, BytesIO
from typing import IO

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MAX_HEADER_BYTES = 2**16


def _bounded(file: IO[bytes] | BufferedIOBase, version: tuple[int, int]) -> BytesIO:
    """Return the header with its length, which NumPy would read whatever its length."""
    length = file.read(2 * version[0])  # bytes of the length, little endian
    if (n_bytes := int.from_bytes(length, "little")) > _MAX_HEADER_BYTES:
        raise DataError(f"array header of {n_bytes} bytes; at most {_MAX_HEADER_BYTES} allowed")
    return BytesIO(length + file.read(n_bytes))


def npy_header(file: IO[bytes] | BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the `.npy` header at the current position: shape, whether in Fortran order, and type. The values follow."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # 3.0: records with unusual names
            raise DataError(f"array in version {version} of the npy format; 1.0 and 2.0 allowed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns about files that Python 2 wrote, and reads them
            return _HEADERS[version](_bounded(file, version))
    except DataError:
        raise
    except Exception as error:  # the header is Python text; NumPy passes on what its tokeniser and parser raise
        raise DataError(f"array header is damaged ({one_line(error)})") from error
