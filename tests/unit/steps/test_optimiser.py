from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from own_parts import SHAPE, Images, diagonals

from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.models import model_from_module
from tofae_jax.steps import StepSettings, create_train_state, step_options, train_step
from tofae_jax.steps.optimiser import build_optimiser, with_learning_rate


def test_build_optimiser_clip_norm_shortens_long_gradients():
    gradients = [{"w": jnp.array([30.0, 40.0])}, {"w": jnp.array([0.3, -0.4])}]
    shortened = [{"w": jnp.array([0.6, 0.8])}, gradients[1]]
    params = {"w": jnp.ones(2)}

    def updates(optimiser, gradients):
        state, found = optimiser.init(params), []
        for gradient in gradients:
            update, state = optimiser.update(gradient, state, params, learning_rate=1.0)
            found.append(update["w"])
        return np.stack(found)

    clipped = updates(build_optimiser(weight_decay=0.1, clip_norm=1.0), gradients)
    plain = build_optimiser(weight_decay=0.1)
    np.testing.assert_allclose(clipped, updates(plain, shortened), rtol=1e-5)
    assert np.abs(clipped - updates(plain, gradients)).max() > 0.1


def trained(optimiser, learning_rate=None, n=25):
    """First and last loss of an own model and loss on one batch, and how often the step was compiled."""
    model = model_from_module(Images(), shape_xyt=SHAPE)
    options = step_options(model, "acb_mse", max_signal=8, max_noise=4, target="signal")
    degradation = DegradationSettings(n_signal=(8, 8), n_noise=(0, 4))
    settings = StepSettings(degradation=degradation, learning_rate=learning_rate)
    state = create_train_state(jax.random.key(0), model, optimiser)
    step = jax.jit(partial(train_step, model=model, optimiser=optimiser, options=options))
    batch, losses = diagonals(), []
    for _ in range(n):
        state, metrics = step(state, batch, settings)
        losses.append(float(metrics.loss))
    return np.mean(losses[:2]), np.mean(losses[-5:]), step._cache_size()


@pytest.mark.parametrize(
    "optimiser",
    [
        pytest.param(optax.adam(1e-2), id="adam"),
        pytest.param(optax.sgd(optax.linear_schedule(0.3, 0.1, 20), momentum=0.9), id="schedule"),
        pytest.param(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)), id="chain"),
        pytest.param(optax.inject_hyperparams(optax.adam)(learning_rate=1e-2), id="inject_hyperparams"),
        pytest.param(optax.MultiSteps(optax.adam(2e-2), every_k_schedule=2), id="MultiSteps"),
        pytest.param(optax.MultiSteps(optax.adam(2e-2), 2).gradient_transformation(), id="MultiSteps.gradient"),
        pytest.param(
            optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau(patience=5)), id="reduce_on_plateau"
        ),
    ],
)
def test_train_step_ordinary_optimiser_lowers_the_loss(optimiser):
    first, last, n_compiled = trained(optimiser)
    assert last < 0.8 * first
    assert n_compiled == 1


def test_train_step_rate_of_the_settings_changes_without_recompiling():
    optimiser = build_optimiser(weight_decay=0.0)
    first, last, _ = trained(optimiser, 1e-2)
    assert last < 0.8 * first
    assert last == pytest.approx(trained(optax.adam(1e-2))[1], rel=1e-3)
    _, unmoved, _ = trained(optimiser, 0.0)
    assert unmoved == pytest.approx(first, rel=0.5)
    assert unmoved > 0.8 * first


def test_train_step_rate_for_an_optimiser_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"settings.learning_rate is given, but this optimiser has a learning rate"):
        trained(optax.adam(1e-2), 1e-2, n=1)
    with pytest.raises(ValueError, match=r"settings.learning_rate is None, but this optimiser takes"):
        trained(build_optimiser(weight_decay=0.0), n=1)


def test_with_learning_rate_twice_is_refused():
    with pytest.raises(ValueError, match="takes its learning rate from the settings already"):
        with_learning_rate(build_optimiser(weight_decay=0.0))


@pytest.mark.parametrize("optimiser", [optax.scale_by_adam(), optax.chain(optax.clip(1.0), optax.scale_by_adam())])
def test_create_train_state_optimiser_that_climbs_is_refused(optimiser):
    model = model_from_module(Images(), shape_xyt=SHAPE)
    with pytest.raises(ValueError, match="this optimiser climbs the loss: it has no learning rate"):
        create_train_state(jax.random.key(0), model, optimiser)


def test_with_learning_rate_optimiser_with_a_rate_is_refused():
    with pytest.raises(ValueError, match="direction has a learning rate of its own already"):
        with_learning_rate(optax.adam(1e-2))


@pytest.mark.parametrize("settings", [{"weight_decay": -1.0}, {"weight_decay": 0.0, "clip_norm": -1.0}])
def test_build_optimiser_negative_numbers_are_named(settings):
    with pytest.raises(ValueError, match="must be a finite number from 0"):
        build_optimiser(**settings)
