"""Decode model outputs into hit scores and the keep mask."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core import hits, precision
from tofae_jax.models import Output
from tofae_jax.steps.inputs import hit_logits
from tofae_jax.steps.types import StepOptions, StepSettings

EVEN_ODDS = 0.5
"""default threshold on the signal probability of a hit"""


class DecodedOutput(NamedTuple):
    """Scores, images and keep mask decoded from a model's output."""

    direct: Array
    masked: Array
    score: Array
    """[batch, k], 0 of hits that the model was not shown"""
    time_error: Array
    """[batch, k]: bins between a hit's time and the direct output's; 0 where that has none"""
    is_shown: Array
    """[batch, k]: hits that the model was shown"""
    kept: Array
    raw: Array
    """what the network gave: of pixels, or of hits"""


def decode_output(
    image: Array, event_hits: Array, output: Output, settings: StepSettings, options: StepOptions
) -> DecodedOutput:
    """Decode the model output into hit scores and the keep mask."""
    if options.scores_hits:
        return _decode_hits(image, event_hits, output, settings, options)
    assert output.image is not None  # the loss takes images, which the model gives: `check_fit`
    normalisation, raw = options.normalisation, output.image
    is_shown = hits.is_visible(event_hits, image)
    time_error = jnp.zeros(is_shown.shape, jnp.float32)
    if normalisation.has_time:
        direct = normalisation.renormalise(raw, threshold=settings.threshold, n_t=options.shape_xyt[2])
        time_error = jnp.abs(event_hits[..., 2] - precision.at_least_float32(hits.at_hits(direct, event_hits)))
    else:
        direct = normalisation.is_lit(raw, threshold=settings.threshold).astype(jnp.float32)
    threshold, tolerance = score_threshold(settings, options), settings.tof_tolerance_bins
    score = precision.at_least_float32(hits.at_hits(raw, event_hits))
    # the decision of `mask`, at the hits alone: denoising needs no image of it
    kept = is_shown & (score > threshold) & (time_error <= tolerance)
    masked = hits.mask(
        image,
        precision.at_least_float32(direct),
        is_lit=precision.at_least_float32(raw) > threshold,
        tof_tolerance=tolerance if normalisation.has_time else None,
    )
    score = jnp.where(is_shown, score, 0).astype(jnp.float32)
    return DecodedOutput(direct, masked, score, time_error, is_shown, kept, raw)


def score_threshold(settings: StepSettings, options: StepOptions) -> Array | float:
    """Return the score above which hits are kept: the settings' own, or that of even odds or of a lit pixel."""
    if settings.score_threshold is not None:
        return settings.score_threshold
    return EVEN_ODDS if options.scores_hits else options.normalisation.lit_above(settings.threshold)


def _decode_hits(
    image: Array, event_hits: Array, output: Output, settings: StepSettings, options: StepOptions
) -> DecodedOutput:
    """Decode hit scores; without an image of its own, the direct output shows the kept hits, as the masked one does."""
    logits, is_shown = hit_logits(output, event_hits, image)
    score = jnp.where(is_shown, jax.nn.sigmoid(precision.at_least_float32(logits)), 0).astype(jnp.float32)
    kept = is_shown & (score > score_threshold(settings, options))
    masked = _kept_image(kept, event_hits, options)
    return DecodedOutput(masked, masked, score, jnp.zeros(score.shape, jnp.float32), is_shown, kept, score)


def _kept_image(kept: Array, event_hits: Array, options: StepOptions) -> Array:
    n_x, n_y, _ = options.shape_xyt
    return hits.embed(jnp.where(kept[..., None], event_hits, 0), n_x=n_x, n_y=n_y)
