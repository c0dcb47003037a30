"""Losses of normalised images, pixel by pixel and class by class. See the package for their common rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.static_checks import check_at_least, check_same_shape
from tofae_jax.core.types import Number
from tofae_jax.losses.reductions import is_present, mean, total

LEAST_EPSILON = 1e-7
BCE_EPSILON = 1e-6  # the least that float32 can tell from 1 with room to spare

Image = Float[Array, "*batch y x"]
Reduced = Float[Array, "*reduced"]


def _wide(prediction: Image, target: Image, **weights: Number) -> tuple[Image, Image]:
    """Return both images in at least float32; ValueError where their shapes differ or a weight is negative."""
    check_same_shape(prediction=prediction, target=target)
    for name, weight in weights.items():
        check_at_least(name, weight)
    return at_least_float32(prediction), at_least_float32(target)


def _squared(y: Array, t: Array) -> Array:
    return jnp.square(y - t)


def _absolute(y: Array, t: Array) -> Array:
    difference = y - t
    return jnp.where(difference == 0, 0, jnp.abs(difference))  # JAX's |x|' at 0 is 1


def _cross_entropy(y: Array, t: Array, epsilon: Number = BCE_EPSILON) -> Array:
    y = jnp.clip(y, epsilon, 1 - epsilon)
    return -(t * jnp.log(y) + (1 - t) * jnp.log1p(-y))


def _squared_from_lit(y: Array, t: Array) -> Array:
    return jnp.square(y - (t > 0).astype(y.dtype))


def mse(prediction: Image, target: Image, *, reduce: str = "batch") -> Reduced:
    """Compute the mean squared error, `mean (y - t)²`.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`. The gradient is `2 (y - t) / n` with n pixels in the mean.

    Raises:
        ValueError: the shapes differ; an unknown `reduce`.
    """
    return mean(_squared(*_wide(prediction, target)), reduce)


def mae(prediction: Image, target: Image, *, reduce: str = "batch") -> Reduced:
    """Compute the mean absolute error, `mean |y - t|`; the gradient where y = t is 0.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; an unknown `reduce`.
    """
    return mean(_absolute(*_wide(prediction, target)), reduce)


def sse(prediction: Image, target: Image, *, reduce: str = "batch") -> Reduced:
    """Compute the sum of squared errors, `sum (y - t)²`; it grows with the batch, and so do its gradients.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; an unknown `reduce`.
    """
    return total(_squared(*_wide(prediction, target)), reduce)


def bce(prediction: Image, target: Image, *, epsilon: Number = BCE_EPSILON, reduce: str = "batch") -> Reduced:
    """Compute the binary cross-entropy, `-mean [t log y + (1 - t) log(1 - y)]`, of predictions in [0, 1].

    Predictions are clipped to `[epsilon, 1 - epsilon]`, so that 0 and 1 stay finite; the gradient beyond is 0. The
    reference clips the logarithm at -100 instead, and there the gradient reaches 1e12. (The outputs of a network that
    ends in bfloat16 are exactly 1 from a logit of about 6 on, where this has no gradient: let it end in float32, as the
    mixed policies do.)

    Args:
        prediction: float[..., y, x], normalised output y in [0, 1].
        target: float[..., y, x], normalised image t in [0, 1].
        epsilon: distance of the clip from 0 and 1; may be traced. A plain number is at least 1e-7, near the resolution
            of float32 at 1, and below 0.5.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; a plain `epsilon` is not from 1e-7 to below 0.5; an unknown `reduce`.
    """
    if isinstance(epsilon, int | float) and not LEAST_EPSILON <= epsilon < 0.5:
        raise ValueError(f"epsilon must be from {LEAST_EPSILON} to below 0.5, got {epsilon}")
    return mean(_cross_entropy(*_wide(prediction, target), epsilon), reduce)


def binary_mse(prediction: Image, target: Image, *, reduce: str = "batch") -> Reduced:
    """Compute the mean squared error against "lit or not", `mean (y - 1[t > 0])²`: it learns where hits are, not when.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; an unknown `reduce`.
    """
    return mean(_squared_from_lit(*_wide(prediction, target)), reduce)


def acb_mse(
    prediction: Image, target: Image, *, zero_weight: Number = 1.0, hit_weight: Number = 1.0, reduce: str = "batch"
) -> Reduced:
    """Compute the automatic class-balanced mean squared error, `a mean_Z (y - t)² + b mean_H (y - t)²`.

    Z are the pixels with t = 0, H the others. Hit pixels are a few in ten thousand; balancing the classes keeps the
    all-zero image from being a good answer. A class without pixels adds 0 to the value and to the gradient.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        zero_weight: a, at least 0; may be traced.
        hit_weight: b, likewise.
        reduce: `"batch"`: one number; `"event"`: one per event. The means are over the pixels of all events, or of
            each.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; a weight is negative or not finite; an unknown `reduce`.
    """
    y, t = _wide(prediction, target, zero_weight=zero_weight, hit_weight=hit_weight)
    error, hit = _squared(y, t), target != 0
    return zero_weight * mean(error, reduce, ~hit) + hit_weight * mean(error, reduce, hit)


def acb_mse_mean(
    prediction: Image, target: Image, *, zero_weight: Number = 1.0, hit_weight: Number = 1.0, reduce: str = "batch"
) -> Reduced:
    """Compute `acb_mse` divided by the number of classes that are present: 2, or 1 where all pixels are of one class.

    So an event without hits weighs as much as any other. Images without pixels give 0.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        zero_weight: a of `acb_mse`, at least 0; may be traced.
        hit_weight: b, likewise.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; a weight is negative or not finite; an unknown `reduce`.
    """
    hit = target != 0
    classes = is_present(hit, reduce).astype(jnp.int32) + is_present(~hit, reduce).astype(jnp.int32)
    value = acb_mse(prediction, target, zero_weight=zero_weight, hit_weight=hit_weight, reduce=reduce)
    return value / jnp.maximum(classes, 1).astype(value.dtype)


def ff_acb_mse(
    prediction: Image,
    target: Image,
    *,
    zero_weight: Number = 1.0,
    hit_weight: Number = 1.0,
    full_weight: Number = 1.0,
    reduce: str = "batch",
) -> Reduced:
    """Compute the full-frame class-balanced mean squared error, `acb_mse + c mean (y - t)²`.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        zero_weight: a of `acb_mse`, at least 0; may be traced.
        hit_weight: b, likewise.
        full_weight: c, likewise.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`. A class without pixels adds 0 to `acb_mse`.

    Raises:
        ValueError: the shapes differ; a weight is negative or not finite; an unknown `reduce`.
    """
    check_at_least("full_weight", full_weight)
    balanced = acb_mse(prediction, target, zero_weight=zero_weight, hit_weight=hit_weight, reduce=reduce)
    return balanced + full_weight * mse(prediction, target, reduce=reduce)


class PixelLoss(NamedTuple):
    """A loss that is a sum or mean of one term per pixel, so that it can be taken over a class of pixels."""

    term: Callable[[Array, Array], Array]
    gather: Callable[..., Array]


PIXEL_LOSSES: dict[str, PixelLoss] = {
    "mse": PixelLoss(_squared, mean),
    "mae": PixelLoss(_absolute, mean),
    "bce": PixelLoss(_cross_entropy, mean),
    "sse": PixelLoss(_squared, total),
    "binary_mse": PixelLoss(_squared_from_lit, mean),
}


def split(
    prediction: Image,
    target: Image,
    *,
    zero_loss: str = "mse",
    hit_loss: str = "mae",
    zero_weight: Number = 1.0,
    hit_weight: Number = 1.0,
    reduce: str = "batch",
) -> Reduced:
    """Compute one loss for zero pixels and another for hit pixels, `a L_Z(y, t) + b L_H(y, t)`.

    Z are the pixels with t = 0, H the others. Each loss is taken over its own class: a mean becomes `mean_Z` or
    `mean_H`. `bce` is clipped as by default. A class without pixels adds 0 to the value and to the gradient.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        zero_loss: loss L_Z of zero pixels, a key of `PIXEL_LOSSES`.
        hit_loss: loss L_H of hit pixels, likewise.
        zero_weight: a, at least 0; may be traced.
        hit_weight: b, likewise.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; an unknown loss; a weight is negative or not finite; an unknown `reduce`.
    """
    for setting, name in (("zero_loss", zero_loss), ("hit_loss", hit_loss)):
        if name not in PIXEL_LOSSES:
            raise ValueError(f"{setting} must be one of {', '.join(PIXEL_LOSSES)}, got {name!r}")
    y, t = _wide(prediction, target, zero_weight=zero_weight, hit_weight=hit_weight)
    hit = target != 0
    of_zeros, of_hits = PIXEL_LOSSES[zero_loss], PIXEL_LOSSES[hit_loss]
    zeros = of_zeros.gather(of_zeros.term(y, t), reduce, ~hit)
    return zero_weight * zeros + hit_weight * of_hits.gather(of_hits.term(y, t), reduce, hit)


def class_mse(
    prediction: Image,
    target: Image,
    *,
    true_negative_weight: Number = 1.0,
    true_positive_weight: Number = 1.0,
    false_negative_weight: Number = 1.0,
    false_positive_weight: Number = 1.0,
    full_weight: Number = 1.0,
    reduce: str = "batch",
) -> Reduced:
    """Compute mean squared errors of the four classes of pixels, `(TN + TP + full) / n + FN + FP`.

    Each is its weight times `mean (y - t)²` over its class: zero pixels with y = 0 (TN) or not (FP), hit pixels with y
    = 0 (FN) or not (TP); `full` is over all pixels, and n counts those of TN, TP and full that have pixels. A class
    without pixels adds 0 to value and gradient. A class is lit by `y != 0` exactly, as in the reference: after a
    sigmoid nearly all pixels are "not 0", so FP and TP do the work until the network saturates. TN is always 0 with
    gradient 0; it only counts in n.

    Args:
        prediction: float[..., y, x], normalised output y.
        target: float[..., y, x], normalised image t.
        true_negative_weight: of zero pixels with y = 0, at least 0; may be traced, as the others.
        true_positive_weight: of hit pixels with y other than 0.
        false_negative_weight: of hit pixels with y = 0.
        false_positive_weight: of zero pixels with y other than 0.
        full_weight: of all pixels.
        reduce: `"batch"`: one number; `"event"`: one per event.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; a weight is negative or not finite; an unknown `reduce`.
    """
    y, t = _wide(
        prediction,
        target,
        true_negative_weight=true_negative_weight,
        true_positive_weight=true_positive_weight,
        false_negative_weight=false_negative_weight,
        false_positive_weight=false_positive_weight,
        full_weight=full_weight,
    )
    error, hit, lit = _squared(y, t), target != 0, prediction != 0
    true_negative, true_positive = ~hit & ~lit, hit & lit
    averaged = (
        true_negative_weight * mean(error, reduce, true_negative)
        + true_positive_weight * mean(error, reduce, true_positive)
        + full_weight * mean(error, reduce)
    )
    n = 1 + sum(is_present(member, reduce).astype(averaged.dtype) for member in (true_negative, true_positive))
    wrong = false_negative_weight * mean(error, reduce, hit & ~lit) + false_positive_weight * mean(
        error, reduce, ~hit & lit
    )
    return averaged / n + wrong
