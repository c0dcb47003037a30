from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_parts import SHAPE, Hits, Images, diagonals

from tofae_jax.config import Config
from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.core.noise import NOISE_PROFILES, NoiseSettings
from tofae_jax.core.precision import policy_by_name
from tofae_jax.models import model_from_module
from tofae_jax.steps.loss_scaling import INITIAL_SCALE
from tofae_jax.steps.optimiser import build_optimiser
from tofae_jax.steps.options import step_options
from tofae_jax.steps.state import create_train_state, scale_of, variables_of
from tofae_jax.steps.train import train_step
from tofae_jax.steps.types import StepSettings


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


def test_variables_of_an_ensemble_is_refused():
    many = jax.vmap(lambda key: create_train_state(key, model(), optax.sgd(0.1)))(
        jax.vmap(jax.random.key)(jnp.arange(3))
    )
    with pytest.raises(ValueError, match="state is an ensemble of 3: choose a member"):
        variables_of(many)
    variables_of(jax.tree.map(lambda leaf: leaf[1], many))


def test_create_train_state_float64_without_64_bit_is_refused():
    wide = model()._replace(policy=policy_by_name("float64"))
    with pytest.raises(ValueError, match="precision float64 needs 64-bit numbers"):
        create_train_state(jax.random.key(0), wide, optax.sgd(0.1))


@pytest.mark.parametrize(
    ("optimiser", "expected"),
    [
        (optax.lbfgs(), "this optimiser needs more than gradients, parameters and the value of the loss"),
        (optax.chain(optax.clip(1.0), build_optimiser(weight_decay=0.0)), "wrap the chain in with_learning_rate"),
    ],
)
def test_create_train_state_optimiser_that_needs_more_is_refused(optimiser, expected):
    with pytest.raises(ValueError, match=expected):
        create_train_state(jax.random.key(0), model(), optimiser)


def test_train_step_state_without_a_scale_is_refused_by_float16():
    half = model(policy="mixed_float16")
    plain, scaled = (create_train_state(jax.random.key(0), net, optax.sgd(0.1)) for net in (model(), half))
    options = step_options(half, "mse", max_signal=12, max_noise=4)
    settings = StepSettings(DegradationSettings(n_signal=(12, 12), n_noise=(4, 4)))
    step = partial(train_step, model=half, optimiser=optax.sgd(0.1), options=options)
    with pytest.raises(ValueError, match="policy mixed_float16 scales the loss, but the state is of one that does not"):
        jax.jit(step)(plain, diagonals(), settings)
    state, _ = jax.jit(step)(plain.replace(scale=scaled.scale), diagonals(), settings)
    assert state.scale.value == INITIAL_SCALE and state.scale.in_use
    assert scale_of(plain, scaled) is scaled.scale
    assert scale_of(state, scaled) is state.scale
    assert scale_of(plain, plain) is plain.scale


def test_train_step_float16_loss_of_ones_own_is_computed_in_float32():
    seen = []

    def own(logits, target):
        seen.append(logits.dtype)
        return jnp.mean((logits - target) ** 2)

    half = model(policy="float16")
    options = step_options(half, own, max_signal=12, max_noise=4)
    state = create_train_state(jax.random.key(0), half, optax.sgd(0.1))
    settings = StepSettings(DegradationSettings(n_signal=(12, 12), n_noise=(4, 4)))
    jax.jit(partial(train_step, model=half, optimiser=optax.sgd(0.1), options=options))(state, diagonals(), settings)
    assert set(seen) == {jnp.dtype("float32")}


def test_train_step_profile_data_without_background_is_refused():
    noise = NoiseSettings(weights=[float(name == "data") for name in NOISE_PROFILES])
    settings = StepSettings(DegradationSettings(n_signal=(12, 12), n_noise=(4, 4), noise=noise))
    options = step_options(model(), "mse", max_signal=12, max_noise=4)
    state = create_train_state(jax.random.key(0), model(), optax.sgd(0.1))
    with pytest.raises(ValueError, match="noise profile data draws from background hits"):
        train_step(state, diagonals(), settings, model=model(), optimiser=optax.sgd(0.1), options=options)
