import pytest

import tofae_jax
from tofae_jax import models
from tofae_jax.config import ModelConfig
from tofae_jax.engine import default_models


def test_build_model_default_sizes_are_those_of_the_settings():
    built = default_models.build_model("autoencoder", shape_xyt=(8, 8, 9), fc=5)
    assert (built.module.latent, built.module.fc) == (ModelConfig().autoencoder.latent, 5)
    assert tofae_jax.build_model is default_models.build_model
    with pytest.raises(ValueError, match="sizes latent, fc are missing"):
        models.build_model("autoencoder", shape_xyt=(8, 8, 9))


def test_build_model_unknown_name_or_size_is_refused():
    with pytest.raises(ValueError, match="model 'nonsense' is not known"):
        default_models.build_model("nonsense", shape_xyt=(8, 8, 9))
    with pytest.raises(ValueError, match="has no sizes depth; known: latent, fc"):
        default_models.build_model("autoencoder", shape_xyt=(8, 8, 9), depth=2)
