"""Axes of the detector, in pixels and time bins or in mm and ns; and numbers of a record, for any axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tofae_jax.core.detector import Detector

Units = Literal["physical", "pixels"]
_LONGEST_EQUAL = 3  # a detector more oblong than this would be a sliver with square pixels


class Coordinate(NamedTuple):
    """One coordinate of the detector as an axis."""

    name: str
    unit: str
    step: float
    """length of a pixel or bin on the axis"""
    shift: float
    """pixel or bin 0 has its centre at `shift · step`"""
    limits: tuple[float, float]
    """of the whole detector"""
    is_whole: bool
    """True if only whole numbers mean something"""

    @property
    def label(self) -> str:
        """Of the axis."""
        return f"{self.name} ({self.unit})"

    def ticks(self, most: int) -> MaxNLocator:
        """Where an axis has its ticks, at about `most` places."""
        return MaxNLocator(most, integer=self.is_whole, min_n_ticks=1 if self.is_whole else 2, steps=[1, 2, 5, 10])

    def centre(self, index: Any) -> np.ndarray:
        """Where the centre of pixel or bin `index` is."""
        return (np.asarray(index, np.float64) + self.shift) * self.step

    def edges(self, first: Any) -> np.ndarray:
        """Where pixel or bin `first` begins."""
        return self.centre(np.asarray(first, np.float64) - 0.5)


class Placed(NamedTuple):
    """Positions of hits, each float[n]."""

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray


class Frame(NamedTuple):
    """The detector's three coordinates in one choice of units."""

    x: Coordinate
    y: Coordinate
    t: Coordinate
    aspect: Literal["auto", "equal"]
    """of a panel over x and y"""

    def place(self, hits: np.ndarray) -> Placed:
        """Positions of hits [n, 3] on the three axes; a time beyond the window is put onto its edge."""
        times = np.clip(self.t.centre(hits[:, 2]), *self.t.limits)
        return Placed(self.x.centre(hits[:, 0]), self.y.centre(hits[:, 1]), times)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Of an image [Y, X], for `imshow(..., origin="upper")`."""
        return (*self.x.limits, self.y.limits[1], self.y.limits[0])

    def show(self, axes: Axes, across: str, up: str, *, n_ticks: int = 7) -> None:
        """Limits of the whole detector and ticks for two axes of the frame; y points down like the image's rows."""
        for name, kind in (("x", across), ("y", up)):
            coordinate: Coordinate = getattr(self, kind)
            low, high = coordinate.limits
            getattr(axes, f"set_{name}lim")(*((high, low) if kind == "y" and name == "y" else (low, high)))
            getattr(axes, f"{name}axis").set_major_locator(coordinate.ticks(n_ticks))


def check_choice(name: str, value: Any, allowed: Any) -> None:
    """`ValueError` naming the allowed values, where `value` is none of them; `allowed` is a Literal."""
    if value not in get_args(allowed):
        raise ValueError(f"{name} is {value!r}, allowed are {', '.join(map(repr, get_args(allowed)))}")


def detector_frame(detector: Detector, units: Units | str) -> Frame:
    """The axes of a detector: "physical" is mm and ns, "pixels" is pixel and bin numbers.

    Pixel `i` covers `i .. i + 1` times the pitch, time bin `t` covers `t - 1 .. t` times its length: hits lie at the
    centres. In pixels a panel has square pixels, if that does not make it a sliver.
    """
    check_choice("units", units, Units)
    n_x, n_y, n_t = detector.shape
    if units == "physical":
        return Frame(
            Coordinate("x", "mm", detector.pitch_x_mm, 0.5, (0.0, detector.width_mm), is_whole=False),
            Coordinate("y", "mm", detector.pitch_y_mm, 0.5, (0.0, detector.height_mm), is_whole=False),
            Coordinate("time", "ns", detector.bin_ns, -0.5, (0.0, detector.window_ns), is_whole=False),
            "auto",
        )
    return Frame(
        Coordinate("x", "pixel", 1.0, 0.0, (-0.5, n_x - 0.5), is_whole=True),
        Coordinate("y", "pixel", 1.0, 0.0, (-0.5, n_y - 0.5), is_whole=True),
        Coordinate("time", "bin", 1.0, 0.0, (0.5, n_t + 0.5), is_whole=True),
        "equal" if max(n_x, n_y) <= _LONGEST_EQUAL * min(n_x, n_y) else "auto",
    )


def number(record: Mapping[str, Any], *names: str) -> float:
    """A number inside nested dicts; NaN where it is missing, None or infinite."""
    value: Any = record
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
