"""One training step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from tofae_jax.core import precision
from tofae_jax.core.batch import Batch
from tofae_jax.models import Model
from tofae_jax.steps import loss_scaling
from tofae_jax.steps.inputs import bind_loss, check_background, degrade_batch, model_input
from tofae_jax.steps.optimiser import Optimiser, update_of
from tofae_jax.steps.options import check_fit
from tofae_jax.steps.state import TrainState
from tofae_jax.steps.types import StepOptions, StepSettings, TrainMetrics, typed

OWN_DRAWS = 2**32 - 1
"""in the place of an event: key of the model's own draws, such as dropout"""


def train_step(
    state: TrainState,
    batch: Batch,
    settings: StepSettings,
    *,
    model: Model,
    optimiser: Optimiser,
    options: StepOptions,
) -> tuple[TrainState, TrainMetrics]:
    """Take one training step: degrade the patterns, predict, compare, update the weights.

    Compile it once, e.g. `jax.jit(partial(train_step, model=model, optimiser=optimiser, options=options))`; everything
    else is traced, so other numbers of the settings do not recompile. Every draw is a function of the state's key, the
    batch's epoch and step and the place in the batch. Losses of policies that compute in float16 are scaled, and a step
    whose gradients overflow changes nothing but the scale.

    Args:
        state: of `create_train_state`.
        batch: patterns, e.g. of a `TrainSource` or `Batch.from_hits`.
        settings: numbers of the step.
        model: of `build_model` or `model_from_module`.
        optimiser: as for `create_train_state`. One of `build_optimiser` or `with_learning_rate` takes
            `settings.learning_rate`.
        options: of `step_options`.

    Returns:
        The next state and the step's `TrainMetrics`, both on the device.

    Raises:
        ValueError: loss, model and options do not fit each other, the learning rate does not fit the optimiser, the
            state has no loss scale and the policy needs one, or the noise profile `data` has no background; when the
            step is traced.
    """
    check_fit(model, options)
    _check_scale(state, model)
    check_background(batch.background.shape[1], settings)
    settings = typed(settings)
    step = state.step if batch.step is None else batch.step
    key = jax.random.fold_in(jax.random.fold_in(state.key, batch.epoch), step)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch.hits.shape[0]))
    degraded = degrade_batch(keys, batch, settings, options)
    x = model_input(model, degraded.input, degraded.events.hits, batch.tracks, settings, options, train=True)
    loss_function = bind_loss(options.loss, settings.loss_weights, settings, options)

    def objective(params: Any) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        output, batch_stats = model.apply_train(variables, x, jax.random.fold_in(key, OWN_DRAWS))
        loss = loss_function(output, degraded, "batch")
        if output.extra_loss is not None:
            loss = loss + jnp.mean(output.extra_loss)
        return (loss * state.scale.value if model.policy.scales_loss else loss), (loss, batch_stats)

    (_, (loss, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    return _updated(state, loss, gradients, batch_stats, settings, optimiser, scales=model.policy.scales_loss)


def _check_scale(state: TrainState, model: Model) -> None:
    if model.policy.scales_loss and not state.scale.in_use:
        raise ValueError(
            f"policy {model.policy.name} scales the loss, but the state is of one that does not: its loss scale is 1; "
            "take the scale of create_train_state with this model: state.replace(scale=fresh.scale)"
        )


def _updated(
    state: TrainState,
    loss: Array,
    gradients: Any,
    batch_stats: Any,
    settings: StepSettings,
    optimiser: Optimiser,
    *,
    scales: bool,
) -> tuple[TrainState, TrainMetrics]:
    """Update the weights with the gradients of a loss, which is scaled or not; skip a step that overflowed."""
    gradients = _all_wide(gradients)
    if scales:
        gradients = jax.tree.map(lambda g: g / state.scale.value, gradients)
    rate, params = settings.learning_rate, _all_wide(state.params)
    updates, opt_state = update_of(optimiser, gradients, state.opt_state, params, learning_rate=rate, loss=loss)
    params, residual = loss_scaling.apply_compensated(state.params, updates, state.residual)
    changes = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state, "residual": residual}
    scale, skipped = state.scale, jnp.zeros((), bool)
    if scales:
        skipped = ~loss_scaling.all_finite((loss, gradients))
        changes = {
            name: jax.tree.map(lambda old, new: jnp.where(skipped, old, new), getattr(state, name), change)
            for name, change in changes.items()
        }
        updates = jax.tree.map(lambda u: jnp.where(skipped, 0, u), updates)
        scale = loss_scaling.next_scale(scale, ~skipped, growth_steps=settings.scale_growth_steps)
    norm = optax.tree.norm
    metrics = TrainMetrics(
        loss=loss,
        gradient_norm=norm(gradients),
        parameter_norm=norm(_all_wide(changes["params"])),
        update_norm=norm(updates),
        skipped=skipped,
        loss_scale=state.scale.value,
        stuck=scale.stuck,
    )
    return state.replace(step=state.step + 1, scale=scale, **changes), metrics


def _all_wide(tree: Any) -> Any:
    return jax.tree.map(precision.at_least_float32, tree)
