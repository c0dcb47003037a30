"""One event at every stage, as figures need it; kept in a file to draw figures again."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.plots.detector_axes import check_choice

HIT_LISTS = ("pattern", "sparse", "smeared", "hits")
"""fields of `EventView` that are lists of hits"""
FLAGS = ("is_signal", "kept")
"""fields with one value per hit of `hits`"""
_SCALARS = ("has_time", "target")
PATTERN = "pattern"
"""target of images that are compared with the whole pattern"""
Target = Literal["pattern", "signal"]


class EventView(NamedTuple):
    """One event at every stage, in host arrays; hits are x, y, t."""

    pattern: np.ndarray
    """int[n, 3]: all hits that the track could make"""
    sparse: np.ndarray
    """int[n, 3]: the few of them that were seen"""
    smeared: np.ndarray
    """int[n, 3]: the same, displaced"""
    hits: np.ndarray
    """int[n, 3]: the noised event, signal and noise"""
    is_signal: np.ndarray
    """bool[n]: of `hits`"""
    direct: np.ndarray
    """float[Y, X]: direct output in time bins, 0 where dark; 1 where lit if it has no time"""
    kept: np.ndarray
    """bool[n]: of `hits`, the masked output"""
    has_time: bool = True
    """False where the direct output says only lit or not"""
    target: str = PATTERN
    """what the direct output is compared with: all of `pattern`, or (`signal`) only `smeared`"""


def _check_hits(name: str, hits: np.ndarray, detector: Detector) -> None:
    if hits.ndim != 2 or hits.shape[1] != 3:
        raise ValueError(f"{name} has shape {hits.shape}, expected (n, 3)")
    if hits.dtype.kind not in "iu":
        raise ValueError(f"{name} has type {hits.dtype}, expected integers")
    n_x, n_y, n_t = detector.shape
    for column, (axis, low, high) in enumerate((("x", 0, n_x - 1), ("y", 0, n_y - 1), ("t", 1, n_t))):
        outside = np.flatnonzero((hits[:, column] < low) | (hits[:, column] > high))
        if len(outside):
            value = hits[outside[0], column]
            raise ValueError(f"{name}: hit {outside[0]} has {axis} = {value}, allowed are {low}..{high}")


def check_view(view: EventView, detector: Detector) -> EventView:
    """The view, with NumPy arrays for what it holds.

    Raises `ValueError` naming both shapes where two do not match; naming the list, the hit's index (from 0) and the
    value where a hit lies outside the detector (`0..n_x - 1`, `0..n_y - 1`, `1..n_t`: empty slots are no hits); naming
    the type where hits are not integers or flags not bool; and for an unknown target. What the direct output holds may
    be any number.
    """
    check_choice("target", str(view.target), Target)
    arrays: dict[str, Any] = {name: np.asarray(part) for name, part in view._asdict().items() if name not in _SCALARS}
    if arrays["direct"].dtype.kind not in "fiub":  # bfloat16 is no type of NumPy's own: its files would not keep it
        arrays["direct"] = arrays["direct"].astype(np.float32)
    view = EventView(**arrays, has_time=bool(view.has_time), target=str(view.target))
    for name in HIT_LISTS:
        _check_hits(name, getattr(view, name), detector)
    for name in FLAGS:
        flags = getattr(view, name)
        if flags.shape != view.hits.shape[:1]:
            raise ValueError(f"{name} has shape {flags.shape}, but hits has shape {view.hits.shape}: one value per hit")
        if flags.dtype != bool:
            raise ValueError(f"{name} has type {flags.dtype}, expected bool")
    image_shape = (detector.n_y, detector.n_x)
    if view.direct.shape != image_shape:
        raise ValueError(f"direct has shape {view.direct.shape}, but the detector's images have shape {image_shape}")
    return view


def hit_image(hits: np.ndarray, detector: Detector) -> np.ndarray:
    """Image int[Y, X] of hits [n, 3], in time bins, 0 where there is none; where hits share a pixel the latest wins."""
    image = np.zeros((detector.n_y, detector.n_x), np.int64)
    np.maximum.at(image, (hits[:, 1], hits[:, 0]), hits[:, 2])
    return image


def target_image(view: EventView, detector: Detector) -> np.ndarray:
    """What the direct output of a checked view should be, in time bins, int[Y, X]."""
    return hit_image(view.pattern if view.target == PATTERN else view.smeared, detector)


def is_lit(image: np.ndarray) -> np.ndarray:
    """Which pixels an output lights, bool[Y, X]; what is not finite is dark."""
    return np.isfinite(image) & (image > 0)
