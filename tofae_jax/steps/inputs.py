"""Events at every stage before the model, and the loss of what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jaxtyping import Array

from tofae_jax import losses
from tofae_jax.core import degradation, hits
from tofae_jax.core.batch import Batch
from tofae_jax.core.normalisation import normalisation_by_name
from tofae_jax.models import TRACK_COLUMNS, HitInput, Model, Output
from tofae_jax.steps.types import DegradedBatch, StepOptions, StepSettings


def degrade_batch(keys: Array, batch: Batch, settings: StepSettings, options: StepOptions) -> DegradedBatch:
    """Events degraded, each by its own key, and their images."""
    n_x, n_y, _ = options.shape_xyt
    degrade = partial(
        degradation.degrade,
        shape_xyt=options.shape_xyt,
        max_signal=options.max_signal,
        max_noise=options.max_noise,
        overflow=options.overflow,
        selection=options.selection,
    )
    degraded = jax.vmap(degrade, in_axes=(0, 0, None, 0))(keys, batch.hits, settings.degradation, batch.background)
    embed = partial(hits.embed, n_x=n_x, n_y=n_y)
    return DegradedBatch(degraded, embed(batch.hits), embed(degraded.smeared), embed(degraded.hits))


def target_of(views: DegradedBatch, options: StepOptions) -> Array:
    """The image that the run reconstructs, in time bins."""
    return views.pattern if options.target == "pattern" else views.signal


def normalised(image: Array, settings: StepSettings, options: StepOptions) -> Array:
    """An image in time bins as the network knows it."""
    normalise = normalisation_by_name(options.normalisation).normalise
    return normalise(image, threshold=settings.threshold, n_t=options.shape_xyt[2])


def model_input(
    model: Model,
    image: Array,
    event_hits: Array,
    tracks: Array | None,
    settings: StepSettings,
    options: StepOptions,
    *,
    train: bool = False,
) -> Any:
    """Events as the model takes them: `image` in time bins, or their hits, and of tracks what it may know."""
    if model.takes == "image":
        return normalised(image, settings, options)
    known = tracks[..., : len(TRACK_COLUMNS)] if model.takes_tracks and tracks is not None else None
    return HitInput(event_hits, known, tracks if train and model.learns_tracks else None)


def loss_of(settings: StepSettings, options: StepOptions, *, evaluation: bool) -> Callable[..., Array]:
    """The loss of training or evaluation with all its settings."""
    if evaluation and options.evaluation_loss is not None:
        name, choices, weights = (
            options.evaluation_loss,
            options.evaluation_loss_choices,
            settings.evaluation_loss_weights,
        )
    else:
        name, choices, weights = options.loss, options.loss_choices, settings.loss_weights
    loss = losses.loss_by_name(name)
    threshold = {"threshold": settings.threshold} if loss.reads_time else {}
    function = partial(loss.function, **dict(choices), **weights, **threshold)

    def of_output(output: Output, views: DegradedBatch, reduce: str) -> Array:
        if loss.takes == "hits":
            logits, is_scored = hit_logits(output, views.degraded.hits, views.input)
            return function(logits, views.degraded.is_signal, is_scored, reduce=reduce)
        return function(output.image, normalised(target_of(views, options), settings, options), reduce=reduce)

    return of_output


def hit_logits(output: Output, event_hits: Array, image: Array) -> tuple[Array, Array]:
    """Logit of every hit, and which hits the model was shown: an image hides those that are occluded."""
    if output.hit_logits is not None:
        return output.hit_logits, hits.is_hit(event_hits)
    assert output.pixel_logits is not None  # `gives` says that there are logits
    return hits.at_hits(output.pixel_logits, event_hits), hits.is_visible(event_hits, image)
