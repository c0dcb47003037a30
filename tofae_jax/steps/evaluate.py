"""One step of evaluation, and one of denoising."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax import metrics
from tofae_jax.core import hits
from tofae_jax.core.batch import Batch
from tofae_jax.models import Model, Variables
from tofae_jax.steps.inputs import degrade_batch, loss_of, model_input, target_of
from tofae_jax.steps.outputs import DecodedOutput, decode_output
from tofae_jax.steps.types import DegradedBatch, DenoiseOutput, EvalOutput, StepOptions, StepSettings


def eval_step(
    variables: Variables, batch: Batch, key: Array, settings: StepSettings, *, model: Model, options: StepOptions
) -> EvalOutput:
    """Degrade, predict, compare. An event's draw depends on `key` and the event's number alone.

    So the result does not depend on the batch size, or on what else is evaluated.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.event)
    views = degrade_batch(keys, batch, settings, options)
    event_hits, is_signal = views.degraded.hits, views.degraded.is_signal
    x = model_input(model, views.input, event_hits, batch.tracks, settings, options)
    output = model.apply(variables, x)
    target = target_of(views, options)
    loss = loss_of(settings, options, evaluation=True)(output, views, "event")
    read = decode_output(views.input, event_hits, output, settings, options)
    visible = hits.is_visible(event_hits, views.input)
    filled, is_event, n_t = hits.is_hit(event_hits), batch.is_event, options.shape_xyt[2]
    noise_pixels = (views.input > 0) & (views.input != views.signal)

    shown = views.input, read.direct, read.masked
    images = _compared(shown, views, target, n_t=n_t, tolerance_bins=settings.tolerance_bins)
    confusions = {
        "input": metrics.per_event_hit_confusion(read.is_shown, is_signal, filled),
        "direct": metrics.per_event_pixel_confusion(read.direct > 0, target > 0, noise_pixels),
        "masked": metrics.per_event_hit_confusion(read.kept, is_signal, filled),
    }
    per_event = metrics.Metrics(
        events=_event_counts(views, visible, batch.n_dropped),
        loss=loss,
        outputs=None,
        scores=None,
        **{name: metrics.OutputMetrics(confusions[name], image.sums) for name, image in images.items()},
    )
    sums = metrics.batch_metrics(
        per_event,
        is_event,
        outputs=_output_sums(read, filled, is_event, options),
        scores=metrics.score_sums(read.score, read.time_error, is_signal, read.is_shown, is_event),
        cells={name: image.cells for name, image in images.items()},
        n_pixels=target.shape[1] * target.shape[2],
    )
    return EvalOutput(sums, per_event, views, read.raw, read.direct, read.score, read.kept)


def _output_sums(read: DecodedOutput, filled: Array, is_event: Array, options: StepOptions) -> metrics.OutputSums:
    """Raw outputs of pixels, or of hits."""
    if options.reads == "hits":
        return metrics.output_sums(read.raw, read.kept, is_event, is_counted=filled)
    return metrics.output_sums(read.raw, read.direct > 0, is_event)


def _compared(
    shown: tuple[Array, Array, Array], views: DegradedBatch, target: Array, *, n_t: int, tolerance_bins: Array | float
) -> dict[str, metrics.PerEventImage]:
    """Input, direct and masked output compared with their targets."""
    event_hits, (image, direct, masked) = views.degraded.hits, shown
    one = hits.is_one_at_pixel(event_hits, views.input)
    ranges = {"n_t": n_t, "tolerance_bins": tolerance_bins}

    def of_hits(image: Array) -> metrics.PerEventImage:
        # an output that keeps some of the input's hits lights no other pixels, nor does the signal
        y, t = (hits.at_hits(picture, event_hits) for picture in (image, views.signal))
        return metrics.per_event_pixels(y, t, counts=one, n_pixels=image.shape[1] * image.shape[2], **ranges)

    of_masked = of_hits(masked)
    ssim = metrics.per_event_ssim(masked, views.signal, n_t=n_t)
    return {
        "input": of_hits(image),
        "direct": metrics.per_event_images(direct, target, **ranges),
        "masked": of_masked._replace(sums=of_masked.sums._replace(ssim=ssim)),
    }


def _event_counts(views: DegradedBatch, visible: Array, n_dropped: Array) -> metrics.EventCounts:
    """Of single events."""
    degraded = views.degraded
    return metrics.EventCounts(
        n_events=jnp.ones(len(n_dropped), jnp.int32),
        n_pattern_hits=degraded.n_pattern,
        n_kept_hits=degraded.n_kept,
        n_signal_hits=degraded.n_signal,
        n_visible_signal_hits=jnp.sum(visible & degraded.is_signal, axis=-1, dtype=jnp.int32),
        n_noise_hits=degraded.n_noise,
        n_occluded_hits=hits.count_occluded(degraded.hits, views.input),
        n_dropped_hits=n_dropped,
    )


def denoise_step(
    variables: Variables,
    event_hits: Int[Array, "batch k 3"],
    settings: StepSettings,
    tracks: Float[Array, "batch n 8"] | None = None,
    *,
    model: Model,
    options: StepOptions,
) -> DenoiseOutput:
    """Score measured hits and decide which to keep."""
    n_x, n_y, _ = options.shape_xyt
    image = hits.embed(event_hits, n_x=n_x, n_y=n_y)
    output = model.apply(variables, model_input(model, image, event_hits, tracks, settings, options))
    read = decode_output(image, event_hits, output, settings, options)
    return DenoiseOutput(read.score, read.kept, read.is_shown, output.tracks)
