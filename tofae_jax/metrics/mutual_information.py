"""Normalised mutual information of images (Studholme, Hill and Hawkes 1999), from a joint histogram of times."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

TIME_BINS = 100  # of the histogram, over the whole time range; scikit-image has as many over the range it sees
_SPARE_CELLS = 1024


def time_cells(
    prediction: Float[Array, "*shape"], target: Float[Array, "*shape"], counts: Bool[Array, "*shape"], *, n_t: int
) -> Int[Array, "*shape"]:
    """Cell of the joint histogram for each pair of times, in bins of a detector with `n_t` of them.

    What lies above is counted as latest, what lies below as earliest; pairs that `counts` does not mark get -1.
    """

    def place_of(times: Array) -> Array:
        scaled = times * TIME_BINS
        place = (scaled / n_t).astype(jnp.int32)
        # a quotient that should be whole may come out less; the products are exact
        place += jnp.where((place + 1) * n_t <= scaled, 1, 0) - jnp.where(place * n_t > scaled, 1, 0)
        return jnp.clip(place, 0, TIME_BINS - 1)

    place = [place_of(times) for times in (prediction, target)]
    return jnp.where(counts, place[0] * TIME_BINS + place[1], -1)


def joint_histogram(cells: Int[Array, "batch n"], is_event: Bool[Array, " batch"]) -> Int[Array, "prediction target"]:
    """How many of the pairs of times of a batch fall into each cell; `time_cells` gives the cells."""
    counts = is_event[:, None] & (cells >= 0)
    # what counts nowhere goes to many spare cells: on one, a GPU's additions would wait for each other
    spare = TIME_BINS**2 + jnp.arange(cells.shape[1], dtype=jnp.int32) % _SPARE_CELLS
    place = jnp.where(counts, cells, spare).reshape(-1)
    flat = jnp.zeros(TIME_BINS**2 + _SPARE_CELLS, jnp.int32).at[place].add(1, mode="promise_in_bounds")
    return flat[: TIME_BINS**2].reshape(TIME_BINS, TIME_BINS)


def _entropy(counts: np.ndarray) -> float:
    """Entropy of a distribution, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-np.sum(p * np.log(p)))


def normalised_mutual_information(joint: Any) -> float:
    """`(H(y) + H(t)) / H(y, t) - 1` of a joint histogram: 0 if independent, 1 if each gives the other away.

    1 where both images are the same everywhere, or there are none. scikit-image and Studholme do not take off the 1.
    """
    counts = np.asarray(joint, np.float64)
    together = _entropy(counts.reshape(-1)) if counts.sum() > 0 else 0.0
    if together == 0:
        return 1.0
    return (_entropy(counts.sum(axis=0)) + _entropy(counts.sum(axis=1))) / together - 1
