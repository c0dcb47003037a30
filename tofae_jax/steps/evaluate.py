"""One evaluation step and one denoising step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax import metrics
from tofae_jax.core import hits
from tofae_jax.core.batch import Batch
from tofae_jax.models import Model, Variables
from tofae_jax.steps.inputs import bind_loss, check_background, degrade_batch, model_input, reconstruction_target
from tofae_jax.steps.options import check_fit
from tofae_jax.steps.outputs import DecodedOutput, decode_output
from tofae_jax.steps.state import TrainState, variables_of
from tofae_jax.steps.types import DegradedBatch, DenoiseOutput, EvalOutput, StepOptions, StepSettings, typed


def eval_step(
    variables: Variables | TrainState,
    batch: Batch,
    key: Array,
    settings: StepSettings,
    *,
    model: Model,
    options: StepOptions,
) -> EvalOutput:
    """Degrade a batch, predict and compare. Compile it as `train_step`.

    An event's draws depend on `key` and the event's number alone, so its numbers depend neither on the batch size nor
    on the other events.

    Args:
        variables: of the model, or the train state that holds them.
        batch: patterns, e.g. of an `EvaluationSource` or `Batch.from_hits`.
        key: random key of the evaluation.
        settings: numbers of the step.
        model: the model.
        options: of `step_options`.

    Returns:
        Sums of the batch (`metrics`), numbers of its events (`per_event`), the degraded events, output, scores and
        which hits are kept.

    Raises:
        ValueError: losses, model and options do not fit each other; when the step is traced.
    """
    check_fit(model, options)
    check_background(batch.background.shape[1], settings)
    settings = typed(settings)
    variables = variables_of(variables)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.event)
    degraded = degrade_batch(keys, batch, settings, options)
    event_hits = degraded.events.hits
    x = model_input(model, degraded.input, event_hits, batch.tracks, settings, options)
    output = model.apply(variables, x)
    target = reconstruction_target(degraded, options)
    weights = settings.evaluation_loss_weights
    if weights is None:
        weights = settings.loss_weights if options.evaluation_loss == options.loss else {}
    loss_function = bind_loss(options.evaluation_loss, weights, settings, options)
    decoded = decode_output(degraded.input, event_hits, output, settings, options)
    shown = degraded.input, decoded.direct, decoded.masked
    images = _compared(shown, degraded, target, n_t=options.shape_xyt[2], tolerance_bins=settings.tolerance_bins)
    losses = loss_function(output, degraded, "event")
    per_event = _per_event(batch, degraded, decoded, target=target, images=images, losses=losses)
    sums = metrics.batch_metrics(
        per_event,
        batch.is_event,
        outputs=_output_sums(decoded, hits.is_hit(event_hits), batch.is_event, options),
        scores=metrics.score_sums(
            decoded.score, decoded.time_error, degraded.events.is_signal, decoded.is_shown, batch.is_event
        ),
        cells={name: image.cells for name, image in images.items()},
        n_pixels=target.shape[1] * target.shape[2],
    )
    return EvalOutput(sums, per_event, degraded, decoded.raw, decoded.direct, decoded.score, decoded.kept)


def _per_event(
    batch: Batch,
    degraded: DegradedBatch,
    decoded: DecodedOutput,
    *,
    target: Array,
    images: dict[str, metrics.PerEventImage],
    losses: Array,
) -> metrics.Metrics:
    """Metrics of single events."""
    event_hits, is_signal = degraded.events.hits, degraded.events.is_signal
    filled, visible = hits.is_hit(event_hits), hits.is_visible(event_hits, degraded.input)
    noise_pixels = (degraded.input > 0) & (degraded.input != degraded.signal)
    confusions = {
        "input": metrics.per_event_hit_confusion(decoded.is_shown, is_signal, filled),
        "direct": metrics.per_event_pixel_confusion(decoded.direct > 0, target > 0, noise_pixels),
        "masked": metrics.per_event_hit_confusion(decoded.kept, is_signal, filled),
    }
    return metrics.Metrics(
        events=_event_counts(degraded, visible, batch.n_dropped),
        loss=losses,
        outputs=None,
        scores=None,
        **{name: metrics.OutputMetrics(confusions[name], image.sums) for name, image in images.items()},
    )


def _output_sums(decoded: DecodedOutput, filled: Array, is_event: Array, options: StepOptions) -> metrics.OutputSums:
    """Raw outputs of pixels, or of hits."""
    if options.scores_hits:
        return metrics.output_sums(decoded.raw, decoded.kept, is_event, is_counted=filled)
    return metrics.output_sums(decoded.raw, decoded.direct > 0, is_event)


def _compared(
    shown: tuple[Array, Array, Array],
    degraded: DegradedBatch,
    target: Array,
    *,
    n_t: int,
    tolerance_bins: Array | float,
) -> dict[str, metrics.PerEventImage]:
    """Input, direct and masked output compared with their targets."""
    event_hits, (image, direct, masked) = degraded.events.hits, shown
    one = hits.is_one_at_pixel(event_hits, degraded.input)
    ranges = {"n_t": n_t, "tolerance_bins": tolerance_bins}

    def of_hits(image: Array) -> metrics.PerEventImage:
        # an output that keeps some of the input's hits lights no other pixels, nor does the signal
        y, t = (hits.at_hits(picture, event_hits) for picture in (image, degraded.signal))
        return metrics.per_event_pixels(y, t, counts=one, n_pixels=image.shape[1] * image.shape[2], **ranges)

    of_masked = of_hits(masked)
    ssim = metrics.per_event_ssim(masked, degraded.signal, n_t=n_t)
    return {
        "input": of_hits(image),
        "direct": metrics.per_event_images(direct, target, **ranges),
        "masked": of_masked._replace(sums=of_masked.sums._replace(ssim=ssim)),
    }


def _event_counts(degraded: DegradedBatch, visible: Array, n_dropped: Array) -> metrics.EventCounts:
    """Of single events."""
    events = degraded.events
    return metrics.EventCounts(
        n_events=jnp.ones(len(n_dropped), jnp.int32),
        n_pattern_hits=events.n_pattern,
        n_kept_hits=events.n_kept,
        n_signal_hits=events.n_signal,
        n_visible_signal_hits=jnp.sum(visible & events.is_signal, axis=-1, dtype=jnp.int32),
        n_noise_hits=events.n_noise,
        n_occluded_hits=hits.count_occluded(events.hits, degraded.input),
        n_dropped_hits=n_dropped,
    )


def denoise_step(
    variables: Variables | TrainState,
    event_hits: Int[Array, "batch k 3"],
    settings: StepSettings,
    tracks: Float[Array, "batch n 8"] | None = None,
    *,
    model: Model,
    options: StepOptions,
) -> DenoiseOutput:
    """Score measured hits and decide which to keep. Compile it as `train_step`.

    Args:
        variables: of the model, or the train state that holds them.
        event_hits: int[batch, k, 3] of x, y [pixels] and t [time bins], t = 0 in empty slots, which may stand anywhere.
        settings: numbers of the step; those of the degradation are not used.
        tracks: float32[batch, n, 8] for models that are given tracks, see `Batch.tracks`.
        model: the model.
        options: of `step_options`.

    Returns:
        Score, decision and visibility of each hit, and the direct output.

    Raises:
        ValueError: losses, model and options do not fit each other; when the step is traced.
    """
    check_fit(model, options)
    settings = typed(settings)
    n_x, n_y, _ = options.shape_xyt
    image = hits.embed(event_hits, n_x=n_x, n_y=n_y)
    output = model.apply(variables_of(variables), model_input(model, image, event_hits, tracks, settings, options))
    decoded = decode_output(image, event_hits, output, settings, options)
    direct = None if options.scores_hits else decoded.direct
    return DenoiseOutput(decoded.score, decoded.kept, decoded.is_shown, output.tracks, direct)
