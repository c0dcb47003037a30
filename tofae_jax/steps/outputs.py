"""From what a model gives to which hits are kept."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core import hits, precision
from tofae_jax.core.normalisation import normalisation_by_name
from tofae_jax.models import Output
from tofae_jax.steps.inputs import hit_logits
from tofae_jax.steps.types import StepOptions, StepSettings


class DecodedOutput(NamedTuple):
    """A model's output as it is used."""

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
    """What is kept of the hits, by what the run reads of the model's output."""
    if options.reads == "hits":
        return _read_hits(image, event_hits, output, settings, options)
    assert output.image is not None  # `gives` says that there is one
    normalisation, raw = normalisation_by_name(options.normalisation), output.image
    is_shown = hits.is_visible(event_hits, image)
    time_error = jnp.zeros(is_shown.shape, jnp.float32)
    if normalisation.has_time:
        direct = normalisation.renormalise(raw, threshold=settings.threshold, n_t=options.shape_xyt[2])
        time_error = jnp.abs(event_hits[..., 2] - precision.at_least_float32(hits.at_hits(direct, event_hits)))
    else:
        direct = normalisation.is_lit(raw, threshold=settings.threshold).astype(jnp.float32)
    score = precision.at_least_float32(hits.at_hits(raw, event_hits))
    kept = is_shown & (score > settings.score_threshold) & (time_error <= settings.tof_tolerance_bins)
    score = jnp.where(is_shown, score, 0).astype(jnp.float32)
    masked = _image_of(kept, event_hits, options)
    return DecodedOutput(direct, masked, score, time_error, is_shown, kept, raw)


def _read_hits(
    image: Array, event_hits: Array, output: Output, settings: StepSettings, options: StepOptions
) -> DecodedOutput:
    """A model that scores hits has no image of its own: its direct output shows what it keeps, as its masked one."""
    logits, is_shown = hit_logits(output, event_hits, image)
    score = jnp.where(is_shown, jax.nn.sigmoid(precision.at_least_float32(logits)), 0).astype(jnp.float32)
    kept = is_shown & (score > settings.score_threshold)
    masked = _image_of(kept, event_hits, options)
    return DecodedOutput(masked, masked, score, jnp.zeros(score.shape, jnp.float32), is_shown, kept, score)


def _image_of(kept: Array, event_hits: Array, options: StepOptions) -> Array:
    n_x, n_y, _ = options.shape_xyt
    return hits.embed(jnp.where(kept[..., None], event_hits, 0), n_x=n_x, n_y=n_y)
