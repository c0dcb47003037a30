"""Check arguments where that costs nothing: shapes, and numbers that are known before a program is compiled.

Traced values and arrays on a device are left alone: looking at them would fail under `jax.jit`, or wait for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np


class CheckedFields:
    """Base of settings that are checked when they are made, also by `_replace` and by JAX's tree functions.

    Put it before the `NamedTuple` of the fields: `class Settings(CheckedFields, _Numbers)`.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any):
        """Make the tuple and check it."""
        self = super().__new__(cls, *args, **kwargs)
        self.check()
        return self

    @classmethod
    def _make(cls, iterable: Iterable[Any]):
        return cls(*iterable)

    def check(self) -> None:
        """Raise ValueError for a number that is known now and not allowed."""


def static_number(value: Any) -> float | None:
    """Return a number that is known now, as a float; None for traced values, arrays on a device and all else."""
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return float(value)
    return None


def check_at_least(name: str, value: Any, least: float = 0) -> None:
    """Check a number if it is known now.

    Raises:
        ValueError: it is below `least`, infinite or NaN; the message has name and value.
    """
    number = static_number(value)
    if number is not None and not least <= number < math.inf:
        raise ValueError(f"{name} must be a finite number from {least:g}, got {value}")


def check_range_of(name: str, bounds: Any, least: float = 0) -> None:
    """Check an inclusive range `(low, high)`, as far as it is known now.

    Raises:
        ValueError: it is no pair, or not `least <= low <= high`; the message has name and value.
    """
    is_known = isinstance(bounds, tuple | list) or (isinstance(bounds, np.ndarray) and bounds.ndim == 1)
    ends = list(bounds) if is_known else None
    if ends is None:
        if np.ndim(bounds) == 0:
            raise ValueError(f"{name} must be a range (low, high), got {bounds}")
        return  # an array of two numbers on a device
    known = [static_number(end) for end in ends]
    if len(ends) != 2 or any(end is not None and not least <= end < math.inf for end in known):
        raise ValueError(f"{name} must be a range (low, high) from {least:g}, got {bounds}")
    low, high = known
    if low is not None and high is not None and low > high:
        raise ValueError(f"{name} must be a range low <= high, got {bounds}")


def check_same_shape(**arrays: Any) -> None:
    """Check that arrays have one shape: they would broadcast to another without a word.

    Raises:
        ValueError: two shapes differ; the message names both arrays.
    """
    (first, one), *others = arrays.items()
    for name, other in others:
        if np.shape(one) != np.shape(other):
            raise ValueError(
                f"{first} and {name} must have the same shape, got {list(np.shape(one))} and {list(np.shape(other))}"
            )
