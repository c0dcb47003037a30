"""Headers of NumPy arrays."""

import io

import numpy as np
import pytest

from tofae_jax.data.events import DataError
from tofae_jax.data.files.npy_header import npy_header


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_header_gives_shape_order_and_type(order):
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3), ">f4", order=order))
    file.seek(0)
    assert npy_header(file) == ((2, 3), order == "F", np.dtype(">f4"))
    assert len(file.read()) == 24


def test_npy_header_another_version_or_damage_raises():
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros(2), version=(3, 0))
    file.seek(0)
    with pytest.raises(DataError, match=r"version \(3, 0\) of the npy format; 1.0 and 2.0 allowed"):
        npy_header(file)
    with pytest.raises(DataError, match="array header is damaged"):
        npy_header(io.BytesIO(b"\x93NUMPY\x01\x00\x10\x00{'descr': import os"))
