"""Arrays are written as NumPy writes them."""

import numpy as np
import pytest

from tofae_jax.data.storage.array_file import save_array


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.zeros((0, 3), np.int16),
        np.array(["a", "bc"]),
        np.array([True, False]),
        np.arange(4, dtype=">f4"),
        np.arange(12.0).reshape(3, 4).T[::2],
    ],
)
def test_save_array_is_the_file_of_numpy(tmp_path, array):
    np.save(tmp_path / "expected.npy", np.ascontiguousarray(array))
    assert save_array(tmp_path / "a.npy", array) == tmp_path / "a.npy"
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
