"""One step of training, evaluation and denoising: pure functions of arrays, compiled once.

A batch holds hit lists; degradation, images, network, loss and metrics all run on the device inside the step.
"""

from tofae_jax.steps.evaluating import denoise_step, eval_step
from tofae_jax.steps.parts import Batch, Denoised, Evaluated, StepOptions, StepSettings, Target, TrainMetrics, Views
from tofae_jax.steps.training import train_step
from tofae_jax.steps.views import model_input, normalised

__all__ = [
    "Batch",
    "Denoised",
    "Evaluated",
    "StepOptions",
    "StepSettings",
    "Target",
    "TrainMetrics",
    "Views",
    "denoise_step",
    "eval_step",
    "model_input",
    "normalised",
    "train_step",
]
