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
from tofae_jax.steps.inputs import bind_loss, degrade_batch, model_input
from tofae_jax.steps.state import TrainState
from tofae_jax.steps.types import StepOptions, StepSettings, TrainMetrics


def train_step(
    state: TrainState,
    batch: Batch,
    settings: StepSettings,
    *,
    model: Model,
    optimiser: optax.GradientTransformation,
    options: StepOptions,
) -> tuple[TrainState, TrainMetrics]:
    """Degrade, predict, update. Every draw is a function of root key, epoch, step and place in the batch."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, batch.epoch), batch.step)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch.hits.shape[0]))
    degraded = degrade_batch(keys, batch, settings, options)
    x = model_input(model, degraded.input, degraded.events.hits, batch.tracks, settings, options, train=True)
    loss_function = bind_loss(options.loss, settings.loss_weights, settings, options)

    def objective(params: Any) -> tuple[Array, Any]:
        output, batch_stats = model.apply_train({"params": params, "batch_stats": state.batch_stats}, x)
        loss = loss_function(output, degraded, "batch")
        if output.extra_loss is not None:
            loss = loss + jnp.mean(output.extra_loss)
        return (loss * state.scale.value if options.scale_loss else loss), (loss, batch_stats)

    (_, (loss, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    gradients = _all_wide(gradients)
    if options.scale_loss:
        gradients = jax.tree.map(lambda g: g / state.scale.value, gradients)
    direction, opt_state = optimiser.update(gradients, state.opt_state, _all_wide(state.params))
    updates = jax.tree.map(lambda u: -settings.learning_rate * u, direction)
    params, residual = loss_scaling.apply_compensated(state.params, updates, state.residual)
    changes = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state, "residual": residual}
    scale, skipped = state.scale, jnp.zeros((), bool)
    if options.scale_loss:
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
