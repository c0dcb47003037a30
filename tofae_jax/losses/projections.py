"""Class-balanced loss over the three projections of the (x, y, t) cube.

This is our own design, as the reference has none of this name that can be differentiated.

Why cumulated: with plain bins, a pixel on its way to a late time passes all early ones, where it is as wrong as any
false hit, and gets stuck (it did). Counts of "at least as late" only ever gain on the way up, and vanish for the same
images: cumulating can be undone. Why a logarithm: one hit counts 1 and each doubling 1 more, else a network that lights
all pixels, as one does at first, would start at errors of 128².
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.core.normalisation import check_threshold
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.static_checks import check_same_shape
from tofae_jax.core.types import Number
from tofae_jax.losses.images import acb_mse


def _depths(
    image: Float[Array, "*batch y x"], threshold: Number, n_time_bins: int
) -> tuple[Float[Array, "*batch x bin"], Float[Array, "*batch y bin"]]:
    """`log2(1 + n)` of the numbers n of hits in each column x, and in each row y, that are at least as late as a bin.

    A map over the time bins, each two sums: a scatter of the pixels would add in no fixed order on a GPU, so that equal
    runs gave unequal weights. The backward pass makes each bin's share anew, or an image per bin would be kept.
    """
    step = (1 - threshold) / n_time_bins
    dim = jnp.maximum(jnp.asarray(threshold, image.dtype), step)  # lit-ness rises over this
    bins = jnp.arange(n_time_bins + 1, dtype=image.dtype)
    start, width = jnp.where(bins == 0, 0, threshold + (bins - 1) * step), jnp.where(bins == 0, dim, step)

    @jax.checkpoint
    def counts(rise: tuple[Array, Array]) -> tuple[Array, Array]:
        share = jnp.clip((image - rise[0]) / rise[1], 0, 1)
        return jnp.sum(share, axis=-2), jnp.sum(share, axis=-1)

    per_bin = jax.lax.map(counts, (start, width))
    xt, yt = (jnp.log1p(jnp.moveaxis(count, 0, -1)) / math.log(2) for count in per_bin)
    return xt, yt


def acb_mse_3d(
    prediction: Float[Array, "*batch y x"],
    target: Float[Array, "*batch y x"],
    *,
    zero_weight: Number = 1.0,
    hit_weight: Number = 1.0,
    threshold: Number = 0.5,
    n_time_bins: int = 16,
    reduce: str = "batch",
) -> Float[Array, "*reduced"]:
    """Compute the class-balanced mean squared error over the projections (x, y), (x, t) and (y, t), averaged.

    `(acb_mse(y, t) + acb_mse(D_xt(y), D_xt(t)) + acb_mse(D_yt(y), D_yt(t))) / 3`. The embedded-ToF image is itself the
    (x, y) projection. The other two are counts, cumulated over time: `N_xt[x, k]` is the number of hits in column x
    that are at least as late as time bin k, and `D = log2(1 + N)`. Cells where the target counts none are the class Z.
    See the module for the reasons.

    A pixel p of a `gapped` image with this `threshold` r counts softly: to k = 0 (lit at all) it adds
    `clip(p / r, 0, 1)`, to bin k = 1..K, which begins at `e_k = r + (k - 1)(1 - r)/K`, it adds
    `clip((p - e_k) K / (1 - r), 0, 1)`. So p in (0, 1) always climbs one ramp and has a gradient: below r in how lit it
    is, above r in when, and time is followed within a bin. Where r is below one bin, lit-ness rises over one bin
    instead, so that r = 0 works.

    Args:
        prediction: float[..., y, x], normalised (`gapped`) output y.
        target: float[..., y, x], normalised (`gapped`) image t.
        zero_weight: weight of the class Z, at least 0; may be traced.
        hit_weight: weight of the other cells, likewise.
        threshold: r of the normalisation, from 0 to below 1; may be traced.
        n_time_bins: K, at least 1; static. The cost is that of `acb_mse` and K + 1 passes over both images.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`. `prediction == target` gives 0 with gradient 0. A class without
        cells adds 0 to value and gradient. Outside [0, 1], (x, y) alone has a gradient.

    Raises:
        ValueError: the shapes differ; a threshold outside [0, 1); no time bins; a weight is negative or not finite; an
            unknown `reduce`.
    """
    check_threshold(threshold)
    if n_time_bins < 1:
        raise ValueError(f"n_time_bins must be at least 1, got {n_time_bins}")
    check_same_shape(prediction=prediction, target=target)
    y, t = at_least_float32(prediction), at_least_float32(target)
    pairs = zip(_depths(y, threshold, n_time_bins), _depths(t, threshold, n_time_bins), strict=True)
    views = [(y, t), *pairs]
    xy, xt, yt = (acb_mse(p, q, zero_weight=zero_weight, hit_weight=hit_weight, reduce=reduce) for p, q in views)
    return (xy + xt + yt) / 3
