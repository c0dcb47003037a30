"""What models take and give."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.detector import TRACK_COLUMNS

MOMENTUM = TRACK_COLUMNS.index("momentum_gev")


class HitInput(NamedTuple):
    """Events as hit lists, for models that take hits."""

    hits: Any
    """int[batch, k, 3]: x, y, t as they are stored, t = 0 in empty slots, which may stand anywhere"""
    tracks: Any = None
    """float32[batch, n, 6] of `TRACK_COLUMNS`, for models that are given tracks; empty slots have momentum 0"""
    truth: Any = None
    """float32[batch, n, 8] of `TRACK_COLUMNS` and `TRUTH_COLUMNS`, in training, for models that learn to find tracks"""


class Output(NamedTuple):
    """What a model gives of a batch; what it does not give is None."""

    image: Array | None = None
    """float[batch, y, x]: normalised image in [0, 1]"""
    pixel_logits: Array | None = None
    """float[batch, y, x]: logit of the chance that the hit in a lit pixel is signal"""
    hit_logits: Array | None = None
    """float[batch, k]: the same of each hit; whatever stands in empty slots is finite and means nothing"""
    tracks: Array | None = None
    """int32[batch, k]: the track that each hit most likely belongs to, for models that are given tracks"""
    extra_loss: Array | None = None
    """float[batch], in training: what a model has to learn besides the loss, already weighed, to be added to it"""


def as_output(given: Any) -> Output:
    """What a module returns: an `Output`, or the image alone."""
    return given if isinstance(given, Output) else Output(image=given)


def empty_input(takes: str, shape_xyt: tuple[int, int, int]) -> Any:
    """An input of one event for `init`."""
    if takes == "image":
        return jnp.zeros((1, shape_xyt[1], shape_xyt[0]), jnp.float32)
    return HitInput(
        jnp.zeros((1, 2, 3), jnp.int32),
        jnp.zeros((1, 1, len(TRACK_COLUMNS)), jnp.float32) if takes == "hits and tracks" else None,
    )
