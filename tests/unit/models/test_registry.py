"""The registry of models and the settings that must name the same."""

import dataclasses
import typing

import flax.linen as nn
import msgspec
import pytest

from tofae_jax.config import ModelConfig
from tofae_jax.config.models import MODEL_NAMES
from tofae_jax.core.precision import policy_by_name
from tofae_jax.models import MODELS, ModelKind, build_model


def test_build_model_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"known: {', '.join(MODELS)}"):
        build_model("nonsense", shape_xyt=(4, 4, 4))


def test_build_model_missing_and_unknown_sizes_are_named():
    with pytest.raises(ValueError, match="model 'autoencoder': sizes fc are missing"):
        build_model("autoencoder", shape_xyt=(4, 4, 4), latent=2)
    with pytest.raises(ValueError, match="model 'autoencoder' has no sizes width; known: latent, fc"):
        build_model("autoencoder", shape_xyt=(4, 4, 4), latent=2, fc=3, width=1)


@pytest.mark.parametrize("name", [name for name, kind in MODELS.items() if kind.of_module])
def test_build_model_of_module_without_it_is_refused(name):
    sizes = msgspec.structs.asdict(getattr(ModelConfig(), name))
    with pytest.raises(ValueError, match=f"'{name}' needs bin_ns and the module's settings, got None, None"):
        build_model(name, shape_xyt=(4, 4, 4), **sizes)


def test_models_registered_names_are_those_of_the_settings():
    assert list(MODEL_NAMES) == list(MODELS)
    with pytest.raises(ValueError, match=r"model.name = 'unett': allowed: autoencoder, .*; perhaps unet"):
        ModelConfig(name="unett")


@pytest.mark.parametrize("name", list(MODELS))
def test_models_sizes_have_defaults_in_the_settings_alone(name):
    kind = MODELS[name]
    assert set(getattr(ModelConfig(), name).__struct_fields__) == set(kind.sizes)
    fields = {field.name: field for field in dataclasses.fields(kind.module)}
    for size in kind.sizes:
        assert fields[size].default is fields[size].default_factory is dataclasses.MISSING
        assert fields[size].kw_only


@pytest.mark.parametrize("name", list(MODELS))
def test_models_declaration_fits_the_module(name):
    kind = MODELS[name]
    fields = {field.name for field in dataclasses.fields(kind.module)}
    assert ({"bin_ns", "module"} <= fields) == kind.of_module
    assert kind.takes_tracks == (kind.inputs == "hits_and_tracks")
    assert set(kind.outputs) <= {"image", "hits"}


def test_build_model_fills_in_the_fields_that_a_module_uses(monkeypatch):
    class Toy(nn.Module, kw_only=True):
        size: int
        shape_xyt: tuple[int, int, int]
        dtype: typing.Any

        def __call__(self, image):
            return image

    monkeypatch.setitem(MODELS, "toy", ModelKind(Toy, inputs="image", outputs=("image",)))
    built = build_model("toy", shape_xyt=(3, 4, 5), policy=policy_by_name("mixed_bfloat16"), size=2)
    assert (built.module.size, built.module.shape_xyt, built.module.dtype) == (2, (3, 4, 5), "bfloat16")
    assert (built.inputs, built.outputs, built.takes_tracks, built.has_latent) == ("image", ("image",), False, False)
