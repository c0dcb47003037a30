"""The detector: its shape in pixels and time bins, and its physical scale."""

from __future__ import annotations

from typing import Annotated

import msgspec

NO_HIT = 0
"""Time bins count from 1, so this marks an empty slot in a hit list and an unlit pixel in an image, everywhere here."""

TRACK_COLUMNS = ("x_mm", "y_mm", "slope_x", "slope_y", "momentum_gev", "collision_ns")
"""What a model is told of a track: impact point and slopes at the plate, momentum, and when collisions are expected,
from the start of the time window. Its type and its collision's own time, so its arrival, it is not told."""
TRUTH_COLUMNS = ("arrival_ns", "speed")
"""What only the truth knows of it: arrival at the plate from the start of the time window, and v/c."""

Pixels = Annotated[int, msgspec.Meta(ge=1, le=32767)]  # a hit is stored as int16
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class Detector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pixel columns, pixel rows and time bins of the detector, and its lengths in mm and ns

    The defaults describe one module of TORCH for LHCb: eleven photon tubes side by side on a 660 mm wide plate
    with 8 columns each (7.5 mm a column, gaps included), 128 rows on the 53 mm high active area of a tube
    (0.414 mm a row), and a window of 1000 time bins of 25 ps.
    """

    n_x: Pixels = 88
    """pixel columns"""
    n_y: Pixels = 128
    """pixel rows"""
    n_t: Pixels = 1000
    """time bins; a hit's time bin lies in 1..n_t, 0 means no hit"""
    width_mm: Positive = 660.0
    """length of all columns together, in mm"""
    height_mm: Positive = 53.0
    """length of all rows together, in mm"""
    window_ns: Positive = 25.0
    """length of all time bins together, in ns"""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, time bins: `(n_x, n_y, n_t)`."""
        return self.n_x, self.n_y, self.n_t

    @property
    def pitch_x_mm(self) -> float:
        """Width of one pixel column in mm."""
        return self.width_mm / self.n_x

    @property
    def pitch_y_mm(self) -> float:
        """Height of one pixel row in mm."""
        return self.height_mm / self.n_y

    @property
    def bin_ns(self) -> float:
        """Length of one time bin in ns."""
        return self.window_ns / self.n_t
