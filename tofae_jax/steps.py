"""One step of training, evaluation and denoising: pure functions of arrays, compiled once.

A batch holds hit lists; degradation, images, network, loss and metrics all run on the device inside the step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from tofae_jax import degradation, hits, losses, metrics, precision
from tofae_jax.models import Model, Variables
from tofae_jax.normalisation import normalisation_by_name
from tofae_jax.train_state import TrainState

Target = Literal["pattern", "signal"]


class Batch(NamedTuple):
    """Patterns to be degraded: NumPy arrays on the host, JAX arrays in a step."""

    hits: Any
    """int[batch, k, 3], t = 0 in empty slots"""
    event: Any
    """int[batch]: number of each event in its dataset; an evaluation's draw for an event depends on this alone"""
    is_event: Any
    """bool[batch]: False for the filling of a ragged last batch"""
    epoch: Any
    """int[]: epoch of the draws, from 0"""
    step: Any
    """int[]: step in the epoch, from 0"""
    n_dropped: Any
    """int[batch]: hits of each event that found no slot"""
    background: Any
    """int[batch, b, 3]: hits of the events that are no signal, for the noise profile `data`; b may be 0"""


class StepSettings(NamedTuple):
    """Numbers of a step, all traced: a schedule may change them without recompiling."""

    degradation: degradation.DegradationSettings = degradation.DegradationSettings()
    threshold: Any = 0.5
    """of the normalisation"""
    tof_tolerance_bins: Any = jnp.inf
    """of the mask; infinite: any time"""
    loss_weights: dict[str, Any] = {}
    """numbers of the training loss"""
    evaluation_loss_weights: dict[str, Any] = {}
    """numbers of the evaluation loss, where that is another one"""
    learning_rate: Any = 1e-3
    tolerance_bins: Any = 10.0
    """largest error of a time that the metrics count as near"""
    scale_growth_steps: Any = 1000
    """good steps in a row after which the loss scale is doubled"""


class StepOptions(NamedTuple):
    """Choices of a step, all static."""

    shape_xyt: tuple[int, int, int]
    max_signal: int
    max_noise: int
    overflow: str = "drop"
    selection: str = "random"
    normalisation: str = "gapped"
    loss: str = "acb_mse"
    loss_choices: tuple[tuple[str, Any], ...] = ()
    """static settings of the loss, by name"""
    evaluation_loss: str | None = None
    """None: the training loss, with its settings"""
    evaluation_loss_choices: tuple[tuple[str, Any], ...] = ()
    target: Target = "pattern"
    scale_loss: bool = False
    """dynamic loss scaling, for float16"""


class Views(NamedTuple):
    """One batch at every stage; images are in time bins."""

    degraded: degradation.Degraded
    pattern: Float[Array, "batch y x"]
    signal: Float[Array, "batch y x"]
    """kept and smeared signal without noise"""
    input: Float[Array, "batch y x"]


class Evaluated(NamedTuple):
    """What an evaluation knows of one batch. What its caller drops inside its own `jit` is not computed."""

    metrics: metrics.Metrics
    of_each: metrics.Metrics
    """of single events, filling included"""
    views: Views
    output: Float[Array, "batch y x"]
    """of the network, before renormalisation"""
    direct: Float[Array, "batch y x"]
    """direct output in time bins, or 1 where lit if the normalisation has no time"""
    score: Float[Array, "batch k"]
    """of each hit of the degraded events"""
    kept: Bool[Array, "batch k"]
    """which of them the masked output keeps"""


class TrainMetrics(NamedTuple):
    """Of one training step; norms in at least float32."""

    loss: Array
    gradient_norm: Array
    """of the gradient itself, whatever the loss scale"""
    parameter_norm: Array
    update_norm: Array
    skipped: Array
    """whether gradients overflowed, so that nothing was changed"""
    loss_scale: Array
    """that this step used"""
    stuck: Array
    """steps skipped in a row at the smallest loss scale"""


def _views(keys: Array, batch: Batch, settings: StepSettings, options: StepOptions) -> Views:
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
    return Views(degraded, embed(batch.hits), embed(degraded.smeared), embed(degraded.hits))


def _target(views: Views, options: StepOptions) -> Array:
    return views.pattern if options.target == "pattern" else views.signal


def model_input(image: Array, settings: StepSettings, options: StepOptions) -> Array:
    """An image in time bins as the model takes it."""
    normalise = normalisation_by_name(options.normalisation).normalise
    return normalise(image, threshold=settings.threshold, n_t=options.shape_xyt[2])


def _loss(settings: StepSettings, options: StepOptions, *, evaluation: bool) -> Callable[..., Array]:
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
    return partial(loss.function, **dict(choices), **weights, **threshold)


def train_step(
    state: TrainState,
    batch: Batch,
    settings: StepSettings,
    *,
    model: Model,
    optimiser: optax.GradientTransformation,
    options: StepOptions,
) -> tuple[TrainState, TrainMetrics]:
    """Degrade, predict, follow the gradient. The draw is a function of root key, epoch, step and place in the batch."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, batch.epoch), batch.step)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch.hits.shape[0]))
    views = _views(keys, batch, settings, options)
    x = model_input(views.input, settings, options)
    target = model_input(_target(views, options), settings, options)
    loss_function = _loss(settings, options, evaluation=False)

    def objective(params: Any) -> tuple[Array, Any]:
        output, batch_stats = model.apply_train({"params": params, "batch_stats": state.batch_stats}, x)
        loss = loss_function(output, target)
        return (loss * state.scale.value if options.scale_loss else loss), (loss, batch_stats)

    (_, (loss, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    gradients = _all_wide(gradients)
    if options.scale_loss:
        gradients = jax.tree.map(lambda g: g / state.scale.value, gradients)
    direction, opt_state = optimiser.update(gradients, state.opt_state, _all_wide(state.params))
    updates = jax.tree.map(lambda u: -settings.learning_rate * u, direction)
    params, residual = precision.apply_compensated(state.params, updates, state.residual)
    changes = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state, "residual": residual}
    scale, skipped = state.scale, jnp.zeros((), bool)
    if options.scale_loss:
        skipped = ~precision.all_finite((loss, gradients))
        changes = {
            name: jax.tree.map(lambda old, new: jnp.where(skipped, old, new), getattr(state, name), change)
            for name, change in changes.items()
        }
        updates = jax.tree.map(lambda u: jnp.where(skipped, 0, u), updates)
        scale = precision.next_scale(scale, ~skipped, growth_steps=settings.scale_growth_steps)
    norm = optax.tree.norm
    metrics = TrainMetrics(
        loss=loss,
        gradient_norm=norm(gradients),
        parameter_norm=norm(_all_wide(changes["params"])),
        update_norm=norm(updates),
        skipped=skipped,
        loss_scale=state.scale.value,
        stuck=scale.stuck,
    )
    return state.replace(step=state.step + 1, scale=scale, **changes), metrics


def _all_wide(tree: Any) -> Any:
    return jax.tree.map(precision.wide, tree)


def _read_output(
    image: Array, event_hits: Array, output: Array, settings: StepSettings, options: StepOptions
) -> tuple[Array, Array, Array, Array]:
    """Direct output, masked output, and per hit its score and whether it is kept."""
    normalisation = normalisation_by_name(options.normalisation)
    if normalisation.has_time:
        direct = normalisation.renormalise(output, threshold=settings.threshold, n_t=options.shape_xyt[2])
        masked = hits.mask(image, direct, tof_tolerance=settings.tof_tolerance_bins)
    else:
        direct = normalisation.is_lit(output, threshold=settings.threshold).astype(jnp.float32)
        masked = hits.mask(image, direct)
    visible = hits.is_visible(event_hits, image)
    score = jnp.where(visible, hits.at_hits(output, event_hits), 0).astype(jnp.float32)
    return direct, masked, score, visible & (hits.at_hits(masked, event_hits) > 0)


def eval_step(
    variables: Variables, batch: Batch, key: Array, settings: StepSettings, *, model: Model, options: StepOptions
) -> Evaluated:
    """Degrade, predict, compare. An event's draw depends on `key` and the event's number alone.

    So the result does not depend on the batch size, or on what else is evaluated.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.event)
    views = _views(keys, batch, settings, options)
    output = model.apply(variables, model_input(views.input, settings, options))
    target = _target(views, options)
    normalised_target = model_input(target, settings, options)
    loss = _loss(settings, options, evaluation=True)(output, normalised_target, reduce="event")
    event_hits, is_signal = views.degraded.hits, views.degraded.is_signal
    direct, masked, score, kept = _read_output(views.input, event_hits, output, settings, options)
    visible = hits.is_visible(event_hits, views.input)
    filled, is_event, n_t = hits.is_hit(event_hits), batch.is_event, options.shape_xyt[2]
    noise_pixels = (views.input > 0) & (views.input != views.signal)

    shown = views.input, direct, masked
    images = _compared(shown, views, target, n_t=n_t, tolerance_bins=settings.tolerance_bins)
    confusions = {
        "input": metrics.hit_confusion_of_each(visible, is_signal, filled),
        "direct": metrics.pixel_confusion_of_each(direct > 0, target > 0, noise_pixels),
        "masked": metrics.hit_confusion_of_each(kept, is_signal, filled),
    }
    of_each = metrics.Metrics(
        events=_event_counts(views, visible, batch.n_dropped),
        loss=loss,
        outputs=None,
        **{name: metrics.OutputMetrics(confusions[name], image.sums) for name, image in images.items()},
    )
    sums = metrics.whole(
        of_each,
        is_event,
        outputs=metrics.output_sums(output, direct > 0, is_event),
        cells={name: image.cells for name, image in images.items()},
        n_pixels=target.shape[1] * target.shape[2],
    )
    return Evaluated(sums, of_each, views, output, direct, score, kept)


def _compared(
    shown: tuple[Array, Array, Array], views: Views, target: Array, *, n_t: int, tolerance_bins: Array | float
) -> dict[str, metrics.EachImage]:
    """Input, direct and masked output compared with their targets."""
    event_hits, (image, direct, masked) = views.degraded.hits, shown
    one = hits.is_one_at_pixel(event_hits, views.input)
    ranges = {"n_t": n_t, "tolerance_bins": tolerance_bins}

    def of_hits(image: Array) -> metrics.EachImage:
        # an output that keeps some of the input's hits lights no other pixels, nor does the signal
        y, t = (hits.at_hits(picture, event_hits) for picture in (image, views.signal))
        return metrics.pixels_of_each(y, t, counts=one, n_pixels=image.shape[1] * image.shape[2], **ranges)

    of_masked = of_hits(masked)
    ssim = metrics.ssim_of_each(masked, views.signal, n_t=n_t)
    return {
        "input": of_hits(image),
        "direct": metrics.images_of_each(direct, target, **ranges),
        "masked": of_masked._replace(sums=of_masked.sums._replace(ssim=ssim)),
    }


def _event_counts(views: Views, visible: Array, n_dropped: Array) -> metrics.EventCounts:
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


class Denoised(NamedTuple):
    """Per hit of measured events."""

    score: Float[Array, "batch k"]
    """the network's output at the hit's pixel; 0 where the hit is occluded"""
    kept: Bool[Array, "batch k"]
    visible: Bool[Array, "batch k"]
    """False where a later hit on the same pixel occludes it; then it cannot be kept"""


def denoise_step(
    variables: Variables,
    event_hits: Int[Array, "batch k 3"],
    settings: StepSettings,
    *,
    model: Model,
    options: StepOptions,
) -> Denoised:
    """Score measured hits and decide which to keep."""
    n_x, n_y, _ = options.shape_xyt
    image = hits.embed(event_hits, n_x=n_x, n_y=n_y)
    output = model.apply(variables, model_input(image, settings, options))
    _, _, score, kept = _read_output(image, event_hits, output, settings, options)
    return Denoised(score, kept, hits.is_visible(event_hits, image))
