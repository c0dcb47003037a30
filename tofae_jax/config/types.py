"""Base class of all sections of the settings, and types of numbers with limits."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

# the upper limits keep infinity out: JSON cannot hold it, so that a run could not be read again
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
BelowOne = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
"""epochs, events of a batch, hits of an event and whatever else no run needs a million of"""
ManyCount = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
PositiveManyCount = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""events and steps"""
Width = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
"""features of a layer; `engine.memory_checks` looks at what the network makes of them"""
Layers = Annotated[int, msgspec.Meta(ge=1, le=256)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


PlotMode = Literal["show", "save", "both", "none"]


MOST_THREADS = 256
MOST_HITS = 100_000  # per event; images hold a tenth of it, and a batch of more would fill any memory
MOST_TRACKS = 1000
WIDEST = 1e12
N = TypeVar("N", int, float)
WidthOrRange = float | tuple[float, float]
CountOrRange = int | tuple[int, int]  # both checked by check_range: msgspec misreads limits inside such a union


def as_range(value: N | tuple[N, N]) -> tuple[N, N]:
    """Return a range as it is, and a number as the range that holds only it."""
    return value if isinstance(value, tuple) else (value, value)


def check_range(name: str, value: N | tuple[N, N], *, least: float = 0, most: float = MOST_HITS) -> None:
    """Raise ValueError unless the value is a number, or a range low <= high, within the limits."""
    low, high = as_range(value)
    if not least <= low <= high <= most:
        allowed = f"a number from {least} to {most:.7g}, or a range low <= high of them"
        raise ValueError(f"{name} must be {allowed}, got {value}")
