"""Models by name.

A model is two pure functions over nested dicts of arrays, `init` and `apply`, and a declaration of its inputs and
outputs, so that the same steps, metrics, plots and commands serve every model.
"""

from __future__ import annotations

from tofae_jax.core.detector import TRACK_COLUMNS, TRUTH_COLUMNS
from tofae_jax.models.interface import HitInput, Output, as_output
from tofae_jax.models.model import Model, ModelKind, Variables, model_from_module
from tofae_jax.models.registry import MODELS, build_model

__all__ = [
    "MODELS",
    "TRACK_COLUMNS",
    "TRUTH_COLUMNS",
    "HitInput",
    "Model",
    "ModelKind",
    "Output",
    "Variables",
    "as_output",
    "build_model",
    "model_from_module",
]
