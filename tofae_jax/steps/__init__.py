"""One step of training, evaluation and denoising: pure functions of arrays, compiled once.

A batch holds hit lists; degradation, images, network, loss and metrics all run on the device inside the step.
"""

from tofae_jax.core.batch import Batch
from tofae_jax.steps.evaluate import denoise_step, eval_step
from tofae_jax.steps.inputs import model_input, normalised
from tofae_jax.steps.optimiser import build_optimiser, with_learning_rate
from tofae_jax.steps.options import step_options
from tofae_jax.steps.state import TrainState, create_train_state
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
    "TrainState",
    "build_optimiser",
    "create_train_state",
    "denoise_step",
    "eval_step",
    "model_input",
    "normalised",
    "step_options",
    "train_step",
    "with_learning_rate",
]
