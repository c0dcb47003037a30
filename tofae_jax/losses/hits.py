"""Losses of hit classification: which hits of an event are signal, over a hit list or over lit pixels.

Scores of a hit list are `[..., k]`; of an image `[..., y, x]` with `event_axes=2`, where `is_hit` marks the lit pixels.
Signal is the positive class. What `is_hit` does not mark takes no part: whatever stands there, NaN included, its
gradient is exactly 0. An event or batch without hits gives 0 with gradient 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.static_checks import check_at_least, check_same_shape, static_number
from tofae_jax.core.types import Number
from tofae_jax.losses.reductions import mean

SCORE_EPSILON = 1e-6


def _logits(scores: Float[Array, "*event"], is_hit: Bool[Array, "*event"], from_logits: bool) -> Float[Array, "*event"]:
    """Logits of the hits, and 0 elsewhere *before* any function that could make a NaN of what stands there."""
    values = at_least_float32(scores)
    if from_logits:
        return jnp.where(is_hit, values, 0)
    p = jnp.clip(jnp.where(is_hit, values, 0.5), SCORE_EPSILON, 1 - SCORE_EPSILON)
    return jnp.log(p) - jnp.log1p(-p)


def hit_bce(
    scores: Float[Array, "*event"],
    is_signal: Bool[Array, "*event"],
    is_hit: Bool[Array, "*event"],
    *,
    signal_weight: Number = 1.0,
    noise_weight: Number = 1.0,
    from_logits: bool = True,
    reduce: str = "batch",
    event_axes: int = 1,
) -> Float[Array, "*reduced"]:
    """Compute the weighted binary cross-entropy of hits, `-mean_hits w log p_true`.

    `p_true` is the probability of the hit's own class. From logits z it is `w softplus(∓z)`: finite for every finite z,
    gradient within `±w / n_hits`. The mean divides by the number of hits, not by the sum of weights; without hits it is
    0 with gradient 0.

    Args:
        scores: float[..., k] of a hit list, or float[..., y, x] of an image: logits z, or probabilities.
        is_signal: bool of the same shape: which hits are signal.
        is_hit: bool of the same shape: what is a hit, or a lit pixel. All else takes no part, with a gradient of 0.
        signal_weight: w of signal, at least 0; may be traced.
        noise_weight: w of noise, likewise.
        from_logits: whether scores are logits. Probabilities are clipped 1e-6 from 0 and 1; the gradient beyond is 0.
        reduce: `"batch"`: one number; `"event"`: one per event.
        event_axes: axes of an event: 1 for hit lists, 2 for images.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; a weight is negative or not finite; an unknown `reduce`.
    """
    check_same_shape(scores=scores, is_signal=is_signal, is_hit=is_hit)
    check_at_least("signal_weight", signal_weight)
    check_at_least("noise_weight", noise_weight)
    z = _logits(scores, is_hit, from_logits)
    loss = jnp.where(is_signal, signal_weight * jax.nn.softplus(-z), noise_weight * jax.nn.softplus(z))
    return mean(loss, reduce, is_hit, event_axes=event_axes)


def hit_focal(
    scores: Float[Array, "*event"],
    is_signal: Bool[Array, "*event"],
    is_hit: Bool[Array, "*event"],
    *,
    alpha: Number = 0.25,
    gamma: Number = 2.0,
    from_logits: bool = True,
    reduce: str = "batch",
    event_axes: int = 1,
) -> Float[Array, "*reduced"]:
    """Compute the focal loss of hits, `-mean_hits α_true (1 - p_true)^γ log p_true`: hits that are already clear count
    little.

    `p_true` is the probability of the hit's own class; `gamma = 0` gives `hit_bce` with the weights `alpha` and
    `1 - alpha`. The power is taken as `exp(-γ softplus(z))`, z being the logit of the hit's own class, so that value
    and gradient stay finite at every finite logit and γ >= 0; from `1 - p` the gradient is infinite at p = 1 where γ <
    1. Without hits it is 0 with gradient 0.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5, but divided by the number of all
    hits, not of the positive ones, which may be none.

    Args:
        scores: float[..., k] of a hit list, or float[..., y, x] of an image: logits z, or probabilities.
        is_signal: bool of the same shape: which hits are signal.
        is_hit: bool of the same shape: what is a hit, or a lit pixel. All else takes no part, with a gradient of 0.
        alpha: weight of signal, from 0 to 1; that of noise is `1 - alpha`. May be traced.
        gamma: γ, at least 0; may be traced.
        from_logits: whether scores are logits. Probabilities are clipped 1e-6 from 0 and 1; the gradient beyond is 0.
        reduce: `"batch"`: one number; `"event"`: one per event.
        event_axes: axes of an event: 1 for hit lists, 2 for images.

    Returns:
        float32 (or wider) [] or [...], by `reduce`.

    Raises:
        ValueError: the shapes differ; `alpha` is not from 0 to 1; `gamma` is negative or not finite; an unknown
            `reduce`.
    """
    check_same_shape(scores=scores, is_signal=is_signal, is_hit=is_hit)
    check_at_least("gamma", gamma)
    if (weight := static_number(alpha)) is not None and not 0 <= weight <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}")
    z = _logits(scores, is_hit, from_logits)
    towards = jnp.where(is_signal, z, -z)  # logit of the true class
    weight = jnp.where(is_signal, alpha, 1 - alpha).astype(z.dtype)
    loss = weight * jnp.exp(-gamma * jax.nn.softplus(towards)) * jax.nn.softplus(-towards)
    return mean(loss, reduce, is_hit, event_axes=event_axes)
