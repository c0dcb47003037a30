"""Inputs, static options and outputs of the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tofae_jax import metrics
from tofae_jax.core import degradation
from tofae_jax.core.normalisation import NORMALISATIONS, Normalisation

Target = Literal["pattern", "signal"]


class StepSettings(NamedTuple):
    """Numbers of a step, all traced: a schedule may change them without recompiling."""

    degradation: degradation.DegradationSettings = degradation.DegradationSettings()
    threshold: Any = 0.5
    """of the normalisation"""
    score_threshold: Any = None
    """of the mask: hits of a higher score are kept; None: 0.5 for scores of hits, else where an image shows a hit"""
    tof_tolerance_bins: Any = jnp.inf
    """of the mask; infinite: any time"""
    loss_weights: dict[str, Any] = {}
    """numbers of the training loss"""
    evaluation_loss_weights: dict[str, Any] = {}
    """numbers of the evaluation loss"""
    learning_rate: Any = None
    """step size, for optimisers of `with_learning_rate`; None for all others, which have their own"""
    tolerance_bins: Any = 10.0
    """largest error of a time that the metrics count as near"""
    scale_growth_steps: Any = 1000
    """good steps in a row after which the loss scale is doubled"""


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
    """what it reads of the model's output"""
    reads_time: bool = False
    """whether it is given the threshold of the normalisation"""
    choices: tuple[tuple[str, Any], ...] = ()
    """static settings, by name"""


class StepOptions(NamedTuple):
    """Static options of a step: what is compiled depends on them."""

    shape_xyt: tuple[int, int, int]
    max_signal: int
    max_noise: int
    loss: StepLoss
    """training loss; masks read of the model's output what it reads"""
    evaluation_loss: StepLoss
    normalisation: Normalisation = NORMALISATIONS["gapped"]
    overflow: str = "drop"
    selection: str = "random"
    target: Target = "pattern"

    @property
    def scores_hits(self) -> bool:
        """Whether the model's output is read as logits of hits, not as an image."""
        return self.loss.takes == "hits"


class DegradedBatch(NamedTuple):
    """A batch at every stage of the degradation; images are in time bins."""

    events: degradation.Degraded
    pattern: Float[Array, "batch y x"]
    signal: Float[Array, "batch y x"]
    """kept and smeared signal without noise"""
    input: Float[Array, "batch y x"]


class EvalOutput(NamedTuple):
    """Result of `eval_step`. XLA drops the fields that the caller's jitted function does not return."""

    metrics: metrics.Metrics
    per_event: metrics.Metrics
    """metrics per event, padding included"""
    degraded: DegradedBatch
    output: Float[Array, "batch ..."]
    """network output before renormalisation: per pixel, or the signal probability of each hit"""
    direct: Float[Array, "batch y x"]
    """direct output in time bins, or 1 where lit if the normalisation has no time; for hit scores the kept hits"""
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


class DenoiseOutput(NamedTuple):
    """Per hit of measured events."""

    score: Float[Array, "batch k"]
    """the chance to be signal, or the network's output at the hit's pixel; 0 of a hit that is not visible"""
    kept: Bool[Array, "batch k"]
    visible: Bool[Array, "batch k"]
    """False where the model takes images and a later hit on the same pixel occludes it; then it cannot be kept"""
    track: Int[Array, "batch k"] | None = None
    """the track that the hit most likely belongs to, for models that are given tracks"""
    direct: Float[Array, "batch y x"] | None = None
    """direct output in time bins, or 1 where lit if the normalisation has no time; None where only hits are scored"""
