"""Masked sums and means, per batch or per event, that neither overflow nor give NaN."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

REDUCTIONS = ("batch", "event")


def axes_of(reduce: str, event_axes: int) -> tuple[int, ...] | None:
    """The axes to sum over: all for `"batch"`, the last `event_axes` for `"event"`; ValueError for other words."""
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {REDUCTIONS}, got {reduce!r}")
    return None if reduce == "batch" else tuple(range(-event_axes, 0))


def total(
    values: Float[Array, "*shape"], reduce: str, member: Bool[Array, "*shape"] | None = None, *, event_axes: int = 2
) -> Float[Array, "*reduced"]:
    """Sum over what `member` marks (all without it)."""
    marked = values if member is None else jnp.where(member, values, 0)
    return jnp.sum(marked, axis=axes_of(reduce, event_axes))


def mean(
    values: Float[Array, "*shape"], reduce: str, member: Bool[Array, "*shape"] | None = None, *, event_axes: int = 2
) -> Float[Array, "*reduced"]:
    """Mean over what `member` marks (all without it); 0, with a gradient of exactly 0, where it marks nothing."""
    if member is None and 0 in values.shape:
        return total(values, reduce, event_axes=event_axes)  # of nothing: 0, where a mean would be NaN
    if member is None:
        return jnp.mean(values, axis=axes_of(reduce, event_axes))
    count = jnp.sum(member, axis=axes_of(reduce, event_axes), dtype=values.dtype)
    return total(values, reduce, member, event_axes=event_axes) / jnp.maximum(count, 1)


def is_present(member: Bool[Array, "*shape"], reduce: str, *, event_axes: int = 2) -> Bool[Array, "*reduced"]:
    """Whether a class has any member."""
    return jnp.any(member, axis=axes_of(reduce, event_axes))
