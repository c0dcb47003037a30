"""How likely a hit is, given a track: the simulation's transport, inverted in closed form.

A photon that is seen in column x at angle theta_z has come straight from the track, or by the mirror at the bottom
edge (2 ways); its p_z had either sign (2); and its x was folded at the side edges any number of times (-3..3: 7). Each
of these 28 *paths* fixes its direction completely: with the way along y, `L = H/2 - y` or `y + 3H/2`,
`p ~ (a, ±1, ±b)`, `a = (x_unfolded - x) / L`, `b = tan theta_z`. The direction gives the Cherenkov angle, so with the
track's speed the refractive index `n = 1 / (beta cos theta_c)`, so the photon's energy, its group velocity, its time.
What is left is the spectrum of the energies and the resolution of the time:

`density = yield(E) |dE/dcos theta_c| / (2 pi) (1 + a² + b²)^(-3/2) (1 + b²) / L * normal(t - t_photon, sigma_t)`

in photons per mm, rad and ns: light is emitted evenly in azimuth (1/2pi), and `da db / (1 + a² + b²)^(3/2)` is the
solid angle of a pixel. This is how TORCH reconstructs photons (M. Charles, R. Forty, Nucl. Instrum. Methods A 639
(2011) 173); here it is a density, to be compared with that of noise. The emission point is taken in the middle of the
plate, and pixels and time bins as points with their resolution added to sigma_t; light that leaves the top edge near
the track is therefore smeared more than the density knows. All functions take one event.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.core.detector import NO_HIT
from tofae_jax.core.sincos import polynomial
from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.optics import (
    FRANK_TAMM_PER_EV_MM,
    HC_EV_NM,
    LIGHT_MM_PER_NS,
    MALITSON_B,
    MALITSON_NM,
    quantum_efficiency,
)

MOST_FOLDS = 3
SHORTEST_MM = 20.0
"""way along y that is taken for shorter ones: of tracks at the very top edge"""
SMALLEST_COSINE = 0.3
ACCEPTED = 0.42
"""share of the light that reaches the rows, averaged over tracks (see `simulation.detection`)"""
FEWEST_HITS = 1e-3
"""expected of a track below the threshold of Cherenkov light, whose density is to be finite still"""
_FIT_POINTS = 400
_FIT_DEGREE = 6

_folds, _mirrors, _signs = (
    values.ravel()
    for values in np.meshgrid(np.arange(-MOST_FOLDS, MOST_FOLDS + 1), [1.0, -1.0], [1.0, -1.0], indexing="ij")
)
N_PATHS = len(_folds)


class Grid(NamedTuple):
    """Pixels and time bins of the detector; static."""

    shape_xyt: tuple[int, int, int]
    bin_ns: float


class Places(NamedTuple):
    """Hits in physical units."""

    x_mm: Float[Array, " k"]
    tan_theta: Float[Array, " k"]
    """tangent of theta_z"""
    time_ns: Float[Array, " k"]
    """from the start of the time window"""
    is_hit: Bool[Array, " k"]


class Paths(NamedTuple):
    """Which of the paths hits are taken to have come by; broadcasts against them."""

    turn: Array
    """1, or -1 where x was folded an odd number of times"""
    offset: Array
    """of the unfolded x, in widths of the plate"""
    up: Array
    """1 for direct photons, -1 by the mirror"""
    forward: Array
    """sign of p_z"""


class Photon(NamedTuple):
    """What a hit tells of its photon, if it came by a path."""

    index: Array
    """refractive index that its Cherenkov angle asks for"""
    late_ns: Array
    """its time less the one that this asks for"""
    cosine: Array
    """of the Cherenkov angle"""
    unit: Array
    """`(1 + a² + b²)^(-1/2)`: |p_y|"""
    along_mm: Array
    """way along y"""
    slope: Array
    """a: p_x / |p_y|"""


class _Fits(NamedTuple):
    """Polynomials in the refractive index, scaled to -1..1 over that of the visible spectrum: cheap, and smooth."""

    low: float
    high: float
    energy: tuple[float, ...]
    group_index: tuple[float, ...]
    energy_per_index: tuple[float, ...]
    width_ev: float
    """integral of the tubes' efficiency over energy, for a peak of 1"""
    mean_index: float
    """mean refractive index of the photons that are seen"""


def all_paths() -> Paths:
    """The paths that a hit may have come by, [28] each."""
    turn = np.where(_folds % 2 == 0, 1.0, -1.0)
    return Paths(*(jnp.asarray(values, jnp.float32) for values in (turn, _folds, _mirrors, _signs)))


@lru_cache
def _fits(knots: tuple[float, ...]) -> _Fits:
    energy = np.linspace(knots[0], knots[-1], _FIT_POINTS)
    terms = [(b, (energy * nm / HC_EV_NM) ** 2) for b, nm in zip(MALITSON_B, MALITSON_NM, strict=True)]
    n = np.sqrt(1 + sum(b / (1 - square) for b, square in terms))
    rise = sum(b * square / (1 - square) ** 2 for b, square in terms) / n  # E dn/dE
    low, high = float(n[0]), float(n[-1])
    scaled = (2 * n - low - high) / (high - low)

    def fit(values: np.ndarray) -> tuple[float, ...]:
        return tuple(map(float, np.polynomial.polynomial.polyfit(scaled, values, _FIT_DEGREE)))

    seen = np.interp(energy, knots, (0.0, 1.0, 1.0, 0.0))
    mean = float(np.average(n, weights=seen))
    width = float(np.trapezoid(seen, energy))
    return _Fits(low, high, fit(energy), fit(n + rise), fit(energy / rise), width, mean)


def spectrum_of(settings: ModuleSettings) -> tuple[_Fits, tuple[float, ...]]:
    """What depends on the spectrum that is seen, and the energies that bound it; of settings that are not traced."""
    knots = tuple(float(knot) for knot in settings.energy_knots_ev)
    return _fits(knots), knots


def places_of(hits: Int[Array, "k 3"], grid: Grid, settings: ModuleSettings) -> Places:
    """Hits in physical units, at the middles of their cells."""
    n_x, n_y, _ = grid.shape_xyt
    low, high = settings.theta_z_rad
    x, y, t = (hits[:, i].astype(jnp.float32) for i in range(3))
    return Places(
        x_mm=(x + 0.5) * (settings.width_mm / n_x) - settings.width_mm / 2,
        tan_theta=jnp.tan(low + (y + 0.5) * ((high - low) / n_y)),
        time_ns=(t - 0.5) * grid.bin_ns,
        is_hit=hits[:, 2] != NO_HIT,
    )


def photons(track: Float[Array, " 6"], places: Places, paths: Paths, settings: ModuleSettings) -> Photon:
    """What the hits tell of their photons; places and paths broadcast.

    `track` is x and y of the impact point in mm, slopes in x and y, arrival at the plate in ns from the start of the
    time window, and beta. Finite, with finite gradients, for all tracks within the plate of beta > 0.
    """
    x, y, slope_x, slope_y, arrival, speed = (track[i] for i in range(6))
    height, thickness = settings.height_mm, settings.thickness_mm
    length = jnp.sqrt(1 + slope_x**2 + slope_y**2)
    x, y = x + slope_x * (thickness / 2), y + slope_y * (thickness / 2)
    emitted = arrival + (thickness / 2) * length / (speed * LIGHT_MM_PER_NS)
    along = jnp.maximum(jnp.where(paths.up > 0, height / 2 - y, y + 1.5 * height), SHORTEST_MM)
    slope = (paths.turn * places.x_mm + paths.offset * settings.width_mm - x) / along
    squared = 1 + slope**2 + places.tan_theta**2
    unit = jax.lax.rsqrt(squared)
    cosine = (slope_x * slope + slope_y * paths.up + paths.forward * places.tan_theta) * unit / length
    index = 1 / (speed * jnp.maximum(cosine, SMALLEST_COSINE))
    fits, _ = spectrum_of(settings)
    group = polynomial(fits.group_index, _scaled(index, fits))
    late = places.time_ns - emitted - along * squared * unit * group * (1 / LIGHT_MM_PER_NS)
    return Photon(index, late, cosine, unit, along, slope)


def _scaled(index: Array, fits: _Fits) -> Array:
    return jnp.clip((2 * index - fits.low - fits.high) / (fits.high - fits.low), -1, 1)


def _each(places: Places) -> Places:
    return jax.tree.map(lambda column: column[:, None], places)


def light_density(
    track: Float[Array, " 6"], places: Places, settings: ModuleSettings, *, time_sigma_ns: Number
) -> Float[Array, " k"]:
    """Photons of a track that are expected at each hit, per mm, rad and ns; 0 where there is no hit.

    `track` as for `photons`. The docstring of this module has the equation.
    """
    return delayed_light(track, places, settings, time_sigma_ns=time_sigma_ns, delays_ns=jnp.zeros(1, track.dtype))[0]


def delayed_light(
    track: Float[Array, " 6"],
    places: Places,
    settings: ModuleSettings,
    *,
    time_sigma_ns: Number,
    delays_ns: Float[Array, " d"],
    paths: Paths | None = None,
) -> Float[Array, "d k"]:
    """`light_density` of a track that comes later by each of the delays; one transport serves them all.

    By all paths, or by those given: for every hit the same `[p]`, or its own `[k, p]`.
    """
    paths = all_paths() if paths is None else paths
    photon = photons(track, _each(places), paths, settings)
    fits, knots_ev = spectrum_of(settings)
    scaled = _scaled(photon.index, fits)
    energy = polynomial(fits.energy, scaled)
    seen = quantum_efficiency(energy, knots_ev=knots_ev)
    squared = jnp.square(photon.index)
    p_x, p_z = photon.slope * photon.unit, places.tan_theta[:, None] * photon.unit
    is_trapped = squared * (1 - p_z**2) >= 1
    is_trapped &= (paths.offset == 0) | (squared * (1 - p_x**2) >= 1)
    is_seen = (photon.index > fits.low) & (photon.index < fits.high) & is_trapped & places.is_hit[:, None]
    # dE/dcos = dE/dn / (beta cos²), and n = 1 / (beta cos)
    spectrum = seen * (1 - photon.cosine**2) * polynomial(fits.energy_per_index, scaled)
    spectrum = spectrum * photon.index / photon.cosine
    solid = photon.unit**3 / photon.along_mm * (1 + places.tan_theta**2)[:, None] / (2 * math.pi)
    height = jnp.where(is_seen, spectrum * solid, 0) * (
        photons_per_ev(track, settings) / (time_sigma_ns * math.sqrt(2 * math.pi))
    )

    def delayed(delay_ns: Array) -> Array:
        late = (photon.late_ns - delay_ns) / time_sigma_ns
        return jnp.sum(height * jnp.exp(-0.5 * late**2), axis=-1)

    return jax.vmap(delayed)(delays_ns)


def over_noise(
    track: Float[Array, " 6"],
    hits: Int[Array, "k 3"],
    grid: Grid,
    settings: ModuleSettings,
    *,
    time_sigma_ns: Number,
    delays_ns: Float[Array, " d"],
    paths: Paths | None = None,
) -> Float[Array, "d k"]:
    """Density of each hit in a track's light over that in uniform noise, as `mixture.explain` takes it.

    The track comes later by each of the delays; `paths` as for `delayed_light`.

    Both densities integrate to about 1 over the detector: to 0.3 for tracks at its very top, whose light spreads more
    than the closed form knows, up to 1.4 elsewhere, as the share of the light that is accepted is that of all tracks.
    """
    places = places_of(hits, grid, settings)
    light = delayed_light(track, places, settings, time_sigma_ns=time_sigma_ns, delays_ns=delays_ns, paths=paths)
    volume = cell_size(grid, settings) * math.prod(grid.shape_xyt)
    return light * (volume / jnp.maximum(expected_hits(track, settings), FEWEST_HITS))


def photons_per_ev(track: Float[Array, " 6"], settings: ModuleSettings) -> Float[Array, ""]:
    """Hits of a track per eV of the tubes' whole efficiency and sin² theta_c of 1, if all its light were accepted."""
    rate = FRANK_TAMM_PER_EV_MM * settings.thickness_mm * settings.peak_efficiency * settings.collection
    return rate * jnp.sqrt(1 + track[2] ** 2 + track[3] ** 2)


def expected_hits(track: Float[Array, " 6"], settings: ModuleSettings) -> Float[Array, ""]:
    """Hits that a track leaves, roughly: as if every track had the same share of its light accepted."""
    fits, _ = spectrum_of(settings)
    sin2 = jnp.maximum(1 - 1 / jnp.square(fits.mean_index * track[5]), 0)
    return photons_per_ev(track, settings) * fits.width_ev * sin2 * ACCEPTED


def cell_size(grid: Grid, settings: ModuleSettings) -> float:
    """A pixel and time bin, in mm rad ns."""
    n_x, n_y, _ = grid.shape_xyt
    low, high = settings.theta_z_rad
    return float(settings.width_mm) / n_x * float(high - low) / n_y * grid.bin_ns
