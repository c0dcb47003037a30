"""Losses by name: the one declaration of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
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

ClassRatios = Mapping[str, tuple[str, str]]
_NONE: ClassRatios = MappingProxyType({})


class Loss(NamedTuple):
    """A loss with its declaration: its function, its settings, and what the function needs."""

    function: Callable[..., Array]
    """of an image: `(prediction, target, *, reduce, **settings)`; of hits: `(scores, is_signal, is_hit, *, ...)`"""
    weights: tuple[str, ...] = ()
    """names of its settings that are numbers, which may be traced"""
    choices: tuple[str, ...] = ()
    """names of its settings that are static"""
    takes: Literal["image", "hits"] = "image"
    """output of the model that it compares"""
    reads_time: bool = False
    """whether it reads times off `gapped` images, whose `threshold` it then must be given"""
    auto: ClassRatios = _NONE
    """weights that may be `auto`: the size of the first class per size of the second, of `zero` and `hit` pixels or
    `signal` and `noise` hits; the second is the class that the weight belongs to"""
    needs_unit_targets: bool = False
    """whether its targets must lie in [0, 1]"""


_PIXELS: ClassRatios = {"zero_weight": ("hit", "zero"), "hit_weight": ("zero", "hit")}
_OUTCOMES: ClassRatios = {
    "true_negative_weight": ("hit", "zero"),
    "true_positive_weight": ("zero", "hit"),
    "false_negative_weight": ("zero", "hit"),
    "false_positive_weight": ("hit", "zero"),
}
_HITS: ClassRatios = {"signal_weight": ("noise", "signal"), "noise_weight": ("signal", "noise")}

LOSSES: dict[str, Loss] = {
    "acb_mse": Loss(acb_mse, (*_PIXELS,), auto=_PIXELS),
    "mse": Loss(mse),
    "mae": Loss(mae),
    "bce": Loss(bce, ("epsilon",), needs_unit_targets=True),
    "sse": Loss(sse),
    "acb_mse_mean": Loss(acb_mse_mean, (*_PIXELS,), auto=_PIXELS),
    "ff_acb_mse": Loss(ff_acb_mse, (*_PIXELS, "full_weight"), auto=_PIXELS),
    "split": Loss(split, (*_PIXELS,), choices=("zero_loss", "hit_loss"), auto=_PIXELS),
    "binary_mse": Loss(binary_mse),
    "class_mse": Loss(class_mse, (*_OUTCOMES, "full_weight"), auto=_OUTCOMES),
    "acb_mse_3d": Loss(acb_mse_3d, (*_PIXELS,), choices=("n_time_bins",), reads_time=True, auto=_PIXELS),
    "hit_bce": Loss(hit_bce, (*_HITS,), takes="hits", auto=_HITS),
    "hit_focal": Loss(hit_focal, ("alpha", "gamma"), takes="hits"),
}


def loss_by_name(name: str, *, outputs: Sequence[str] | None = None) -> Loss:
    """Return the loss called `name`.

    Args:
        name: a key of `LOSSES`.
        outputs: outputs of the model (`image`, `hits`) that the loss must fit; None: any.

    Returns:
        The loss: its function, its settings, and what the function needs.

    Raises:
        ValueError: an unknown name, with those that are known; a loss of another output, with those that fit.
    """
    if name not in LOSSES:
        raise ValueError(f"loss {name!r} is not known; known: {', '.join(LOSSES)}")
    loss = LOSSES[name]
    if outputs is not None and loss.takes not in outputs:
        fitting = ", ".join(known for known, other in LOSSES.items() if other.takes in outputs)
        given = " and ".join(outputs)
        raise ValueError(f"loss {name!r} takes {loss.takes}, but the model gives {given}; losses that fit: {fitting}")
    return loss
