"""The registry of losses and the settings that must name the same."""

import inspect
import typing

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from loss_inputs import hits_of_events, images

from tofae_jax import losses
from tofae_jax.config import AUTO, EvaluationLossConfig, LossConfig
from tofae_jax.config.losses import LOSS_NAMES, LossSections, PixelLossName


@pytest.mark.slow
@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_losses_traced_weights_give_the_same(name):
    loss = losses.LOSSES[name]
    inputs = images() if loss.takes == "image" else hits_of_events()
    names = (*loss.weights, "threshold") if loss.reads_time else loss.weights
    half = dict.fromkeys(names, 0.25)
    compiled = jax.jit(lambda numbers: loss.function(*inputs, **numbers))
    np.testing.assert_allclose(compiled(half), loss.function(*inputs, **half), rtol=1e-5)


@pytest.mark.backlog("B04", "B15")
def test_loss_by_name_known_names_equal_the_sections():
    assert list(LOSS_NAMES) == list(LossSections.__struct_fields__) == list(losses.LOSSES)
    for section in (LossConfig, EvaluationLossConfig):
        with pytest.raises(ValueError, match=r"loss.name = 'mze': allowed: .*acb_mse, mse, mae.*; perhaps mse"):
            section(name="mze")
    with pytest.raises(ValueError, match="'nonsense' is not known; known: acb_mse, mse, mae, bce"):
        losses.loss_by_name("nonsense")


@pytest.mark.backlog("B15", "B58")
@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_losses_sections_have_the_functions_defaults(name):
    loss, section = losses.LOSSES[name], getattr(LossConfig(), name)
    assert set(section.__struct_fields__) == {*loss.weights, *loss.choices}
    parameters = inspect.signature(loss.function).parameters
    for setting in section.__struct_fields__:
        assert getattr(section, setting) == parameters[setting].default
    assert ("threshold" in parameters) == loss.reads_time


def test_split_section_offers_the_pixel_losses():
    assert list(typing.get_args(PixelLossName)) == list(losses.PIXEL_LOSSES)


def test_loss_by_name_other_output_lists_those_that_fit():
    with pytest.raises(
        ValueError, match=r"'hit_bce' takes hits, but the model gives image; losses that fit: acb_mse, "
    ):
        losses.loss_by_name("hit_bce", outputs=("image",))
    with pytest.raises(
        ValueError, match=r"takes image, but the model gives hits; losses that fit: hit_bce, hit_focal$"
    ):
        losses.loss_by_name("mse", outputs=("hits",))


def may_be_auto(section):
    """Settings of a section whose types allow `auto`."""
    hints = typing.get_type_hints(type(section))
    words = {name: [w for part in typing.get_args(kind) for w in typing.get_args(part)] for name, kind in hints.items()}
    return {name for name in section.__struct_fields__ if AUTO in words[name]}


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_losses_auto_entries_are_the_weights_that_may_be_auto(name):
    loss, section = losses.LOSSES[name], getattr(LossConfig(), name)
    assert may_be_auto(section) == set(loss.auto) <= set(loss.weights)
    classes = {"zero", "hit"} if loss.takes == "image" else {"signal", "noise"}
    assert all(set(pair) == classes for pair in loss.auto.values())
    for weight in section.__struct_fields__:  # as the settings read them
        tree = {"name": name, name: {weight: AUTO}}
        if weight in loss.auto:
            assert getattr(getattr(msgspec.convert(tree, LossConfig), name), weight) == AUTO
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(tree, LossConfig)


def one_class(loss, own):
    """Inputs of a loss all of whose pixels or hits are of this class; predictions are lit and dark."""
    if loss.takes == "image":
        y, _ = images()
        return y.at[:, ::2].set(0), jnp.full_like(y, 1.0 if own == "hit" else 0.0)  # 1: the last bin
    logits, is_signal, is_hit = hits_of_events()
    return logits, jnp.full_like(is_signal, own == "signal"), is_hit


@pytest.mark.parametrize(
    ("name", "weight"), [(name, weight) for name, loss in losses.LOSSES.items() for weight in loss.auto]
)
def test_losses_auto_weight_belongs_to_its_own_class(name, weight):
    loss = losses.LOSSES[name]
    opposite, own = loss.auto[weight]

    def changes(members):
        inputs = one_class(loss, members)
        return not np.array_equal(loss.function(*inputs, **{weight: 1.0}), loss.function(*inputs, **{weight: 3.0}))

    assert not changes(opposite)
    assert changes(own) or weight == "true_negative_weight"  # whose error is always 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, loss in losses.LOSSES.items() if loss.takes == "image"])
def test_losses_below_zero_off_unit_targets_need_them(name):
    t = jnp.asarray([[[0.0, 0.0, 30.0, 500.0]]])  # time bins as they are
    lowest = min(float(losses.LOSSES[name].function(jnp.full_like(t, y), t)) for y in (0.0, 0.5, 1.0))
    assert (lowest < 0) == losses.LOSSES[name].needs_unit_targets
