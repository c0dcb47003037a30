"""Settings that change from epoch to epoch: degradation, loss weights, learning rate, by key.

```toml
[schedules."degradation.n_noise"]
kind = "linear"
start = 20
end = 200
last_epoch = 10
```

On the command line: `--schedules.degradation.n-noise.kind linear --schedules.degradation.n-noise.start 20` and so on.
"""

from __future__ import annotations

import bisect
import math
from typing import Any, Literal

from tofae_jax.config.types import PositiveCount, Section

Amount = float | tuple[float, float]
"""a number, or a range"""

_NEEDS = {
    "constant": ("value",),
    "linear": ("start", "end"),
    "cosine": ("start", "end"),
    "steps": ("value", "factor", "every"),
    "table": ("points",),
}
_OPTIONAL = {"linear": ("first_epoch", "last_epoch"), "cosine": ("first_epoch", "last_epoch"), "table": ("hold",)}


def kinds_and_fields() -> str:
    """List the kinds of schedules with the names of their fields, for help texts."""
    return "; ".join(f"{kind}: {', '.join((*fields, *_OPTIONAL.get(kind, ())))}" for kind, fields in _NEEDS.items())


class ScheduleConfig(Section, frozen=True, omit_defaults=True):
    """how one setting changes; a value may be a range [low, high] where the setting may"""

    kind: Literal["constant", "linear", "cosine", "steps", "table"]
    """constant: value; linear, cosine: start to end; steps: value times factor every so many epochs; table: points"""
    value: Amount | None = None
    """the value, or the first one of steps"""
    start: Amount | None = None
    """up to and in first_epoch"""
    end: Amount | None = None
    """from last_epoch on"""
    first_epoch: PositiveCount | None = None
    """None: 1"""
    last_epoch: PositiveCount | None = None
    """None: the last of the run"""
    factor: float | None = None
    """of each step"""
    every: PositiveCount | None = None
    """epochs per step"""
    points: tuple[tuple[int, Amount], ...] = ()
    """[epoch, value] pairs in rising order, with straight lines between them"""
    hold: bool = False
    """keep each point's value until the next instead"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        for name in _NEEDS[self.kind]:
            if getattr(self, name) in (None, ()):
                raise ValueError(f"{name} is missing: a {self.kind} schedule needs {', '.join(_NEEDS[self.kind])}")
        known = {"kind", *_NEEDS[self.kind], *_OPTIONAL.get(self.kind, ())}
        for name in set(self.__struct_fields__) - known:
            if getattr(self, name) is not None and getattr(self, name) is not False and getattr(self, name) != ():
                raise ValueError(f"{name} has no meaning for a {self.kind} schedule")
        epochs = [epoch for epoch, _ in self.points]
        if epochs != sorted(set(epochs)) or (epochs and epochs[0] < 1):
            raise ValueError(f"points must have rising epochs from 1, got {epochs}")
        if self.last_epoch is not None and self.last_epoch <= (self.first_epoch or 1):
            raise ValueError(f"last_epoch must be after first_epoch {self.first_epoch or 1}, got {self.last_epoch}")


def _between(start: Amount, end: Amount, fraction: float) -> Amount:
    """Interpolate between two amounts; beside a range, a number counts as the range that holds only it."""
    if not isinstance(start, tuple) and not isinstance(end, tuple):
        return start + fraction * (end - start)
    (a, b), (c, d) = (amount if isinstance(amount, tuple) else (amount, amount) for amount in (start, end))
    return a + fraction * (c - a), b + fraction * (d - b)


def _times(amount: Amount, factor: float) -> Amount:
    return (amount[0] * factor, amount[1] * factor) if isinstance(amount, tuple) else amount * factor


def _alike(points: tuple[tuple[int, Amount], ...]) -> tuple[tuple[int, Amount], ...]:
    """Make all values ranges where one is: a number that becomes a range between epochs would compile again."""
    if not any(isinstance(value, tuple) for _, value in points):
        return points
    return tuple((epoch, value if isinstance(value, tuple) else (value, value)) for epoch, value in points)


def value_at(schedule: ScheduleConfig, epoch: int, n_epochs: int) -> Amount:
    """Return the value in an epoch, counted from 1, of a run of `n_epochs`."""
    s: Any = schedule
    if s.kind == "constant":
        return s.value
    if s.kind == "steps":
        return _times(s.value, s.factor ** ((epoch - 1) // s.every))
    if s.kind == "table":
        place = bisect.bisect_right([point for point, _ in s.points], epoch)
        points = _alike(s.points)
        if place in (0, len(points)) or s.hold:
            return points[max(place - 1, 0)][1]
        (before, low), (after, high) = points[place - 1 : place + 1]
        return _between(low, high, (epoch - before) / (after - before))
    first, last = s.first_epoch or 1, s.last_epoch or n_epochs
    fraction = min(max((epoch - first) / (last - first), 0.0), 1.0) if last > first else float(epoch >= first)
    return _between(s.start, s.end, fraction if s.kind == "linear" else 0.5 * (1 - math.cos(math.pi * fraction)))
