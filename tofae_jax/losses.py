"""Losses by name, one registry.

`y` prediction, `t` target (normalised images), zero pixels Z = {t = 0}, hit pixels H = {t != 0}. The mean over an
empty set is 0 and its gradient is exactly 0 (the naive mean is 0/0: NaN, and NaN in every gradient). Sums are
accumulated in at least float32, whatever the precision of the images.

Every loss reduces either over the whole batch (`reduce="batch"`, a scalar; class means run over all pixels of all
events) or event by event (`reduce="event"`, one value per event). Weights may be traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tofae_jax.array_types import Number

REDUCTIONS = ("batch", "event")


def _wide(values: Float[Array, "*batch y x"]) -> Float[Array, "*batch y x"]:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _mean(
    values: Float[Array, "*batch y x"], reduce: str, member: Bool[Array, "*batch y x"] | None = None
) -> Float[Array, "*reduced"]:
    """Mean over the pixels that `member` marks (all without it); 0 with zero gradient where there are none."""
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {REDUCTIONS}, got {reduce!r}")
    axes = None if reduce == "batch" else (-2, -1)
    if member is None:
        return jnp.mean(values, axis=axes)
    count = jnp.sum(member, axis=axes, dtype=values.dtype)
    return jnp.sum(jnp.where(member, values, 0), axis=axes) / jnp.maximum(count, 1)


def mse(
    prediction: Float[Array, "*batch y x"], target: Float[Array, "*batch y x"], *, reduce: str = "batch"
) -> Float[Array, "*reduced"]:
    """Mean squared error, `mean (y - t)²`."""
    return _mean(jnp.square(_wide(prediction) - _wide(target)), reduce)


def mae(
    prediction: Float[Array, "*batch y x"], target: Float[Array, "*batch y x"], *, reduce: str = "batch"
) -> Float[Array, "*reduced"]:
    """Mean absolute error, `mean |y - t|`; the gradient where y = t is 0."""
    difference = _wide(prediction) - _wide(target)
    return _mean(jnp.where(difference == 0, 0, jnp.abs(difference)), reduce)  # JAX's |x|' at 0 is 1


def bce(
    prediction: Float[Array, "*batch y x"],
    target: Float[Array, "*batch y x"],
    *,
    epsilon: Number = 1e-6,
    reduce: str = "batch",
) -> Float[Array, "*reduced"]:
    """Binary cross-entropy, `-mean [t log y + (1 - t) log(1 - y)]`, of predictions in [0, 1].

    Predictions are clipped to `[epsilon, 1 - epsilon]`, so that 0 and 1 stay finite; the gradient beyond is 0. The
    reference clips the logarithm at -100 instead, and there the gradient reaches 1e12.
    """
    y, t = jnp.clip(_wide(prediction), epsilon, 1 - epsilon), _wide(target)
    return _mean(-(t * jnp.log(y) + (1 - t) * jnp.log1p(-y)), reduce)


def acb_mse(
    prediction: Float[Array, "*batch y x"],
    target: Float[Array, "*batch y x"],
    *,
    zero_weight: Number = 1.0,
    hit_weight: Number = 1.0,
    reduce: str = "batch",
) -> Float[Array, "*reduced"]:
    """Automatic class-balanced mean squared error, `a mean_Z (y - t)² + b mean_H (y - t)²`.

    Hit pixels are a few in ten thousand; balancing the classes keeps the all-zero image from being a good answer.
    `zero_weight` is a, `hit_weight` is b. A class without pixels adds 0 to the value and to the gradient.
    """
    error = jnp.square(_wide(prediction) - _wide(target))
    hit = target != 0
    return zero_weight * _mean(error, reduce, ~hit) + hit_weight * _mean(error, reduce, hit)


class Loss(NamedTuple):
    """A registered loss."""

    function: Callable[..., Array]
    """`(prediction, target, *, reduce, **weights) -> value`"""
    weights: tuple[str, ...]
    """names of its keyword weights, which may be traced"""


LOSSES: dict[str, Loss] = {
    "acb_mse": Loss(acb_mse, ("zero_weight", "hit_weight")),
    "mse": Loss(mse, ()),
    "mae": Loss(mae, ()),
    "bce": Loss(bce, ("epsilon",)),
}


def loss_by_name(name: str) -> Loss:
    """The loss called `name`; an unknown name lists the known ones."""
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is not known; known: {', '.join(LOSSES)}")
    return LOSSES[name]
