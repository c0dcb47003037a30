"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from jaxtyping import Array

from tofae_jax.losses.hits import hit_bce, hit_focal
from tofae_jax.losses.images import (
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


class Loss(NamedTuple):
    """A registered loss."""

    function: Callable[..., Array]
    """of an image: `(prediction, target, *, reduce, **settings)`; of hits: `(scores, is_signal, is_hit, *, ...)`"""
    weights: tuple[str, ...] = ()
    """names of its settings that are numbers, which may be traced"""
    choices: tuple[str, ...] = ()
    """names of its settings that are static"""
    takes: Literal["image", "hits"] = "image"
    """what the model must give"""
    reads_time: bool = False
    """whether it reads times off `gapped` images, whose `threshold` it then must be given"""


_BALANCE = ("zero_weight", "hit_weight")
_CLASSES = ("true_negative_weight", "true_positive_weight", "false_negative_weight", "false_positive_weight")

LOSSES: dict[str, Loss] = {
    "acb_mse": Loss(acb_mse, _BALANCE),
    "mse": Loss(mse),
    "mae": Loss(mae),
    "bce": Loss(bce, ("epsilon",)),
    "sse": Loss(sse),
    "acb_mse_mean": Loss(acb_mse_mean, _BALANCE),
    "ff_acb_mse": Loss(ff_acb_mse, (*_BALANCE, "full_weight")),
    "split": Loss(split, _BALANCE, choices=("zero_loss", "hit_loss")),
    "binary_mse": Loss(binary_mse),
    "class_mse": Loss(class_mse, (*_CLASSES, "full_weight")),
    "acb_mse_3d": Loss(acb_mse_3d, _BALANCE, choices=("n_time_bins",), reads_time=True),
    "hit_bce": Loss(hit_bce, ("signal_weight", "noise_weight"), takes="hits"),
    "hit_focal": Loss(hit_focal, ("alpha", "gamma"), takes="hits"),
}


def loss_by_name(name: str, *, gives: Sequence[str] | None = None) -> Loss:
    """The loss called `name`; an unknown name lists the known ones.

    `gives` is what the model gives (`image`, `hits`): a loss that takes something else is refused with a ValueError
    that lists those that fit.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is not known; known: {', '.join(LOSSES)}")
    loss = LOSSES[name]
    if gives is not None and loss.takes not in gives:
        fitting = ", ".join(known for known, other in LOSSES.items() if other.takes in gives)
        given = " and ".join(gives)
        raise ValueError(f"loss {name!r} takes {loss.takes}, but the model gives {given}; losses that fit: {fitting}")
    return loss
