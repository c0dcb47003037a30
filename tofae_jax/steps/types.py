"""Inputs, static options and outputs of the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tofae_jax import metrics
from tofae_jax.core import degradation
from tofae_jax.core.normalisation import NORMALISATIONS, Normalisation, check_threshold
from tofae_jax.core.static_checks import CheckedFields, check_at_least, static_number

Target = Literal["pattern", "signal"]


class _StepNumbers(NamedTuple):
    degradation: degradation.DegradationSettings = degradation.DegradationSettings()
    """numbers of the degradation"""
    threshold: Any = 0.5
    """threshold of the normalisation, from 0 to below 1"""
    score_threshold: Any = None
    """threshold of the mask: hits of a higher score are kept; None: 0.5 for scores of hits, else where an image shows a
    hit"""
    tof_tolerance_bins: Any = jnp.inf
    """tolerance of the mask [time bins]: largest difference of a kept hit's ToF from the direct output; infinite: any
    time"""
    loss_weights: dict[str, Any] = {}
    """numbers of the training loss, by name"""
    evaluation_loss_weights: dict[str, Any] | None = None
    """numbers of the evaluation loss by name; None: those of the training loss, if it is the same one"""
    learning_rate: Any = None
    """step size, for optimisers of `with_learning_rate`; None for all others, which have their own"""
    tolerance_bins: Any = 10.0
    """largest error of a time that the metrics count as near [time bins]"""
    scale_growth_steps: Any = 1000
    """good steps in a row after which the loss scale is doubled"""


class StepSettings(CheckedFields, _StepNumbers):
    """Numbers of a step, all traced: a schedule may change them without recompiling. Those known now are checked.

    Raises:
        ValueError: a threshold of the normalisation outside [0, 1); a negative tolerance or learning rate; fewer than
            one good step before the loss scale grows; a number of a loss that is not finite.
    """

    __slots__ = ()

    def check(self) -> None:
        """Raise ValueError for a number that is not allowed."""
        check_threshold(static_number(self.threshold) or 0.0)
        tolerance = static_number(self.tof_tolerance_bins)
        if tolerance is not None and not tolerance >= 0:
            raise ValueError(f"tof_tolerance_bins must be at least 0, got {self.tof_tolerance_bins}")
        check_at_least("learning_rate", self.learning_rate)
        check_at_least("tolerance_bins", self.tolerance_bins)
        check_at_least("scale_growth_steps", self.scale_growth_steps, 1)
        for numbers in (self.loss_weights, self.evaluation_loss_weights):
            for name, number in numbers.items() if isinstance(numbers, dict) else ():
                if not math.isfinite(static_number(number) or 0.0):
                    raise ValueError(f"{name} must be a finite number, got {number}")


def typed(settings: StepSettings) -> StepSettings:
    """Give plain numbers int32 or float32, so that a step computes the same whether they are arrays or not.

    Numbers that have a type keep it.
    """

    def of_number(number: Any) -> Any:
        if not isinstance(number, int | float) and not getattr(number, "weak_type", False):
            return number
        return jnp.asarray(number, jnp.int32 if jnp.issubdtype(jnp.result_type(number), jnp.integer) else jnp.float32)

    return jax.tree.map(of_number, settings)


class StepLoss(NamedTuple):
    """A loss function with its static settings, ready for a step."""

    function: Callable[..., Array]
    """as `losses.Loss.function`; its numbers come from `StepSettings`"""
    takes: Literal["image", "hits"]
    """output of the model that it compares"""
    reads_time: bool = False
    """whether it is given the threshold of the normalisation"""
    choices: tuple[tuple[str, Any], ...] = ()
    """static settings, by name"""
    needs_unit_targets: bool = False
    """whether its targets must lie in [0, 1]"""


class StepOptions(NamedTuple):
    """Static options of a step: what is compiled depends on them."""

    shape_xyt: tuple[int, int, int]
    """pixel columns, pixel rows, time bins"""
    max_signal: int
    """slots for signal hits of an event"""
    max_noise: int
    """slots for noise hits of an event"""
    loss: StepLoss
    """training loss; the mask decodes the output that it compares"""
    evaluation_loss: StepLoss
    """loss of `eval_step`"""
    normalisation: Normalisation = NORMALISATIONS["gapped"]
    """normalisation of images"""
    overflow: str = "drop"
    """what happens to hits smeared out of the detector, `drop` or `clamp`"""
    selection: str = "random"
    """which signal hits are kept, `random` or `even`"""
    target: Target = "pattern"
    """image to compare with: the full `pattern`, or the degraded `signal`"""

    @property
    def scores_hits(self) -> bool:
        """Whether the model's output is read as logits of hits, not as an image."""
        return self.loss.takes == "hits"


class DegradedBatch(NamedTuple):
    """A batch at every stage of the degradation; images float[batch, y, x] are in time bins, 0 where no hit is."""

    events: degradation.Degraded
    """hits of the degraded events and their truth"""
    pattern: Float[Array, "batch y x"]
    """hits of the patterns"""
    signal: Float[Array, "batch y x"]
    """kept and smeared signal without noise"""
    input: Float[Array, "batch y x"]
    """signal and noise: what the model is given"""


class EvalOutput(NamedTuple):
    """Result of `eval_step`. XLA drops the fields that the caller's jitted function does not return."""

    metrics: metrics.Metrics
    """sums of the batch"""
    per_event: metrics.Metrics
    """metrics per event, padding included"""
    degraded: DegradedBatch
    """the events that were drawn"""
    output: Float[Array, "batch ..."]
    """network output before renormalisation: per pixel, or the signal probability of each hit"""
    direct: Float[Array, "batch y x"]
    """direct output in time bins, or 1 where lit if the normalisation has no time; for hit scores the kept hits"""
    score: Float[Array, "batch k"]
    """score of each hit of the degraded events, 0 of hits that the model was not shown"""
    kept: Bool[Array, "batch k"]
    """which of them the masked output keeps"""


class TrainMetrics(NamedTuple):
    """Metrics of one training step, scalars; the norms are L2 norms over all parameters, in at least float32."""

    loss: Array
    """value of the training loss, not scaled"""
    gradient_norm: Array
    """norm of the gradient of the loss itself, whatever the loss scale"""
    parameter_norm: Array
    """norm of the new parameters"""
    update_norm: Array
    """norm of the update; 0 if skipped"""
    skipped: Array
    """whether gradients overflowed, so that nothing was changed"""
    loss_scale: Array
    """loss scale of this step"""
    stuck: Array
    """steps skipped in a row at the smallest loss scale"""


class DenoiseOutput(NamedTuple):
    """Result of `denoise_step`, per hit of measured events."""

    score: Float[Array, "batch k"]
    """probability to be signal, or the network's output at the hit's pixel; 0 of a hit that is not visible"""
    kept: Bool[Array, "batch k"]
    """which hits are kept"""
    visible: Bool[Array, "batch k"]
    """False where the model takes images and a later hit on the same pixel occludes it; then it cannot be kept"""
    track: Int[Array, "batch k"] | None = None
    """the track that the hit most likely belongs to; None for models that are not given tracks"""
    direct: Float[Array, "batch y x"] | None = None
    """direct output in time bins, or 1 where lit if the normalisation has no time; None where only hits are scored"""
