"""One step of training, evaluation and denoising: pure functions of arrays, compiled once.

A batch holds hit lists; degradation, images, network, loss and metrics all run on the device inside the step.
"""

from tofae_jax.core.batch import Batch
from tofae_jax.steps.evaluate import denoise_step, eval_step
from tofae_jax.steps.inputs import model_input, normalised
from tofae_jax.steps.train import train_step
from tofae_jax.steps.types import (
    DegradedBatch,
    DenoiseOutput,
    EvalOutput,
    StepLoss,
    StepOptions,
    StepSettings,
    Target,
    TrainMetrics,
)

__all__ = [
    "Batch",
    "DegradedBatch",
    "DenoiseOutput",
    "EvalOutput",
    "StepLoss",
    "StepOptions",
    "StepSettings",
    "Target",
    "TrainMetrics",
    "denoise_step",
    "eval_step",
    "model_input",
    "normalised",
    "train_step",
]
