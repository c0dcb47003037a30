"""Static options of the steps: what is computed, checked to fit together."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.degradation import OVERFLOWS, SELECTIONS
from tofae_jax.core.normalisation import normalisation_by_name
from tofae_jax.core.static_checks import static_number
from tofae_jax.losses import LOSSES, Loss, loss_by_name
from tofae_jax.models import Model
from tofae_jax.steps.types import StepLoss, StepOptions, StepSettings, Target


def step_options(
    model: Model,
    loss: str | Loss | StepLoss | Callable[..., Any],
    *,
    max_signal: int,
    max_noise: int,
    evaluation_loss: str | Loss | StepLoss | Callable[..., Any] | None = None,
    takes: Literal["image", "hits"] | None = None,
    normalisation: str = "gapped",
    overflow: str = "drop",
    selection: str = "random",
    target: Target | None = None,
) -> StepOptions:
    """Choose what the steps compute: model, loss and degradation, checked to fit each other.

    Args:
        model: the model of the steps.
        loss: name of a loss (`LOSSES`), or any function: of images `(prediction, target)`, both normalised
            float[batch, y, x]; of hits `(logits, is_signal, is_hit)`, each [batch, k]. It returns one number, or one
            per event; a keyword `reduce` is given `"batch"` or `"event"` if the function has it. Static settings of a
            loss are bound by `functools.partial`, e.g. `partial(split, zero_loss="mae")`.
        max_signal: slots for signal hits per event; the largest `n_signal` that the settings will have.
        max_noise: slots for noise hits, likewise.
        evaluation_loss: loss of `eval_step`, like `loss`; None: the training loss.
        takes: what a function compares, `image` or `hits`; None: what a named loss says itself, of other functions hits
            where the model has no other output.
        normalisation: of images, see `NORMALISATIONS`.
        overflow: what happens to hits smeared out of the detector, `drop` or `clamp`.
        selection: which signal hits are kept, `random` or `even`.
        target: image to compare with, the full `pattern` or the degraded `signal`; None: the pattern, or the signal for
            losses of hits.

    Returns:
        Options for `train_step`, `eval_step`, `denoise_step` and `evaluate`.

    Raises:
        ValueError: an unknown name; a number of slots below 0; a loss that the model's outputs or the normalisation do
            not fit; a normalisation whose values the model's outputs cannot reach.
    """
    of_hits = takes or ("image" if "image" in model.outputs else "hits")
    training = as_step_loss(loss, takes=of_hits)
    if takes is not None and training.takes != takes:
        raise ValueError(f"takes is {takes}, but this loss says itself that it takes {training.takes}")
    options = StepOptions(
        shape_xyt=model.shape_xyt,
        max_signal=max_signal,
        max_noise=max_noise,
        loss=training,
        evaluation_loss=training if evaluation_loss is None else as_step_loss(evaluation_loss, takes=training.takes),
        normalisation=normalisation_by_name(normalisation),
        overflow=overflow,
        selection=selection,
        target=target or ("signal" if training.takes == "hits" else "pattern"),
    )
    _check_choices(options)
    check_fit(model, options)
    _check_reach(model, options)
    return options


def _check_choices(options: StepOptions) -> None:
    for name in ("max_signal", "max_noise"):
        if getattr(options, name) < 0:
            raise ValueError(f"{name} must be at least 0, got {getattr(options, name)}")
    for name, known in (("overflow", OVERFLOWS), ("selection", SELECTIONS), ("target", get_args(Target))):
        if getattr(options, name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(options, name)!r}")


def as_step_loss(
    loss: str | Loss | StepLoss | Callable[..., Any], *, takes: Literal["image", "hits"] = "image"
) -> StepLoss:
    """Prepare a loss for the steps.

    Args:
        loss: a name, a declaration, or a function as `step_options` takes it.
        takes: what a function compares; names and declarations say it themselves.
    """
    if isinstance(loss, StepLoss):
        return loss
    if isinstance(loss, str):
        loss = loss_by_name(loss)
    loss = next((known for known in LOSSES.values() if known.function is loss), loss)
    if isinstance(loss, Loss):
        return StepLoss(
            reducible(loss.function), loss.takes, loss.reads_time, needs_unit_targets=loss.needs_unit_targets
        )
    if not callable(loss):
        raise ValueError(f"loss must be a name or a function, got {loss!r}")
    return StepLoss(reducible(loss), takes)


def reducible(function: Callable[..., Any]) -> Callable[..., Array]:
    """Give a loss function the keyword `reduce`, if it has none.

    For `"batch"` the result is the mean of what the function returns, for `"event"` that of each event by itself.
    """
    if "reduce" in inspect.signature(function).parameters:
        return function

    @wraps(function)
    def reduced(*arrays: Array, reduce: str = "batch", **settings: Any) -> Array:
        def mean_of(*events: Array) -> Array:
            value = jnp.asarray(function(*events, **settings))
            if value.ndim and value.shape != (len(events[0]),):
                raise ValueError(
                    f"loss {getattr(function, '__name__', function)}: gives shape {list(value.shape)}, expected one "
                    "number, or one per event"
                )
            return jnp.mean(value)

        if reduce == "batch":
            return mean_of(*arrays)
        return jax.vmap(lambda *event: mean_of(*(array[None] for array in event)))(*arrays)

    return reduced


def check_fit(model: Model, options: StepOptions) -> None:
    """Check that losses, normalisation and detector fit the model; it costs nothing in a compiled step.

    Raises:
        ValueError: they do not; the message says what fits.
    """
    for loss in (options.loss, options.evaluation_loss):
        if loss.takes not in model.outputs:
            raise ValueError(
                f"loss {getattr(loss.function, '__name__', loss.function)} takes {loss.takes}, but model {model.name} "
                f"gives {' and '.join(model.outputs)}; another loss, or takes={' or '.join(map(repr, model.outputs))}"
            )
        if loss.reads_time and options.normalisation is not normalisation_by_name("gapped"):
            raise ValueError("a loss that reads times needs normalisation 'gapped'")
        if loss.needs_unit_targets and options.normalisation is normalisation_by_name("none"):
            name = getattr(loss.function, "__name__", loss.function)
            raise ValueError(f"loss {name} needs targets in [0, 1], which normalisation 'none' does not give")
    if model.kind.needs_normalised_images and options.normalisation is normalisation_by_name("none"):
        raise ValueError(f"model {model.name} needs normalised images, which normalisation 'none' does not give")
    if model.shape_xyt != options.shape_xyt:
        raise ValueError(f"model {model.name} is of shape {model.shape_xyt}, but the options of {options.shape_xyt}")


def _check_reach(model: Model, options: StepOptions) -> None:
    """Refuse time bins as targets of outputs in [0, 1]; not in `check_fit`, as models trained so can still be used."""
    is_unscaled = options.normalisation is normalisation_by_name("none") and options.shape_xyt[2] > 1
    takes = {loss.takes for loss in (options.loss, options.evaluation_loss)}
    if is_unscaled and model.kind.bounded_images and "image" in takes:
        raise ValueError(
            f"the outputs of model {model.name} lie in [0, 1] and cannot reach the targets of normalisation 'none', "
            f"time bins up to {options.shape_xyt[2]}; choose gapped or binary"
        )


def check_slots(settings: StepSettings, options: StepOptions) -> None:
    """Check that the options have slots for the hits that the settings ask for, as far as these are known now.

    Raises:
        ValueError: they have fewer; the surplus would be cut without a word.
    """
    degradation = settings.degradation
    for name, (_, high), slots in (
        ("n_signal", degradation.n_signal, options.max_signal),
        ("n_noise", degradation.n_noise, options.max_noise),
    ):
        most = static_number(high)
        if most is not None and most > slots:
            kind = name.removeprefix("n_")
            raise ValueError(f"settings.degradation.{name} is up to {most:g}, but options.max_{kind} is {slots}")
