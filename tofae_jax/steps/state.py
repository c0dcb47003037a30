"""The state of a training run: one immutable pytree of arrays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array

from tofae_jax.core.precision import at_least_float32
from tofae_jax.models import Model
from tofae_jax.steps.loss_scaling import initial_scale, residual_of


class TrainState(struct.PyTreeNode):
    """All that a training step reads and writes. Arrays only: the model and the optimiser are not in it."""

    step: Any  # arrays, but JAX's tree functions put other things in their places
    """int32: optimiser steps done"""
    params: Any
    batch_stats: Any
    opt_state: Any
    key: Any
    """root key; every draw is a function of it, the epoch and the step, so it never changes"""
    scale: Any
    """`LossScale`; its value stays 1 where nothing is scaled"""
    residual: Any
    """what rounding took from parameters below float32"""

    @property
    def variables(self) -> dict[str, Any]:
        """What `Model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def build_optimiser(
    *, weight_decay: float, b1: float = 0.9, b2: float = 0.999, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """AdamW without its learning rate, which the step applies, as it is traced and may follow a schedule.

    Loshchilov and Hutter 2019: the decay is decoupled from the gradient and scaled by the learning rate. Gradients of a
    norm above `clip_norm` are shortened to it first (Pascanu et al. 2013).
    """
    steps = [optax.scale_by_adam(b1=b1, b2=b2), optax.add_decayed_weights(weight_decay)]
    return optax.chain(*([optax.clip_by_global_norm(clip_norm)] if clip_norm is not None else []), *steps)


def create_train_state(
    seed: int, model: Model, optimiser: optax.GradientTransformation, *, loss_scale: float = 1.0
) -> TrainState:
    """Fresh state. Compiled as one program: compiled draw by draw it would take several seconds longer."""

    def create(key: Array) -> TrainState:
        variables = model.init(jax.random.fold_in(key, 0))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimiser.init(jax.tree.map(at_least_float32, variables["params"])),
            key=key,
            scale=initial_scale(loss_scale),
            residual=residual_of(variables["params"]),
        )

    return jax.jit(create)(jax.random.key(seed))
