"""Inputs and outputs of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.detector import TRACK_COLUMNS

Inputs = Literal["image", "hits", "hits_and_tracks"]

MOMENTUM = TRACK_COLUMNS.index("momentum_gev")


class HitInput(NamedTuple):
    """Events as hit lists, the input of models of `hits` and `hits_and_tracks`."""

    hits: Any
    """int[batch, k, 3]: x, y, t as they are stored, t = 0 in empty slots, which may stand anywhere"""
    tracks: Any = None
    """float32[batch, n, 6] of `TRACK_COLUMNS`, for models of `hits_and_tracks`; empty slots have momentum 0"""
    truth: Any = None
    """float32[batch, n, 8] of `TRACK_COLUMNS` and `TRUTH_COLUMNS`, in training, for models that learn to find tracks"""


class Output(NamedTuple):
    """Output of a model for a batch; what the model does not output is None."""

    image: Array | None = None
    """float[batch, y, x]: normalised image in [0, 1]"""
    pixel_logits: Array | None = None
    """float[batch, y, x]: logit of the probability that the hit in a lit pixel is signal"""
    hit_logits: Array | None = None
    """float[batch, k]: the same per hit; finite, without meaning, in empty slots"""
    tracks: Array | None = None
    """int32[batch, k]: the track that each hit most likely belongs to, for models of `hits_and_tracks`"""
    extra_loss: Array | None = None
    """float[batch], in training: a weighted term of the model's own, to be added to the loss"""


def as_output(given: Any, inputs: Inputs = "image", outputs: Sequence[str] = ("image",)) -> Output:
    """Wrap the return value of a module: an `Output`, or one array, which is an image if the module outputs one.

    Args:
        given: what the module returned.
        inputs: kind of its input.
        outputs: kinds of its outputs.
    """
    if isinstance(given, Output):
        return given
    if "image" in outputs:
        return Output(image=given)
    return Output(pixel_logits=given) if inputs == "image" else Output(hit_logits=given)


def empty_input(inputs: Inputs, shape_xyt: tuple[int, int, int]) -> Any:
    """Build the input of one event without hits, for `init`."""
    if inputs == "image":
        return jnp.zeros((1, shape_xyt[1], shape_xyt[0]), jnp.float32)
    tracks = jnp.zeros((1, 1, len(TRACK_COLUMNS)), jnp.float32) if inputs == "hits_and_tracks" else None
    return HitInput(jnp.zeros((1, 2, 3), jnp.int32), tracks)
