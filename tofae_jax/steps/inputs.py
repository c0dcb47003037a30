"""Build degraded batches and model inputs; bind the configured loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jaxtyping import Array

from tofae_jax.core import degradation, hits
from tofae_jax.core.batch import Batch
from tofae_jax.core.noise import NOISE_PROFILES
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.static_checks import static_number
from tofae_jax.models import TRACK_COLUMNS, HitInput, Model, Output
from tofae_jax.steps.types import DegradedBatch, StepLoss, StepOptions, StepSettings


def degrade_batch(keys: Array, batch: Batch, settings: StepSettings, options: StepOptions) -> DegradedBatch:
    """Degrade events, each with its own key, and embed every stage as an image."""
    n_x, n_y, _ = options.shape_xyt
    degrade = partial(
        degradation.degrade,
        shape_xyt=options.shape_xyt,
        max_signal=options.max_signal,
        max_noise=options.max_noise or int(options.max_signal == 0),  # an empty slot: models need one
        overflow=options.overflow,
        selection=options.selection,
    )
    events = jax.vmap(degrade, in_axes=(0, 0, None, 0))(keys, batch.hits, settings.degradation, batch.background)
    embed = partial(hits.embed, n_x=n_x, n_y=n_y)
    return DegradedBatch(events, embed(batch.hits), embed(events.smeared), embed(events.hits))


def check_background(n_slots: int, settings: StepSettings) -> None:
    """Check that there are slots of background hits if the noise profile `data` takes some.

    Raises:
        ValueError: there are none; its share of the noise would be missing without a word.
    """
    weights = settings.degradation.noise.weights
    place = [*NOISE_PROFILES].index("data")
    share = static_number(weights[place]) if isinstance(weights, tuple | list) and len(weights) > place else None
    if share and n_slots == 0:
        raise ValueError("noise profile data draws from background hits, but there are no slots for them: 0 background")


def reconstruction_target(degraded: DegradedBatch, options: StepOptions) -> Array:
    """Return the image to reconstruct, in time bins."""
    return degraded.pattern if options.target == "pattern" else degraded.signal


def normalised(image: Array, settings: StepSettings, options: StepOptions) -> Array:
    """Normalise an image in time bins for the network."""
    return options.normalisation.normalise(image, threshold=settings.threshold, n_t=options.shape_xyt[2])


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
    """Build the model's input: the normalised image, or hits with the tracks that the model may know."""
    if model.inputs == "image":
        return normalised(image, settings, options)
    known = tracks[..., : len(TRACK_COLUMNS)] if model.takes_tracks and tracks is not None else None
    return HitInput(event_hits, known, tracks if train and model.learns_tracks else None)


def bind_loss(
    loss: StepLoss, weights: dict[str, Any], settings: StepSettings, options: StepOptions
) -> Callable[[Output, DegradedBatch, str], Array]:
    """Bind a loss to its settings: `(output, degraded, reduce) -> loss` of the whole batch or per event."""
    threshold = {"threshold": settings.threshold} if loss.reads_time else {}
    function = partial(loss.function, **dict(loss.choices), **weights, **threshold)

    def of_output(output: Output, degraded: DegradedBatch, reduce: str) -> Array:
        if loss.takes == "hits":
            logits, is_scored = hit_logits(output, degraded.events.hits, degraded.input)
            return function(at_least_float32(logits), degraded.events.is_signal, is_scored, reduce=reduce)
        target = normalised(reconstruction_target(degraded, options), settings, options)
        assert output.image is not None  # `check_fit` says that there is one
        return function(at_least_float32(output.image), target, reduce=reduce)

    return of_output


def hit_logits(output: Output, event_hits: Array, image: Array) -> tuple[Array, Array]:
    """Return the logit of every hit and which hits the model was shown: an image hides occluded ones."""
    if output.hit_logits is not None:
        return output.hit_logits, hits.is_hit(event_hits)
    assert output.pixel_logits is not None  # `outputs` says that there are logits
    return hits.at_hits(output.pixel_logits, event_hits), hits.is_visible(event_hits, image)
