"""The state of a training: one immutable pytree of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array

from tofae_jax.core.precision import at_least_float32, check_available
from tofae_jax.core.static_checks import check_at_least
from tofae_jax.models import Model, Variables
from tofae_jax.steps.loss_scaling import INITIAL_SCALE, LossScale, initial_scale, residual_of
from tofae_jax.steps.optimiser import Optimiser, check_descends, check_optimiser, check_updates


class TrainState(struct.PyTreeNode):
    """State of a training: all that a step reads and writes. Arrays only: model and optimiser are not in it."""

    step: Any  # arrays, but JAX's tree functions put other things in their places
    """int32: training steps done, those that overflowed included"""
    params: Any
    """parameters of the model, in the policy's dtype"""
    batch_stats: Any
    """running batch statistics, in at least float32"""
    opt_state: Any
    """state of the optimiser"""
    key: Any
    """root key; every draw is a function of it, the epoch and the step, so it never changes"""
    scale: Any
    """`LossScale`; its value stays 1 where nothing is scaled"""
    residual: Any
    """what rounding took from parameters below float32; None in the place of others"""

    @property
    def variables(self) -> dict[str, Any]:
        """What `Model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_train_state(
    key: Array, model: Model, optimiser: Optimiser, *, loss_scale: float | None = None
) -> TrainState:
    """Create the state of a training, with fresh weights. Compiled as one program, which is seconds faster than many.

    Args:
        key: root key of the weights and of every draw of the training, e.g. `jax.random.key(0)`. Under `jax.vmap`, a
            key per member gives an ensemble.
        model: the model.
        optimiser: any optax optimiser that needs gradients, parameters and the value of the loss.
        loss_scale: first factor of the loss of a policy that computes in float16; None: 2^15.

    Returns:
        The state: parameters and batch statistics in the dtypes of the model's policy, the optimiser's moments in at
        least float32.

    Raises:
        ValueError: `key` is no key of `jax.random.key`; `optimiser` is none, or needs more than a step gives it; a loss
            scale for a policy without one; float64 without `jax_enable_x64`.
    """
    check_available(model.policy)
    check_optimiser(optimiser)
    check_descends(optimiser)
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key must be made by jax.random.key, e.g. jax.random.key(0), got {key!r}")
    scales = model.policy.scales_loss
    if loss_scale is not None and loss_scale != 1 and not scales:
        raise ValueError(f"loss_scale is {loss_scale}, but policy {model.policy.name} does not scale the loss")
    if loss_scale is not None:
        check_at_least("loss_scale", loss_scale, 1)
    scale = (INITIAL_SCALE if scales else 1.0) if loss_scale is None else loss_scale

    def create(key: Array) -> TrainState:
        variables = model.init(jax.random.fold_in(key, 0))
        check_updates(optimiser, variables["params"])
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimiser.init(jax.tree.map(at_least_float32, variables["params"])),
            key=key,
            scale=initial_scale(scale, in_use=scales),
            residual=residual_of(variables["params"]),
        )

    return jax.jit(create)(key)


def scale_of(state: TrainState, template: TrainState) -> LossScale:
    """Return the loss scale to go on with: the template's, where the state is of a training that scaled nothing."""
    scale = state.scale
    untouched = bool(jnp.all((scale.value == 1) & (scale.good == 0) & (scale.skipped == 0)))
    return template.scale if template.scale.in_use and untouched else scale


def variables_of(state: TrainState | Variables) -> Variables:
    """Return the variables that `Model.apply` takes, of a train state or as they are.

    Raises:
        ValueError: the state is an ensemble; a step takes one member, or is mapped over them by `jax.vmap`.
    """
    if not isinstance(state, TrainState):
        return state
    if jnp.ndim(state.step):
        raise ValueError(
            f"state is an ensemble of {jnp.shape(state.step)[0]}: choose a member, "
            "e.g. jax.tree.map(lambda leaf: leaf[0], states)"
        )
    return state.variables
