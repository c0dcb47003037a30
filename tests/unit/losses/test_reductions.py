import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax import losses
from tofae_jax.losses.reductions import is_present, mean, total


@pytest.mark.backlog("B03")
def test_mean_of_empty_class_is_finite_unlike_naive_mean():
    def naive(y, t):
        error, hit = (y - t) ** 2, t != 0
        return jnp.sum(jnp.where(hit, error, 0)) / jnp.sum(hit) + jnp.sum(jnp.where(hit, 0, error)) / jnp.sum(~hit)

    y, t = jnp.full((1, 2, 2), 0.5), jnp.zeros((1, 2, 2))
    assert np.isnan(naive(y, t))
    value, gradient = jax.value_and_grad(losses.acb_mse)(y, t)
    assert float(value) == 0.25
    assert np.all(np.isfinite(gradient))


def test_mse_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduce must be one of"):
        losses.mse(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)), reduce="sum")


@pytest.mark.parametrize("event_axes", [1, 2])
@pytest.mark.parametrize("reduce", losses.REDUCTIONS)
def test_mean_and_total_of_members_equal_numpy(reduce, event_axes):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    member = values > 0
    member[1] = False  # an event without members
    axes = None if reduce == "batch" else tuple(range(-event_axes, 0))
    sums = np.where(member, values, 0).sum(axis=axes)
    given, marked, options = jnp.asarray(values), jnp.asarray(member), {"event_axes": event_axes}
    np.testing.assert_allclose(total(given, reduce, marked, **options), sums, rtol=1e-6)
    means = sums / np.maximum(member.sum(axis=axes), 1)
    np.testing.assert_allclose(mean(given, reduce, marked, **options), means, rtol=1e-6)
    np.testing.assert_allclose(mean(given, reduce, **options), values.mean(axis=axes), rtol=1e-5)
    np.testing.assert_array_equal(is_present(marked, reduce, **options), member.any(axis=axes))
