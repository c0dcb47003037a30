"""How a network's raw outputs lie about the threshold that tells hits from none."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tofae_jax.core.precision import at_least_float32
from tofae_jax.metrics.confusion import count_each, event_sum

OUTPUT_BINS = 50  # over [0, 1]
_ROWS = 64


class OutputSums(NamedTuple):
    """Raw outputs, counted over pixels, or over hits."""

    histogram: Any
    """[50] over [0, 1]; what lies outside is counted in the first or last bin, NaN anywhere"""
    n_above: Any
    """lit: above the threshold"""
    n_below: Any
    """at or below it"""
    n_not_finite: Any
    """NaN or infinite: a network that is out of order"""


def output_sums(
    output: Float[Array, "batch *pixels"],
    lit: Bool[Array, "batch *pixels"],
    is_event: Bool[Array, " batch"],
    *,
    is_counted: Bool[Array, "batch *pixels"] | None = None,
) -> OutputSums:
    """Distribution of the outputs in [0, 1] of a batch; `lit` is what the threshold makes of them.

    `is_counted` leaves out empty slots of hit lists; None: all count.
    """
    flat = at_least_float32(output).reshape(len(output), -1)
    counted = jnp.broadcast_to(is_event[:, None], flat.shape)
    if is_counted is not None:
        counted &= is_counted.reshape(flat.shape)
    place = jnp.clip((flat * OUTPUT_BINS).astype(jnp.int32), 0, OUTPUT_BINS - 1)
    # most outputs share a bin, and on a GPU would wait for each other: neighbouring events have bins of their own
    row = jnp.arange(len(flat), dtype=jnp.int32) % _ROWS
    row = jnp.where(counted, row[:, None], _ROWS)  # filling counts in a row that is dropped
    place = (row * OUTPUT_BINS + place).reshape(-1)
    rows = jnp.zeros((_ROWS + 1) * OUTPUT_BINS, jnp.int32).at[place].add(1, mode="promise_in_bounds")
    histogram = jnp.sum(rows.reshape(_ROWS + 1, OUTPUT_BINS)[:_ROWS], axis=0, dtype=jnp.int32)
    finite = jnp.isfinite(flat)
    n_above, n_finite = event_sum(count_each(lit.reshape(flat.shape) & finite & counted, finite & counted), is_event)
    if is_counted is None:
        n_counted = jnp.sum(is_event, dtype=jnp.int32) * flat.shape[1]
    else:
        n_counted = jnp.sum(counted, dtype=jnp.int32)
    return OutputSums(histogram, n_above, n_finite - n_above, n_counted - n_finite)


def compute_outputs(sums: OutputSums, threshold: float) -> dict[str, Any]:
    """Threshold, Python counts above it and not, and the histogram over [0, 1] as Python ints."""
    return {
        "threshold": float(threshold),
        "above": int(sums.n_above),
        "below": int(sums.n_below),
        "not_finite": int(sums.n_not_finite),
        "histogram": [int(n) for n in sums.histogram],
    }
