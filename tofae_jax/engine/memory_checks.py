"""Refuse settings whose arrays no machine holds, before the first of them is made."""

from __future__ import annotations

import math
import os

import jax

from tofae_jax.config import Config, ConfigError
from tofae_jax.engine.build import RunSetup

MOST_BYTES = 2**36
"""of one array or model, where the memory of the machine is not known"""
STATES = 4
"""arrays in the shape of the parameters: themselves, their gradient and two of the optimiser"""
_NUMBER_BYTES = 4
_HIT_BYTES = 6


def memory_bytes() -> int:
    """Return the memory of this machine, or `MOST_BYTES` where it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return MOST_BYTES


def check_batches(config: Config) -> None:
    """Check that the images of a batch, its hits and the batches held ready can be in memory.

    Raises:
        ConfigError: they cannot; the message names the settings whose product it is.
    """
    data, batch, detector = config.data, config.train.batch, config.detector
    pixels = detector.n_x * detector.n_y
    slots = data.max_hits + data.max_background
    _check(
        _NUMBER_BYTES * batch * pixels,
        "the images of a batch",
        f"train.batch {batch} x detector.n_x {detector.n_x} x detector.n_y {detector.n_y}",
    )
    _check(
        _HIT_BYTES * batch * slots * max(data.prefetch_batches, 1),
        "the hits of the batches held ready",
        f"train.batch {batch} x (data.max_hits {data.max_hits} + data.max_background {data.max_background}) x "
        f"data.prefetch_batches {data.prefetch_batches}",
    )


def check_parameters(setup: RunSetup) -> None:
    """Check that a model and the state of its optimiser can be in memory, without making them.

    Raises:
        ConfigError: they cannot; the message names the model and how many parameters it has.
    """
    name = setup.config.model.name
    try:
        shapes = jax.eval_shape(setup.model.init, jax.random.key(0))["params"]
    except OverflowError:
        raise ConfigError(f"model.{name}: its sizes are too large for any array") from None
    n_parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    _check(
        STATES * _NUMBER_BYTES * n_parameters,
        f"model {name} and its optimiser",
        f"{n_parameters:,} parameters; smaller sizes in model.{name} are needed",
    )


def _check(n_bytes: int, what: str, why: str) -> None:
    if n_bytes > (most := memory_bytes()):
        raise ConfigError(
            f"{what} would take {n_bytes / 2**30:.1f} GiB, and this machine has {most / 2**30:.1f} ({why})"
        )
