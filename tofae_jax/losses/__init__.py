"""Losses by name, one registry.

`y` prediction, `t` target (normalised images), zero pixels Z = {t = 0}, hit pixels H = {t != 0}. The mean over an
empty set is 0 and its gradient is exactly 0 (the naive mean is 0/0: NaN, and NaN in every gradient). Sums are
accumulated in at least float32, whatever the precision of the images.

Every loss reduces either over the whole batch (`reduce="batch"`, a scalar; class means run over all pixels of all
events) or event by event (`reduce="event"`, one value per event). Numbers may be traced; choices are static.
"""

from __future__ import annotations

from tofae_jax.losses.hits import hit_bce, hit_focal
from tofae_jax.losses.images import (
    PIXEL_LOSSES,
    acb_mse,
    acb_mse_mean,
    bce,
    binary_mse,
    class_mse,
    ff_acb_mse,
    mae,
    mse,
    split,
    sse,
)
from tofae_jax.losses.projections import acb_mse_3d
from tofae_jax.losses.reductions import REDUCTIONS
from tofae_jax.losses.registry import LOSSES, Loss, loss_by_name

__all__ = [
    "LOSSES",
    "PIXEL_LOSSES",
    "REDUCTIONS",
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
]
