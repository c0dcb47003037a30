"""What goes into a step and comes out of it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tofae_jax import metrics
from tofae_jax.core import degradation

Target = Literal["pattern", "signal"]


class StepSettings(NamedTuple):
    """Numbers of a step, all traced: a schedule may change them without recompiling."""

    degradation: degradation.DegradationSettings = degradation.DegradationSettings()
    threshold: Any = 0.5
    """of the normalisation"""
    score_threshold: Any = 0.5
    """of the mask: hits of a higher score are kept"""
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
    reads: Literal["image", "hits"] = "image"
    """what training and masks read of the model's output: its image, or its logits of hits"""
    scale_loss: bool = False
    """dynamic loss scaling, for float16"""


class DegradedBatch(NamedTuple):
    """One batch at every stage; images are in time bins."""

    degraded: degradation.Degraded
    pattern: Float[Array, "batch y x"]
    signal: Float[Array, "batch y x"]
    """kept and smeared signal without noise"""
    input: Float[Array, "batch y x"]


class EvalOutput(NamedTuple):
    """What an evaluation knows of one batch. What its caller drops inside its own `jit` is not computed."""

    metrics: metrics.Metrics
    per_event: metrics.Metrics
    """of single events, filling included"""
    views: DegradedBatch
    output: Float[Array, "batch ..."]
    """of the network, before renormalisation: of pixels, or, where hits are read, the chance of each to be signal"""
    direct: Float[Array, "batch y x"]
    """direct output in time bins, or 1 where lit if the normalisation has no time; where hits are read, what is kept"""
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
