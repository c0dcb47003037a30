import numpy as np
import pytest
from places import REFERENCE

from tofae_jax.models.predecessor_weights import predecessor_shapes, variables_from_predecessor


@pytest.fixture(scope="module")
def weights():
    data = np.load(REFERENCE / "autoencoder.npz")
    return {key.removeprefix("weight|"): data[key] for key in data if key.startswith("weight|")}


def test_predecessor_shapes_equal_those_of_its_weights(weights):
    shapes = predecessor_shapes(n_y=128, n_x=88, latent=8, fc=16)
    assert shapes == {name: weights[name].shape for name in shapes}
    assert all("num_batches_tracked" in name for name in weights.keys() - shapes.keys())


def test_variables_from_predecessor_missing_weight_is_named(weights):
    weights = {k: v for k, v in weights.items() if k != "dec.decoder_lin.3.bias"}
    with pytest.raises(ValueError, match=r"lack 'dec\.decoder_lin\.3\.bias'"):
        variables_from_predecessor(weights, n_y=128, n_x=88)
