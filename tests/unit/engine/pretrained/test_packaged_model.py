"""Weights of packaged models."""

import jax
import numpy as np
import pytest

from tofae_jax.data.events import DataError
from tofae_jax.engine.pretrained.pack import LEAST_QUANTISED, MOST, stored_arrays
from tofae_jax.engine.pretrained.packaged_model import read_weights


def test_read_weights_stored_arrays_come_back_rounded(tmp_path):
    rng = np.random.default_rng(0)
    parameters = {
        "large": {"kernel": rng.normal(size=(64, LEAST_QUANTISED // 64)).astype(np.float32)},
        "small": {"kernel": rng.normal(size=(3, 4)).astype(np.float32), "bias": np.arange(4, dtype=np.float32)},
    }
    np.savez(tmp_path / "weights.npz", **stored_arrays(parameters))
    found = read_weights(tmp_path / "weights.npz", parameters)
    assert jax.tree.structure(found) == jax.tree.structure(parameters)
    np.testing.assert_array_equal(found["small"]["kernel"], parameters["small"]["kernel"])
    np.testing.assert_array_equal(found["small"]["bias"], parameters["small"]["bias"])
    error = np.abs(found["large"]["kernel"] - parameters["large"]["kernel"])
    steps = np.abs(parameters["large"]["kernel"]).max(axis=0) / MOST
    assert error.max() > 0 and np.all(error <= 0.51 * steps)


def test_read_weights_other_shape_raises(tmp_path):
    np.savez(tmp_path / "weights.npz", **stored_arrays({"a": {"kernel": np.zeros((3, 4), np.float32)}}))
    for other in ({"a": {"kernel": np.zeros((4, 4))}}, {"a": {"bias": np.zeros((3, 4))}}):
        with pytest.raises(DataError, match=r"weights.npz: holds no a/\w+ of shape \(., 4\); it belongs to another"):
            read_weights(tmp_path / "weights.npz", other)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut"])
def test_read_weights_damaged_file_raises(tmp_path, content):
    if content is not None:
        (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"weights.npz: missing or damaged"):
        read_weights(tmp_path / "weights.npz", {})
