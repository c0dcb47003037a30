import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tofae_jax import losses
from tofae_jax.config.sections import LossConfig

CASES = ["mixed", "all_empty", "dense", "all_hit"]
NAMES = {"acb_mse": "ACB_MSE", "mse": "MSE", "mae": "MAE", "bce": "BCE"}
WEIGHTS = {"acb_mse": {"zero_weight": 1.0, "hit_weight": 0.4}}
FLOATS = ["float16", "bfloat16", "float32", "float64"]


def case(data, name):
    output, target = data["output"][:, 0], data["target"][:, 0]
    pick = {"mixed": slice(None), "all_empty": slice(0, 1), "dense": slice(3, 4), "all_hit": slice(0, 1)}[name]
    target = data["all_hit_target"][:, 0] if name == "all_hit" else target[pick]
    return jnp.asarray(output[pick]), jnp.asarray(target)


def loss_of(name, **options):
    return lambda y, t: losses.LOSSES[name].function(y, t, **WEIGHTS.get(name, {}), **options)


@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "bce"])
def test_values_and_gradients_equal_the_reference(reference, name, case_name):
    data = reference("losses")
    y, t = case(data, case_name)
    value, gradient = jax.value_and_grad(loss_of(name))(y, t)
    key = f"{case_name}|{NAMES[name]}"
    np.testing.assert_allclose(value, data[f"{key}|value"], rtol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(gradient), data[f"{key}|grad_norm"], rtol=2e-5)
    sample = np.asarray(gradient).reshape(-1)[:: int(data["grad_sample_stride"])]
    np.testing.assert_allclose(sample, data[f"{key}|grad_sample"], rtol=1e-4, atol=1e-9)


def test_bce_equals_the_reference_away_from_0_and_1(reference):
    """There the logarithm is cut at -100, so that gradients reach 1e8; ours clips the prediction, on purpose."""
    data = reference("losses")
    y, t = case(data, "mixed")
    inside = (y > 1e-5) & (y < 1 - 1e-5)
    y, t = jnp.where(inside, y, 0.5), jnp.where(inside, t, 0.5)
    expected = -np.mean(np.asarray(t) * np.log(y) + (1 - np.asarray(t)) * np.log1p(-np.asarray(y)))
    np.testing.assert_allclose(losses.bce(y, t), expected, rtol=1e-5)
    assert float(data["mixed|BCE|grad_norm"]) > 1e7
    value, gradient = jax.value_and_grad(losses.bce)(*case(data, "mixed"))
    assert np.isfinite(value)
    assert np.linalg.norm(gradient) < 1e4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", list(NAMES))
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
def test_empty_classes_give_zero_and_zero_gradient_at_every_precision(name, dtype, reduce):
    with jax.enable_x64(dtype == "float64"):
        for filling in (0.0, 0.75):  # no hit pixels at all; no zero pixels at all
            t = jnp.full((2, 3, 4), filling, dtype)
            loss = loss_of(name, reduce=reduce)
            value, gradient = jax.value_and_grad(lambda y, t=t, loss=loss: jnp.sum(loss(y, t)))(t)
            assert value.dtype == jnp.promote_types(dtype, jnp.float32)
            assert gradient.dtype == dtype
            assert np.all(np.isfinite(np.asarray(gradient, np.float64)))
            if name != "bce":
                assert float(value) == 0
                assert not np.any(np.asarray(gradient, np.float64))


@pytest.mark.backlog("B03")
def test_the_old_cause_of_nan_is_the_mean_over_an_empty_class():
    def naive(y, t):
        error, hit = (y - t) ** 2, t != 0
        return jnp.sum(jnp.where(hit, error, 0)) / jnp.sum(hit) + jnp.sum(jnp.where(hit, 0, error)) / jnp.sum(~hit)

    y, t = jnp.full((1, 2, 2), 0.5), jnp.zeros((1, 2, 2))
    assert np.isnan(naive(y, t))
    value, gradient = jax.value_and_grad(losses.acb_mse)(y, t)
    assert float(value) == 0.25
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", list(NAMES))
def test_gradients_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        y = jax.random.uniform(jax.random.key(0), (2, 4, 5), jnp.float64, 0.2, 0.8)
        t = jnp.where(jax.random.uniform(jax.random.key(1), y.shape) < 0.3, 0.9, 0.0)
        check_grads(lambda y: loss_of(name)(jnp.asarray(y), t), (y,), order=1, modes=("rev",))


def test_per_event_values_are_those_of_each_event_alone(strict):
    y = jax.random.uniform(jax.random.key(0), (3, 4, 5), jnp.float32)
    t = jnp.where(y < 0.3, y, 0.0)
    for name in NAMES:
        per_event = loss_of(name, reduce="event")(y, t)
        alone = [loss_of(name)(y[i : i + 1], t[i : i + 1]) for i in range(3)]
        np.testing.assert_allclose(per_event, jnp.stack(alone), rtol=1e-6)


def test_sums_do_not_overflow_in_float16():
    y, t = jnp.full((4, 128, 88), 1, jnp.float16), jnp.zeros((4, 128, 88), jnp.float16)
    assert float(losses.mse(y, t)) == 1  # 45056 ones would be inf as a float16 sum


def test_weights_may_be_traced():
    y, t = jnp.full((1, 2, 2), 0.5), jnp.zeros((1, 2, 2))
    weighted = jax.jit(lambda w: losses.acb_mse(y, t, zero_weight=w))
    assert float(weighted(2.0)) == 0.5
    assert float(weighted(4.0)) == 1.0


@pytest.mark.backlog("B15")
def test_names_are_the_one_interface():
    section = LossConfig()
    known = typing.get_args(LossConfig.__annotations__["name"]) or typing.get_type_hints(LossConfig)["name"].__args__
    assert list(known) == list(losses.LOSSES)
    for name, loss in losses.LOSSES.items():
        assert tuple(getattr(section, name).__struct_fields__) == loss.weights
    with pytest.raises(ValueError, match="'nonsense' is not known; known: acb_mse, mse, mae, bce"):
        losses.loss_by_name("nonsense")
    with pytest.raises(ValueError, match="reduce must be one of"):
        losses.mse(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)), reduce="sum")
