"""One photon's way: from its emission in the plate to the top edge. Nothing is random here."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.optics import (
    LIGHT_MM_PER_NS,
    cherenkov_cosine,
    efficiency_width_ev,
    energy_at_quantile,
    group_index,
    photon_yield_per_ev_mm,
    refractive_index,
)
from tofae_jax.lhcb_torch.simulation.tracks import Track, length_per_z, track_speed

SMALLEST_COSINE = 1e-6
"""photons closer to horizontal than this in y are treated as if at it: they are far outside the optics' angles"""


class Arrival(NamedTuple):
    """Photons at the top edge; everything is defined, whether they are seen or not."""

    x_mm: Float[Array, "*n"]
    """where they reach the top edge, folded at the side edges"""
    theta_z_rad: Float[Array, "*n"]
    """angle to the y axis in the y-z plane, `arctan(|p_z| / |p_y|)`, 0..pi/2"""
    path_mm: Float[Array, "*n"]
    """length of their way in the plate: unfolded distance along y over |p_y|"""
    time_ns: Float[Array, "*n"]
    """when they reach the top edge, after the bunch crossing: emission + path n_g / c"""
    is_reflected: Bool[Array, "*n"]
    """by the mirror at the bottom edge"""
    is_trapped: Bool[Array, "*n"]
    """emitted inside the plate, above threshold, and totally reflected wherever they meet the silica's surface"""
    is_accepted: Bool[Array, "*n"]
    """trapped, and at an angle that the optics focus onto the rows"""
    direction: Float[Array, "*n 3"]
    """of the photon when emitted, a unit vector"""


def cherenkov_direction(track: Track, cosine: Float[Array, "*n"], azimuth: Float[Array, "*n"]) -> Float[Array, "*n 3"]:
    """Unit vector at the angle with this cosine to the track, turned about it by `azimuth` (rad).

    `p = d cos + sin (e1 cos azimuth + e2 sin azimuth)` with `e1` along (1, 0, -dx/dz) and `e2 = d x e1`; for a track
    along z these are the x and y axes.
    """
    one = jnp.ones_like(track.slope_x)
    d = jnp.stack([track.slope_x, track.slope_y, one]) / length_per_z(track)
    e1 = jnp.stack([one, 0 * one, -track.slope_x]) / jnp.sqrt(1 + track.slope_x**2)
    e2 = jnp.cross(d, e1)
    sine = jnp.sqrt(jnp.maximum(1 - cosine**2, 0))
    along_e1, along_e2 = sine * jnp.cos(azimuth), sine * jnp.sin(azimuth)
    return jnp.stack([cosine * d[i] + along_e1 * e1[i] + along_e2 * e2[i] for i in range(3)], axis=-1)


def fold(x_mm: Float[Array, "*n"], width_mm: Number) -> Float[Array, "*n"]:
    """Position within ±width/2 of a photon that would be at `x_mm` if the side edges were not there."""
    turn = jnp.mod(x_mm + width_mm / 2, 2 * width_mm)
    return jnp.minimum(turn, 2 * width_mm - turn) - width_mm / 2


def carry(
    track: Track,
    energy_ev: Float[Array, "*n"],
    azimuth: Float[Array, "*n"],
    depth: Float[Array, "*n"],
    settings: ModuleSettings,
) -> Arrival:
    """Carry Cherenkov photons of one track to the top edge.

    Args:
        track: one track (scalars).
        energy_ev: their energies.
        azimuth: their angles about the track, rad.
        depth: where they are emitted, as a share 0..1 of the track in the plate.
        settings: numbers of the module.

    A photon with `p_y < 0` goes down to the mirror first: its unfolded distance is `y + H/2 + H` instead of `H/2 - y`.
    Total reflection needs `n sin(angle to the normal) >= 1`, so `n^2 (1 - p_z^2) >= 1` at the faces and
    `n^2 (1 - p_x^2) >= 1` at the side edges. The faces are asked of every photon (those that the optics accept meet one
    within 21 mm of way along y), the side edges of those whose way reaches one. No loss on reflection. A track whose
    impact point lies outside the plate may still enter it through a side: the part inside counts.
    """
    width, height = settings.width_mm, settings.height_mm
    z = depth * settings.thickness_mm
    x, y = track.x_mm + track.slope_x * z, track.y_mm + track.slope_y * z
    speed, n = track_speed(track), refractive_index(energy_ev)
    cosine = cherenkov_cosine(energy_ev, speed)
    direction = cherenkov_direction(track, cosine, azimuth)
    p_x, p_y, p_z = (direction[..., i] for i in range(3))
    is_reflected = p_y < 0
    up = jnp.maximum(jnp.abs(p_y), SMALLEST_COSINE)
    path = jnp.where(is_reflected, y + 1.5 * height, 0.5 * height - y) / up
    x_free = x + p_x * path
    emitted_ns = track.arrival_ns + z * length_per_z(track) / (jnp.maximum(speed, SMALLEST_COSINE) * LIGHT_MM_PER_NS)
    is_inside = (jnp.abs(x) <= width / 2) & (jnp.abs(y) <= height / 2)
    totally = n**2 * (1 - p_z**2) >= 1
    totally &= (jnp.abs(x_free) <= width / 2) | (n**2 * (1 - p_x**2) >= 1)
    is_trapped = is_inside & totally & (cosine < 1)
    theta_z = jnp.arctan2(jnp.abs(p_z), up)
    low, high = settings.theta_z_rad
    return Arrival(
        x_mm=fold(x_free, width),
        theta_z_rad=theta_z,
        path_mm=path,
        time_ns=emitted_ns + path * group_index(energy_ev) / LIGHT_MM_PER_NS,
        is_reflected=is_reflected,
        is_trapped=is_trapped,
        is_accepted=is_trapped & (theta_z >= low) & (theta_z < high),
        direction=direction,
    )


def brightest_yield_per_ev_mm(track: Track, settings: ModuleSettings) -> Float[Array, ""]:
    """Photons per eV and mm of a track at the highest energy seen, where the index and so the yield are largest."""
    return photon_yield_per_ev_mm(settings.energy_knots_ev[3], track_speed(track))


def candidate_mean(track: Track, settings: ModuleSettings) -> Float[Array, ""]:
    """Mean number of candidates for detected photons: as if the whole spectrum had its brightest yield.

    `brightest yield x integral of the quantum efficiency x length in the plate x collection`. A candidate of energy E
    is then kept with `yield(E) / brightest yield` (above 0.93 for fast tracks), which makes the numbers exact.
    """
    spectrum = settings.peak_efficiency * efficiency_width_ev(settings.energy_knots_ev)
    length = settings.thickness_mm * length_per_z(track)
    return brightest_yield_per_ev_mm(track, settings) * spectrum * length * settings.collection


def survey(
    track: Track, settings: ModuleSettings, *, n_azimuth: int = 128, n_energy: int = 5, n_depth: int = 2
) -> tuple[Arrival, Float[Array, "azimuth energy depth"]]:
    """Photons of a track on a regular grid, and each one's share of `candidate_mean`, accepted by the optics or not.

    Azimuths at the middles of equal steps; energies at equal quantiles of the efficiency and depths, both with their
    ends, weighted by the trapezium rule. `candidate_mean` times the sum of the shares of accepted photons is the mean
    number of photons on the rows (time window aside).
    """
    azimuth = (jnp.arange(n_azimuth, dtype=jnp.float32) + 0.5) * (2 * jnp.pi / n_azimuth)
    quantile, depth = (jnp.linspace(0, 1, n, dtype=jnp.float32) for n in (n_energy, n_depth))
    energy = energy_at_quantile(quantile, knots_ev=settings.energy_knots_ev)
    brightest = jnp.maximum(brightest_yield_per_ev_mm(track, settings), 1e-9)
    kept = photon_yield_per_ev_mm(energy, track_speed(track)) / brightest
    weights = [jnp.ones(n, jnp.float32).at[jnp.array([0, -1])].set(0.5) / (n - 1) for n in (n_energy, n_depth)]
    share = (kept * weights[0])[None, :, None] * weights[1][None, None, :] / n_azimuth
    grid = jnp.broadcast_arrays(azimuth[:, None, None], energy[None, :, None], depth[None, None, :])
    return carry(track, grid[1], grid[0], grid[2], settings), jnp.broadcast_to(share, grid[0].shape)


def expected_photons(track: Track, settings: ModuleSettings) -> Float[Array, ""]:
    """Mean number of detected photons of a real track, whatever the time window, by numerical integration.

    Good to 1 % for 99 of 100 default tracks; worse for those that leave the plate through a side within its thickness.
    """
    arrival, share = survey(track, settings, n_azimuth=512, n_energy=17, n_depth=3)
    return candidate_mean(track, settings) * jnp.sum(jnp.where(arrival.is_accepted, share, 0))


def arrival_range_ns(track: Track, settings: ModuleSettings) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Earliest and latest time at which a photon of the track can reach the rows, after the bunch crossing.

    From a grid of photons; azimuths next to accepted ones count too, to make up for its steps. The earliest time is
    then too late by less than 0.17 ns for 99 of 100 default tracks, which is within the window's margin. A band of less
    than a step, 3 degrees, of azimuth may be missed; it has very few photons. A track without photons has its arrival
    at the plate for both.
    """
    arrival, _ = survey(track, settings)
    seen = arrival.is_accepted
    seen = (seen | jnp.roll(seen, 1, axis=0) | jnp.roll(seen, -1, axis=0)) & arrival.is_trapped
    earliest = jnp.min(jnp.where(seen, arrival.time_ns, jnp.inf))
    latest = jnp.max(jnp.where(seen, arrival.time_ns, -jnp.inf))
    any_seen = jnp.any(seen)
    return jnp.where(any_seen, earliest, track.arrival_ns), jnp.where(any_seen, latest, track.arrival_ns)
