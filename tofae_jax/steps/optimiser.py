"""Optimisers: any of optax, and those that take their learning rate from the step's settings."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tofae_jax.core.static_checks import check_at_least
from tofae_jax.core.text import one_line

Optimiser = optax.GradientTransformation | optax.MultiSteps


class ScheduledOptimiser(optax.GradientTransformationExtraArgs):
    """An optimiser that takes its learning rate from `StepSettings.learning_rate`; `with_learning_rate` makes it."""


def with_learning_rate(direction: Optimiser) -> ScheduledOptimiser:
    """Let an optimiser without a learning rate take it from `StepSettings.learning_rate`.

    `update = -learning_rate direction(gradient)`. The rate is traced, so a schedule of any kind changes it without
    recompiling, and the optimiser's state is that of `direction` alone.

    Args:
        direction: an optimiser whose updates are not yet scaled, e.g. `optax.scale_by_adam()`.

    Returns:
        The optimiser, for `create_train_state` and `train_step`.

    Raises:
        ValueError: `direction` is no optimiser, or has a learning rate already, of its own or from the settings.
    """
    check_optimiser(direction)
    if isinstance(direction, ScheduledOptimiser):
        raise ValueError("direction takes its learning rate from the settings already")
    if (sign_of_update(direction) or 0) < 0:
        raise ValueError("direction has a learning rate of its own already: leave it out, e.g. optax.scale_by_adam()")
    inner = _with_extra_arguments(direction)

    def update(
        gradients: Any, state: Any, params: Any = None, *, learning_rate: Any, **extra: Any
    ) -> tuple[Any, optax.OptState]:
        updates, state = inner.update(gradients, state, params, **extra)
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return ScheduledOptimiser(direction.init, update)  # pyright: ignore[reportArgumentType] (a keyword more)


def build_optimiser(
    *, weight_decay: float, b1: float = 0.9, b2: float = 0.999, clip_norm: float | None = None
) -> ScheduledOptimiser:
    """Build the optimiser of the command line: AdamW whose learning rate is `StepSettings.learning_rate`.

    Source: Loshchilov and Hutter 2019; the decay is decoupled from the gradient and scaled by the learning rate.
    Gradients of a norm above `clip_norm` are shortened to it first (Pascanu et al. 2013).

    Args:
        weight_decay: decoupled weight decay.
        b1: decay of the first moment.
        b2: decay of the second moment.
        clip_norm: largest norm of the gradient; None: any.

    Returns:
        The optimiser, for `create_train_state` and `train_step`.

    Raises:
        ValueError: a negative number.
    """
    check_at_least("weight_decay", weight_decay)
    if clip_norm is not None:
        check_at_least("clip_norm", clip_norm)
    steps = [optax.scale_by_adam(b1=b1, b2=b2), optax.add_decayed_weights(weight_decay)]
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm is not None else []
    return with_learning_rate(optax.chain(*clip, *steps))


def check_optimiser(optimiser: Any) -> None:
    """Check that an argument is an optimiser.

    Raises:
        ValueError: it has no `init` and `update`, e.g. `optax.adam` instead of `optax.adam(1e-3)`.
    """
    if not (callable(getattr(optimiser, "init", None)) and callable(getattr(optimiser, "update", None))):
        raise ValueError(f"optimiser must be one of optax, e.g. optax.adam(1e-3), got {optimiser!r}")


def update_of(
    optimiser: Optimiser, gradients: Any, state: Any, params: Any, *, learning_rate: Any, loss: Any
) -> tuple[Any, optax.OptState]:
    """Compute the updates of a step, to be added to the parameters.

    Args:
        optimiser: any of optax.
        gradients: of the loss, in at least float32.
        state: the optimiser's.
        params: in at least float32.
        learning_rate: for a `ScheduledOptimiser`, None for any other.
        loss: value of the loss, for optimisers that ask for it.

    Raises:
        ValueError: a learning rate is missing, or given to an optimiser that has its own.
    """
    check_optimiser(optimiser)
    extra = {"value": loss, "grad": gradients}
    if isinstance(optimiser, ScheduledOptimiser):
        if learning_rate is None:
            raise ValueError("settings.learning_rate is None, but this optimiser takes its learning rate from there")
        extra["learning_rate"] = learning_rate
    elif learning_rate is not None:
        raise ValueError(
            "settings.learning_rate is given, but this optimiser has a learning rate of its own: leave it None, or "
            "wrap an optimiser without one in with_learning_rate"
        )
    return _with_extra_arguments(optimiser).update(gradients, state, params, **extra)


def sign_of_update(optimiser: Optimiser) -> float | None:
    """Return the sign of an optimiser's first update for a gradient of 1: -1 descends; None where it cannot be told."""
    one = {"p": jnp.ones(())}
    try:
        with jax.ensure_compile_time_eval():
            inner = _with_extra_arguments(optimiser)
            updates: Any = inner.update(one, inner.init(one), one, value=jnp.ones(()), grad=one)[0]
            return float(jnp.sign(updates["p"]))
    except Exception:  # one that needs more than this, or the names of parameters
        return None


def check_descends(optimiser: Optimiser) -> None:
    """Check that an optimiser with a rate of its own lowers the loss.

    Raises:
        ValueError: its first update follows the gradient instead of opposing it, e.g. `optax.scale_by_adam()` alone.
    """
    if not isinstance(optimiser, ScheduledOptimiser) and (sign_of_update(optimiser) or 0) > 0:
        raise ValueError(
            "this optimiser climbs the loss: it has no learning rate; chain optax.scale_by_learning_rate after it, or "
            "wrap it in with_learning_rate"
        )


def check_updates(optimiser: Optimiser, params: Any) -> None:
    """Check that an optimiser needs no more than a step gives it: gradients, parameters and the value of the loss.

    Raises:
        ValueError: it fails with these, e.g. `optax.lbfgs()`, which calls the loss itself.
    """
    wide = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), params
    )
    rate = jnp.ones(()) if isinstance(optimiser, ScheduledOptimiser) else None

    def once(params: Any) -> Any:
        return update_of(optimiser, params, optimiser.init(params), params, learning_rate=rate, loss=jnp.ones(()))

    try:
        jax.eval_shape(once, wide)
    except Exception as error:  # whatever it says
        hint = ""
        if "learning_rate" in str(error):
            hint = "; build_optimiser and with_learning_rate come last: wrap the chain in with_learning_rate instead"
        raise ValueError(
            "this optimiser needs more than gradients, parameters and the value of the loss "
            f"({type(error).__name__}: {one_line(error, limit=200)}){hint}"
        ) from error


def _with_extra_arguments(optimiser: Optimiser) -> optax.GradientTransformationExtraArgs:
    if isinstance(optimiser, optax.MultiSteps):
        optimiser = optimiser.gradient_transformation()
    return optax.with_extra_args_support(optimiser)
