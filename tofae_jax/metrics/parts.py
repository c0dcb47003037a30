"""Working through images a few events at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


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
