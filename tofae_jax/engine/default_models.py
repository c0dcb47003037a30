"""Build a model with the default sizes of its settings."""

from __future__ import annotations

from typing import Any

from tofae_jax import models
from tofae_jax.config import ModelConfig, selected_settings
from tofae_jax.config.plugins import REQUIRED, registered


def build_model(name: str, *, shape_xyt: tuple[int, int, int], **options: Any) -> models.Model:
    """Build the model called `name` for a detector of this shape; sizes that are not given are the defaults.

    This is the public `tofae_jax.build_model`. It adds the defaults of `config.ModelConfig` to
    `tofae_jax.models.build_model`, which has none: pure code that must know its sizes calls that one.

    Args:
        name: a key of `MODELS`.
        shape_xyt: columns, rows and time bins of the detector.
        options: `policy`, `matmul`, `bin_ns` and `module` of `models.build_model`, and sizes of the model by name.

    Returns:
        The model: `init(key)` draws its variables, `apply(variables, x)` computes its `Output`.

    Raises:
        ValueError: an unknown name or size, with those that are known; an LHCb TORCH model without `bin_ns` or
            `module`.
    """
    entry = registered("model", name)
    if entry is not None:
        defaults = {size: value for size, value in entry.settings.items() if value is not REQUIRED}
    else:
        defaults = selected_settings(ModelConfig(name=name)) if name in models.MODELS else {}
    return models.build_model(name, shape_xyt=shape_xyt, **{**defaults, **options})
