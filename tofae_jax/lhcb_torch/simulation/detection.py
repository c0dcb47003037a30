"""From a track to the hits that it leaves: random photons, optics, pixels, time bins."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings, check_number, check_settings, check_shape
from tofae_jax.lhcb_torch.optics import MASSES_GEV, energy_at_quantile, photon_yield_per_ev_mm
from tofae_jax.lhcb_torch.simulation.slots import draw_poisson, gather_kept, slots_for_mean
from tofae_jax.lhcb_torch.simulation.tracks import Track, track_speed
from tofae_jax.lhcb_torch.simulation.transport import (
    arrival_range_ns,
    brightest_yield_per_ev_mm,
    candidate_mean,
    carry,
    expected_photons,
)

SLOPE_STEPS = 5
"""slopes in x and in y each at which `choose_slots` looks for the brightest track"""
SURVEY_MARGIN = 1.05
"""by which a mean may exceed the largest one found there"""


class Slots(NamedTuple):
    """Static numbers of slots, per track."""

    n_candidates: int
    """photons that are drawn"""
    n_photons: int
    """photons that are kept: the length of the hit list"""


class Photons(NamedTuple):
    """Detected photons of one track, in fixed slots: `t = 0` in the hits, and 0 elsewhere, where there is none."""

    hits: Int[Array, "*batch k 3"]
    """column, row, time bin"""
    is_photon: Bool[Array, "*batch k"]
    """which slots hold a photon"""
    energy_ev: Float[Array, "*batch k"]
    """photon energy"""
    is_reflected: Bool[Array, "*batch k"]
    """came by the mirror at the bottom edge"""
    true_time_ns: Float[Array, "*batch k"]
    """arrival at the top edge after the bunch crossing, before the time resolution"""
    path_mm: Float[Array, "*batch k"]
    """way in the plate"""
    track: Int[Array, "*batch k"]
    """number of its track within the event, 0 for the primary; -1 where there is no photon"""
    n_outside_window: Int[Array, "*batch"]
    """photons lost before the first or after the last time bin"""
    n_dropped: Int[Array, "*batch"]
    """candidates and photons lost because there were too few slots: 0, or the slots are too few"""


def choose_slots(settings: ModuleSettings, *, scale: float = 1.0) -> Slots:
    """Slots enough for the tracks that the settings can draw, on the host: largest means + 6 sigma each.

    The largest mean of candidates is that of a pion of the highest momentum at the steepest slopes. The largest mean of
    detected photons is looked for on a grid of slopes and among all particles, and enlarged by 5 %. `scale` is 1 for
    real tracks, `settings.dense_factor` for dense patterns.

    Raises ValueError for a setting that is not allowed, naming it.
    """
    check_settings(settings)
    check_number("scale", scale, 0, 1e6)
    axes = [np.linspace(low, high, SLOPE_STEPS) for low, high in (settings.slope_x, settings.slope_y)]
    momenta = np.array(settings.momentum_gev, float)
    grid = np.meshgrid(*axes, momenta, np.arange(len(MASSES_GEV)), indexing="ij")
    *numbers, particle = (values.ravel() for values in grid)
    centre = np.zeros(particle.shape)
    slope_x, slope_y, momentum, zero = (jnp.asarray(values, jnp.float32) for values in (*numbers, centre))
    tracks = Track(zero, zero, slope_x, slope_y, momentum, jnp.asarray(particle, jnp.int32), zero)
    candidates, photons = _means(tracks, settings)
    most = float(photons.max()) * SURVEY_MARGIN
    return Slots(slots_for_mean(float(candidates.max()) * scale), slots_for_mean(most * scale))


@jax.jit
def _means(tracks: Track, settings: ModuleSettings) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Mean numbers of candidates and of detected photons."""
    candidates, photons = (jax.vmap(mean, (0, None))(tracks, settings) for mean in (candidate_mean, expected_photons))
    return candidates, photons


def draw_window_start(
    key: Array, track: Track, settings: ModuleSettings, *, shape_xyt: tuple[int, int, int], bin_ns: Number
) -> Float[Array, ""]:
    """When the time window of an event starts, in ns after the bunch crossing, from its primary track.

    `earliest possible photon - margin - jitter`, the jitter uniform from 0 to `window_jitter_ns`, or less where the
    last possible photon plus margin would leave the window. The range of possible times is the track's alone, not that
    of the photons that happen to be drawn, so a dense pattern and its thinned event share the window. Where the range
    is longer than the window, jitter is 0 and the latest photons are lost, and counted: with 25 ns and default slopes
    that is 1 % of all photons, none below y = 0 and 5 % above y = 500 mm, whose reflected light takes longest.
    """
    earliest, latest = arrival_range_ns(track, settings)
    margin = settings.window_margin_ns
    spare = shape_xyt[2] * bin_ns - (latest - earliest) - 2 * margin
    most = jnp.clip(spare, 0, settings.window_jitter_ns)
    return earliest - margin - most * jax.random.uniform(key, (), jnp.float32)


def simulate_track(
    key: Array,
    track: Track,
    settings: ModuleSettings,
    *,
    window_start_ns: Number,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
    slots: Slots,
    scale: Number = 1.0,
) -> Photons:
    """Detected photons of one track. For several, `jax.vmap` over keys and tracks. Keys are JAX's default (threefry).

    A Poisson number of candidates with mean `scale * candidate_mean` is drawn: energy distributed as the quantum
    efficiency (by its inverse, exactly), azimuth and depth uniform. Each is kept with `yield(E) / brightest yield`, and
    if total reflection and the optics' angles let it reach the rows; the number of those is then Poisson with mean
    `scale * expected_photons`. Of the candidates of pions of 10 GeV/c 42 % are kept, averaged over the default slopes,
    and 52 % at slope 0: the geometry limits, as nothing is drawn that the tubes' efficiency would discard.

    Args:
        key: random key of this track.
        track: one track (scalars).
        settings: numbers of the module; may be traced.
        window_start_ns: start of the time window after the bunch crossing, see `draw_window_start`.
        shape_xyt: pixel columns, pixel rows, time bins.
        bin_ns: length of a time bin in ns.
        slots: candidates and photons that there is room for, see `choose_slots`; static.
        scale: how many times the photons of a real track.

    Raises ValueError for a setting that is not allowed, naming it; traced settings are not checked.
    """
    check_settings(settings)
    check_shape(shape_xyt, bin_ns, **slots._asdict())
    key_count, key_photons, key_time = jax.random.split(key, 3)
    n, n_undrawn = draw_poisson(key_count, scale * candidate_mean(track, settings), slots.n_candidates)
    u = jax.random.uniform(key_photons, (4, slots.n_candidates), jnp.float32)
    energy = energy_at_quantile(u[0], knots_ev=settings.energy_knots_ev)
    arrival = carry(track, energy, 2 * jnp.pi * u[1], u[2], settings)
    produced = photon_yield_per_ev_mm(energy, track_speed(track))
    keep = (u[3] * brightest_yield_per_ev_mm(track, settings) < produced) & arrival.is_accepted
    keep &= jnp.arange(slots.n_candidates, dtype=jnp.int32) < n
    index, filled, n_dropped = gather_kept(keep, slots.n_photons)
    columns = (arrival.x_mm, arrival.theta_z_rad, arrival.time_ns, energy, arrival.path_mm)
    x, theta_z, time, energy, path = (column[index] for column in columns)
    seen_ns = time + settings.time_sigma_ns * jax.random.normal(key_time, time.shape, jnp.float32)
    hits = _pixels(x, theta_z, seen_ns - window_start_ns, settings, shape_xyt, bin_ns)
    in_window = filled & (hits[:, 2] >= 1) & (hits[:, 2] <= shape_xyt[2])
    return Photons(
        hits=jnp.where(in_window[:, None], hits, 0),
        is_photon=in_window,
        energy_ev=jnp.where(in_window, energy, 0),
        is_reflected=in_window & arrival.is_reflected[index],
        true_time_ns=jnp.where(in_window, time, 0),
        path_mm=jnp.where(in_window, path, 0),
        track=jnp.where(in_window, jnp.int32(0), jnp.int32(-1)),
        n_outside_window=jnp.sum(filled & ~in_window, dtype=jnp.int32),
        n_dropped=n_dropped + n_undrawn,
    )


def _pixels(
    x_mm: Float[Array, " k"],
    theta_z: Float[Array, " k"],
    time_ns: Float[Array, " k"],
    settings: ModuleSettings,
    shape_xyt: tuple[int, int, int],
    bin_ns: Number,
) -> Int[Array, "k 3"]:
    """Column, row and time bin of photons on the rows; times before the window give bins below 1."""
    n_x, n_y, n_t = shape_xyt
    low, high = settings.theta_z_rad
    column = jnp.clip(jnp.floor((x_mm / settings.width_mm + 0.5) * n_x), 0, n_x - 1)
    row = jnp.clip(jnp.floor((theta_z - low) / (high - low) * n_y), 0, n_y - 1)
    # floats until they are cut: a very early or late photon would overflow an integer
    time_bin = jnp.clip(jnp.floor(time_ns / bin_ns) + 1, 0, n_t + 1)
    return jnp.stack([column, row, time_bin], axis=-1).astype(jnp.int32)
