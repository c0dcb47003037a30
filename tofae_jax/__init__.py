"""tofae_jax: denoise sparse time-of-flight detector events with JAX and Flax.

The public functions are imported from here on first use, so that `import tofae_jax` alone loads no array library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    # events, stage by stage
    "tofae_jax.core.detector": ("Detector",),
    "tofae_jax.core.batch": ("Batch",),
    "tofae_jax.core.degradation": ("Degraded", "DegradationSettings", "degrade", "smear", "sparsify"),
    "tofae_jax.core.noise": ("NOISE_PROFILES", "NoiseSettings", "add_noise"),
    "tofae_jax.core.hits": (
        "at_hits",
        "count_hits",
        "count_occluded",
        "embed",
        "is_hit",
        "is_visible",
        "mask",
        "reconstruct_3d",
        "reconstruct_3d_numpy",
    ),
    "tofae_jax.core.normalisation": (
        "NORMALISATIONS",
        "Normalisation",
        "normalisation_by_name",
        "normalise",
        "renormalise",
    ),
    "tofae_jax.core.precision": ("POLICIES", "Policy", "policy_by_name"),
    # losses, metrics, models
    "tofae_jax.losses": (
        "LOSSES",
        "Loss",
        "acb_mse",
        "acb_mse_3d",
        "acb_mse_mean",
        "bce",
        "binary_mse",
        "class_mse",
        "ff_acb_mse",
        "hit_bce",
        "hit_focal",
        "loss_by_name",
        "mae",
        "mse",
        "split",
        "sse",
    ),
    "tofae_jax.metrics": ("Metrics", "hit_confusion", "pixel_confusion", "ssim"),
    "tofae_jax.models": ("MODELS", "HitInput", "Model", "Output", "model_from_module"),
    "tofae_jax.engine.default_models": ("build_model",),
    "tofae_jax.engine.plugins": ("register_loss", "register_model"),
    # steps
    "tofae_jax.steps": (
        "DegradedBatch",
        "DenoiseOutput",
        "EvalOutput",
        "StepLoss",
        "StepOptions",
        "StepSettings",
        "TrainMetrics",
        "TrainState",
        "build_optimiser",
        "create_train_state",
        "denoise_step",
        "eval_step",
        "step_options",
        "train_step",
        "with_learning_rate",
    ),
    # data
    "tofae_jax.data.events": ("DataError", "Events"),
    "tofae_jax.data.dataset": ("Dataset",),
    "tofae_jax.data.dataset_writer": ("DatasetWriter",),
    "tofae_jax.data.files.read": ("read_events",),
    "tofae_jax.data.batches": ("EvaluationSource", "Splits", "TrackSlots", "TrainSource", "batches", "split_events"),
    "tofae_jax.data.simulated.mixtures": ("simulate_patterns",),
    "tofae_jax.data.simulated.stream": ("SimulatedEvents", "pattern_stream"),
    "tofae_jax.data.simulated.lhcb_torch": ("ModuleEvents", "module_stream"),
    # whole evaluations, files, runs
    "tofae_jax.engine.checkpoint_format": ("CheckpointError", "CheckpointMeta"),
    "tofae_jax.engine.checkpoints": ("Checkpoints", "SaveError"),
    "tofae_jax.engine.denoiser": ("Denoiser",),
    "tofae_jax.engine.denoise": ("DenoiseCounts", "DenoiseReport", "denoise", "denoise_run"),
    "tofae_jax.engine.evaluate": ("evaluate", "evaluate_run"),
    "tofae_jax.engine.evaluator": ("evaluation_key",),
    "tofae_jax.engine.load": ("LoadedRun", "load_run"),
    "tofae_jax.engine.process": ("keep_freed_memory",),
}
"""public names by the module they come from, in the order of docs/functional_api.md"""
_MODULES = ("losses", "metrics", "models", "plots", "lhcb_torch", "config")
"""public modules"""
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
