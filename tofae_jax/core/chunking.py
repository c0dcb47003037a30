"""Working through images a few events at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def by_events(function: Callable[..., Any], *arrays: jax.Array, at_a_time: int) -> Any:
    """`jax.vmap(function)(*arrays)`; a CPU takes `at_a_time` events together, so that they stay in its cache.

    A batch of images is far larger than that, and each of many passes over it would wait for main memory.
    """
    whole = jax.vmap(function)
    if len(arrays[0]) <= at_a_time or not all(array.size for array in arrays):
        return whole(*arrays)

    def in_cache(*arrays: jax.Array) -> Any:
        return jax.lax.map(lambda event: function(*event), arrays, batch_size=at_a_time)

    return jax.lax.platform_dependent(*arrays, cpu=in_cache, default=whole)


MOST_BYTES = 2**25
"""of the largest array of what is worked on together; several of that size are needed at once"""


def fitting(bytes_each: int) -> int:
    """How many things to work on together, if the largest array of one takes so much; at least one."""
    return max(1, MOST_BYTES // max(bytes_each, 1))


def map_in_parts(function: Callable[[Any], Any], things: Any, *, at_a_time: int) -> Any:
    """`function` of each thing, a row of every leaf, so many at a time.

    The last part is filled up: `jax.lax.map` alone would compile a second program for what is left over.
    """
    n = len(jax.tree.leaves(things)[0])
    at_a_time = min(n, at_a_time)
    n_parts = -(-n // at_a_time)

    def in_parts(leaf: Array) -> Array:
        filling = jnp.zeros((n_parts * at_a_time - n, *leaf.shape[1:]), leaf.dtype)
        return jnp.concatenate([leaf, filling]).reshape(n_parts, at_a_time, *leaf.shape[1:])

    found = jax.lax.map(jax.vmap(function), jax.tree.map(in_parts, things))
    return jax.tree.map(lambda leaf: leaf.reshape(n_parts * at_a_time, *leaf.shape[2:])[:n], found)
