"""Write an array to a `.npy` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tofae_jax.data.storage.atomic import naming_path


def save_array(path: Path, array: np.ndarray) -> Path:
    """Write what `np.save` writes to a folder that is not complete yet; returns the path. An error leaves nothing.

    Raises:
        OSError: it says what is wrong, such as a full disk, which the error of NumPy does not.
    """
    array = np.ascontiguousarray(array)
    try:
        with naming_path(path), path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.reshape(-1).view(np.uint8).data)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path
