"""Settings of the simulated module, and what is allowed for them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.core

from tofae_jax.core.types import Number

Range = tuple[Number, Number]
Knots = tuple[Number, Number, Number, Number]

DENSE_PHOTONS, DETECTED_PHOTONS = 2000.0, 30.0
"""photons of a dense pattern and of a real track, about; the second from arXiv:2002.07632"""

# what `check_settings` allows: single numbers, then pairs (low, high)
LIMITS = {
    "width_mm": (1e-3, 1e5),
    "height_mm": (1e-3, 1e5),
    "thickness_mm": (1e-3, 1e3),
    "peak_efficiency": (0.0, 1.0),
    "collection": (0.0, 1.0),
    "dense_factor": (1.0, 1e6),
    "time_sigma_ns": (0.0, 1e3),
    "flight_path_mm": (0.0, 1e6),
    "bunch_sigma_ns": (0.0, 1e3),
    "window_margin_ns": (0.0, 1e6),
    "window_jitter_ns": (0.0, 1e6),
}
RANGE_LIMITS = {
    "theta_z_rad": (0.0, math.pi / 2),
    "momentum_gev": (1e-3, 1e3),
    "x_mm": (-1e5, 1e5),
    "y_mm": (-1e5, 1e5),
    "slope_x": (-10.0, 10.0),
    "slope_y": (-10.0, 10.0),
    "n_tracks": (0, 127),
}
ENERGY_LIMITS_EV = (0.34, 8.0)
"""where the formula of the refractive index is smooth and near what it was fitted to"""


class ModuleSettings(NamedTuple):
    """Numbers of the simulated module. Each may be traced; `check_settings` says what is allowed."""

    width_mm: Number = 660.0
    """radiator plate in x; 11 photon tubes of 60 mm (van Dijk, CERN-THESIS-2016-039)"""
    height_mm: Number = 1250.0
    """radiator plate in y; half of the full 2.5 m module, as in the prototype of arXiv:2111.04627"""
    thickness_mm: Number = 10.0
    """radiator plate in z; same source"""
    energy_knots_ev: Knots = (2.0, 3.5, 5.0, 6.2)
    """where the quantum efficiency starts, has risen, starts to fall and ends"""
    peak_efficiency: Number = 0.25
    """quantum efficiency between the middle knots"""
    collection: Number = 0.47
    """share of the photons seen by the cathode that become hits: gaps between tubes (0.88 is active), glue, mirrors,
    micro-channels. Set so that tracks of 6 GeV/c leave 30 hits on average over types, impact points and slopes"""
    dense_factor: Number = DENSE_PHOTONS / DETECTED_PHOTONS
    """how many times the photons of a real track a dense pattern has"""
    theta_z_rad: Range = (0.45, 0.95)
    """angles to the y axis in the y-z plane that the optics focus onto the first and last row's edges"""
    time_sigma_ns: Number = 0.070
    """time resolution of one photon, tube and electronics; the target of arXiv:2002.07632"""
    flight_path_mm: Number = 9500.0
    """from the collision to the plate along z; TORCH stands 9.5 m from it (Charles and Forty 2011)"""
    bunch_sigma_ns: Number = 0.18
    """spread of a collision's time within its bunch crossing: 7.6 cm long bunches, 76 mm / (sqrt(2) c); LHC design"""
    window_margin_ns: Number = 0.25
    """between the window's start and the primary track's first possible photon: 3.5 times the time resolution"""
    window_jitter_ns: Number = 2.0
    """the window starts earlier by up to this, uniformly, but not so early that late photons would be lost"""
    momentum_gev: Range = (2.0, 10.0)
    """of drawn tracks, uniform; the range that TORCH is for"""
    particle_weights: tuple[Number, Number, Number] = (1.0, 1.0, 1.0)
    """shares of pions, kaons and protons among drawn tracks, in any unit; equal, so that rare ones are learnt too"""
    x_mm: Range = (-330.0, 330.0)
    """impact points of drawn tracks, uniform; here and in y, the whole plate"""
    y_mm: Range = (-625.0, 625.0)
    """likewise"""
    slope_x: Range = (-0.25, 0.25)
    """dx/dz of drawn tracks, uniform: straight tracks to a wall 5 m wide at 9.5 m, whichever module they meet"""
    slope_y: Range = (-0.25, 0.25)
    """dy/dz likewise; the spectrometer accepts up to 0.25 vertically (LHCb, JINST 3 (2008) S08005)"""
    n_tracks: Range = (1, 1)
    """tracks of an event, inclusive; the first is the primary"""


def _is_known(value: Any) -> bool:
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def check_number(name: str, value: Any, low: float, high: float) -> None:
    """Raise ValueError unless `low <= value <= high`; a traced value passes, as nobody knows it yet."""
    if _is_known(value) and not low <= float(value) <= high:  # NaN fails as well
        raise ValueError(f"{name} is {value}, allowed: {low:g} to {high:g}")


def check_pair(name: str, value: Any, low: float, high: float) -> None:
    """Raise ValueError unless `value` is a pair with `low <= value[0] <= value[1] <= high`."""
    if not _is_known(value):
        return
    if len(value) != 2 or not low <= float(value[0]) <= float(value[1]) <= high:
        raise ValueError(f"{name} is {value}, allowed: (from, to) with {low:g} <= from <= to <= {high:g}")


def check_shape(shape_xyt: tuple[int, int, int], bin_ns: Number, **slots: int) -> None:
    """Raise ValueError unless the pixels, time bins, bin length and numbers of slots are positive."""
    for name, value in zip(("columns", "rows", "time bins"), shape_xyt, strict=True):
        check_number(f"shape_xyt: {name}", value, 1, 32767)
    check_number("bin_ns", bin_ns, 1e-9, 1e9)
    for name, value in slots.items():
        check_number(name, value, 1, 2**31 - 1)


def check_settings(settings: ModuleSettings) -> None:
    """Raise ValueError naming the first setting that is not allowed, its value and what is; traced values pass."""
    for name, (low, high) in LIMITS.items():
        check_number(name, getattr(settings, name), low, high)
    for name, (low, high) in RANGE_LIMITS.items():
        check_pair(name, getattr(settings, name), low, high)
    knots, (low, high) = settings.energy_knots_ev, ENERGY_LIMITS_EV
    if _is_known(knots) and not (
        len(knots) == 4 and low <= knots[0] < knots[1] and knots[1] <= knots[2] and knots[2] < knots[3] <= high
    ):
        raise ValueError(f"energy_knots_ev is {knots}, allowed: a < b <= c < d within {low:g} to {high:g}")
    low_z, high_z = settings.theta_z_rad
    if _is_known((low_z, high_z)) and not low_z < high_z:
        raise ValueError(f"theta_z_rad is {settings.theta_z_rad}, allowed: a range that is not empty")
    weights = settings.particle_weights
    if _is_known(weights) and not (len(weights) == 3 and all(0 <= w < math.inf for w in weights) and sum(weights) > 0):
        raise ValueError(f"particle_weights is {weights}, allowed: three numbers from 0 up, at least one above 0")
