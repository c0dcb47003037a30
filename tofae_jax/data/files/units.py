"""Convert hits from mm and ns to pixels and time bins, and count those outside the detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tofae_jax.core.detector import Detector

Units = Literal["pixels", "physical"]
AxisOrigin = Literal["edge", "centre"]
LARGEST_ROUNDING = 0.49
"""cells; a type so narrow that it rounds by more cannot place a hit anyway"""


@dataclass
class Tally:
    """Counts of hits while a file is read."""

    n_hits: int = 0
    """hits that were read"""
    n_outside: int = 0
    """hits that were dropped because they lie outside the detector"""

    def __str__(self) -> str:
        return f"{self.n_outside} of {self.n_hits} hits outside the detector, dropped"


def check_units(units: str, origin: str) -> None:
    """Raise ValueError for an unknown name, and for an origin that would have no effect."""
    for name, value, allowed in (("units", units, get_args(Units)), ("origin", origin, get_args(AxisOrigin))):
        if value not in allowed:
            raise ValueError(f"{name} = {value!r}: {' or '.join(allowed)} allowed")
    if origin != "edge" and units == "pixels":
        raise ValueError(f"origin = {origin!r}: only for units 'physical'; pixels count from the edge")


def in_pixels(
    columns: Mapping[str, np.ndarray], *, detector: Detector, origin: AxisOrigin
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Convert hits to pixels and time bins, without those outside the detector.

    Pixel `floor(n · mm / length)` for `x` and `y`, where a centred origin adds half a length first; time bin
    `floor(n · ns / window) + 1`. A value that lies below an edge by no more than the rounding of its own type counts as
    on the edge, such as 3 · 25 ps in float32: it belongs to the bin that the edge begins. A hit is inside if all three
    lie in `0 <= value < length`; NaN and infinity are outside.

    Args:
        columns: `x` and `y` in mm, `t` in ns, and any others; all [n_hits].
        detector: lengths and numbers of pixels.
        origin: zero of `x` and `y`: edge or centre of the detector; `t` counts from the start of the window.

    Returns:
        All columns at the hits inside, with `x, y, t` as int16; and which hits are inside, bool[n_hits].
    """
    shift = 0.5 if origin == "centre" else 0.0
    lengths = {"x": detector.width_mm, "y": detector.height_mm, "t": detector.window_ns}
    shifts = {"x": shift, "y": shift, "t": 0.0}
    places = {}
    is_inside = np.ones(len(columns["x"]), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        for (name, length), n in zip(lengths.items(), detector.shape, strict=True):
            places[name] = _cells(columns[name], shift=shifts[name] * length, n=n, length=length)
            is_inside &= (places[name] >= 0) & (places[name] < n)
    found = {name: values[is_inside] for name, values in columns.items()}
    for name, first in (("x", 0), ("y", 0), ("t", 1)):
        found[name] = (np.floor(places[name][is_inside]) + first).astype(np.int16)
    return found, is_inside


def _cells(values: np.ndarray, *, shift: float, n: int, length: float) -> np.ndarray:
    """Return positions in cells, float64; those within rounding below an edge are moved onto it."""
    cells = (values.astype(np.float64) + shift) * n / length
    # one and a half units in the last place: a product of two rounded numbers; and that of the arithmetic here
    rounding = 4 * np.spacing(np.maximum(np.abs(cells), 1.0))
    if values.dtype.kind == "f":
        rounding += 1.5 * np.spacing(np.abs(values)).astype(np.float64) * n / length
    edge = np.ceil(cells)
    return np.where(edge - cells <= np.minimum(rounding, LARGEST_ROUNDING), edge, cells)
