"""Fixed numbers of slots for random numbers of things."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tofae_jax.core.types import Number

SPARE_SIGMAS = 6
"""slots are chosen this many standard deviations above the largest mean: one event in 1e9 needs more"""


def slots_for_mean(mean: float) -> int:
    """Slots that a Poisson number with this mean practically never exceeds: mean + 6 sigma + 6."""
    return math.ceil(mean + SPARE_SIGMAS * math.sqrt(mean) + SPARE_SIGMAS)


def draw_poisson(key: Array, mean: Number, n_slots: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """A Poisson number that fits into the slots, and by how much the number drawn exceeded them."""
    # the mean is cut so that a wild setting gives a count that int32 holds; it fills every slot all the same
    n = jax.random.poisson(key, jnp.clip(jnp.asarray(mean, jnp.float32), 0, 1e9), dtype=jnp.int32)
    kept = jnp.minimum(n, n_slots)
    return kept, n - kept


def gather_kept(keep: Bool[Array, " n"], n_slots: int) -> tuple[Int[Array, " k"], Bool[Array, " k"], Int[Array, ""]]:
    """Where the first `n_slots` marked places are, in order.

    Returns:
        `(index, is_filled, n_dropped)`: the places, whether a slot has one (the others point at place 0), and how many
        marked places found no slot.
    """
    rank = jnp.cumsum(keep, dtype=jnp.int32)
    slot = jnp.where(keep, rank - 1, n_slots)
    place = jnp.arange(keep.shape[0], dtype=jnp.int32)
    index = jnp.zeros(n_slots, jnp.int32).at[slot].set(place, mode="drop", unique_indices=False)
    n_kept = jnp.minimum(rank[-1], n_slots)
    return index, jnp.arange(n_slots, dtype=jnp.int32) < n_kept, rank[-1] - n_kept
