import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_parts import SHAPE, Hits, Images

from tofae_jax.config import Config
from tofae_jax.models import model_from_module
from tofae_jax.steps.loss_scaling import INITIAL_SCALE
from tofae_jax.steps.state import create_train_state, variables_of


def model(**options):
    return model_from_module(Images(), shape_xyt=SHAPE, **options)


def test_create_train_state_same_key_same_weights():
    states = [create_train_state(jax.random.key(seed), model(), optax.sgd(0.1)) for seed in (0, 0, 1)]
    first, again, other = (jax.tree.leaves(state.params) for state in states)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert variables_of(states[0]) == states[0].variables


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("key", [0, np.uint32([0, 1]), None])
def test_create_train_state_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match=r"key must be made by jax.random.key"):
        create_train_state(key, model(), optax.sgd(0.1))


@pytest.mark.usefixtures("untyped")
def test_create_train_state_function_instead_of_optimiser_is_refused():
    with pytest.raises(ValueError, match=r"optimiser must be one of optax, e.g. optax.adam\(1e-3\)"):
        create_train_state(jax.random.key(0), model(), optax.adam)


def test_create_train_state_precision_is_said_once():
    assert create_train_state(jax.random.key(0), model(), optax.sgd(0.1)).scale.value == 1
    scaled = create_train_state(jax.random.key(0), model(policy="mixed_float16"), optax.sgd(0.1))
    assert scaled.scale.value == INITIAL_SCALE == Config().precision.initial_loss_scale
    with pytest.raises(ValueError, match="loss_scale is 8, but policy float32 does not scale the loss"):
        create_train_state(jax.random.key(0), model(), optax.sgd(0.1), loss_scale=8)


def test_create_train_state_under_vmap_is_an_ensemble():
    hit_model = model_from_module(Hits(), shape_xyt=SHAPE, inputs="hits", outputs="hits")
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    many = jax.vmap(lambda key: create_train_state(key, hit_model, optax.adam(1e-3)))(keys)
    one = create_train_state(jax.random.key(2), hit_model, optax.adam(1e-3))
    for member, alone in zip(jax.tree.leaves(many.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(member[2], alone, rtol=1e-6)
