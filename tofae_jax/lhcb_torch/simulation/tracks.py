"""Charged tracks that cross the plate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax.lhcb_torch.module import ModuleSettings, check_number, check_settings
from tofae_jax.lhcb_torch.optics import LIGHT_MM_PER_NS, MASSES_GEV, beta


class Track(NamedTuple):
    """A straight track where it meets the plate, or several with a leading axis."""

    x_mm: Float[Array, "*n"]
    """impact point on the face z = 0, from the plate's centre"""
    y_mm: Float[Array, "*n"]
    """likewise"""
    slope_x: Float[Array, "*n"]
    """dx/dz"""
    slope_y: Float[Array, "*n"]
    """dy/dz"""
    momentum_gev: Float[Array, "*n"]
    """momentum in GeV/c"""
    particle: Int[Array, "*n"]
    """place in `PARTICLES`"""
    arrival_ns: Float[Array, "*n"]
    """when it meets the face z = 0, after the bunch crossing"""


def track_speed(track: Track) -> Float[Array, "*n"]:
    """Speed beta of a track, in units of c."""
    return beta(track.momentum_gev, jnp.array(MASSES_GEV, jnp.float32)[track.particle])


def length_per_z(track: Track) -> Float[Array, "*n"]:
    """Length of a track per length along z, `sqrt(1 + (dx/dz)^2 + (dy/dz)^2)`."""
    return jnp.sqrt(1 + track.slope_x**2 + track.slope_y**2)


def draw_tracks(key: Array, n: int, settings: ModuleSettings) -> Track:
    """`n` tracks, each uniform in impact point, slopes and momentum within the settings, type by weight.

    A track comes from a collision `flight_path_mm` away along z and flies straight at its speed; the collision's own
    time within the bunch crossing is normal with `bunch_sigma_ns`, for each track anew (at LHCb's pile-up most pairs of
    tracks stem from different collisions). Slopes do not depend on the impact point: the plate may be any module of
    the wall. Track `i` is a function of `(key, i)` only, so fewer tracks are the first ones of more.

    Raises ValueError for a setting that is not allowed, naming it.
    """
    check_settings(settings)
    check_number("n", n, 0, 2**31 - 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n, dtype=jnp.uint32))
    return jax.vmap(_draw_track, (0, None))(keys, settings)


def _draw_track(key: Array, settings: ModuleSettings) -> Track:
    key_uniform, key_time = jax.random.split(key)
    u = jax.random.uniform(key_uniform, (6,), jnp.float32)
    ranges = (settings.x_mm, settings.y_mm, settings.slope_x, settings.slope_y, settings.momentum_gev)
    x, y, slope_x, slope_y, momentum = (
        jnp.asarray(low, jnp.float32) + u[i] * (high - low) for i, (low, high) in enumerate(ranges)
    )
    share = jnp.cumsum(jnp.stack([jnp.asarray(w, jnp.float32) for w in settings.particle_weights]))
    particle = jnp.sum(u[5] * share[-1] >= share[:-1], dtype=jnp.int32)
    track = Track(x, y, slope_x, slope_y, momentum, particle, jnp.zeros((), jnp.float32))
    collision_ns = settings.bunch_sigma_ns * jax.random.normal(key_time, (), jnp.float32)
    speed = jnp.maximum(track_speed(track), 1e-6)  # a track at rest never arrives; it makes no photons either
    flight_ns = settings.flight_path_mm * length_per_z(track) / (speed * LIGHT_MM_PER_NS)
    return track._replace(arrival_ns=collision_ns + flight_ns)
