"""Finding a track from its hits among noise: from rough guesses to the best fits, by expectation-maximisation.

The true density (`likelihood`) is narrow and has edges, so that from a rough guess it shows no way. Here the spectrum
is a normal law in the refractive index, and that law and the time's are widened at first and narrowed step by step.
Each step takes every hit by its most likely path, weighs it by its chance to be signal, and solves the least squares of
lateness and index over the six numbers of the track (Gauss and Newton's method, damped).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tofae_jax.core.chunking import map_in_parts
from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.optics import MASSES_GEV
from tofae_jax.lhcb_torch.reconstruction import likelihood
from tofae_jax.lhcb_torch.reconstruction.likelihood import Paths, Places, all_paths, photons

STEP_SCALES = (30.0, 30.0, 0.015, 0.015, 0.3, 0.015)
"""how far the numbers of a track go in a damped step: mm, mm, slopes, ns, beta"""
LONGEST_STEP = 3.0
"""in these"""
DAMPING = 1.0
TRACKS_AT_A_TIME = 64
"""whose likelihoods are in memory together, with every path of every hit"""
MARGIN_MM, MARGIN_SLOPE, MARGIN_SPEED = 5.0, 0.02, 0.01
"""by which a fit may leave the range of the tracks"""

Widths = tuple[Number, Number]
GUESSED: Widths = (0.35, 0.04)
"""standard deviations in ns and in the refractive index by which guesses are judged"""
COARSE: tuple[Widths, ...] = ((0.35, 0.04), (0.25, 0.03), (0.18, 0.027))
"""likewise, step by step, while there are many; steps by wider laws, or more of them, lead away from the true track"""
FINE: tuple[Widths, ...] = ((0.15, 0.027), (0.1, 0.022), (0.085, 0.02), (0.085, 0.02))
"""likewise for the few best"""


class Found(NamedTuple):
    """Tracks that explain an event, the best first."""

    tracks: Float[Array, "n 6"]
    log_likelihood: Float[Array, " n"]
    """by the last step's widths"""


def log_ratios(
    track: Float[Array, " 6"], places: Places, paths: Paths, widths: Widths, noise: Array, settings: ModuleSettings
) -> Float[Array, "k p"]:
    """Logarithm of the softened density of each hit by each path over `noise`, per mm, rad and ns."""
    sigma_ns, sigma_index = widths
    each = jax.tree.map(lambda column: column[:, None], places)
    photon = photons(track, each, paths, settings)
    fits, _ = likelihood.spectrum_of(settings)
    exponent = jnp.square(photon.late_ns / sigma_ns) + jnp.square((photon.index - fits.mean_index) / sigma_index)
    brightness = likelihood.photons_per_ev(track, settings) * fits.width_ev
    constant = jnp.log(brightness / noise / (sigma_ns * sigma_index * (2 * math.pi) ** 2))
    solid = photon.unit**3 * photon.index / (photon.along_mm * jnp.maximum(photon.cosine, likelihood.SMALLEST_COSINE))
    solid = solid * (1 + each.tan_theta**2) * jnp.clip(1 - photon.cosine**2, 0.01, 1)
    return jnp.where(each.is_hit, constant + jnp.log(solid) - 0.5 * exponent, -jnp.inf)


def soft_log_likelihood(
    track: Float[Array, " 6"], places: Places, widths: Widths, noise: Array, settings: ModuleSettings
) -> Float[Array, ""]:
    """How much better a track explains the event than noise alone, by the softened density."""
    ratios = log_ratios(track, places, all_paths(), widths, noise, settings)
    return jnp.sum(jax.nn.softplus(jax.nn.logsumexp(ratios, axis=-1)))


def normal_equations(
    track: Float[Array, " 6"], places: Places, widths: Widths, noise: Array, settings: ModuleSettings
) -> tuple[Float[Array, "6 6"], Float[Array, " 6"]]:
    """Matrix and gradient of the damped least squares of the hits that the track may have made, in `STEP_SCALES`."""
    paths = all_paths()
    ratios = log_ratios(track, places, paths, widths, noise, settings)
    best = jnp.argmax(ratios, axis=-1)
    weight = jax.nn.sigmoid(jnp.take_along_axis(ratios, best[:, None], axis=1)[:, 0])
    weight = jnp.where(places.is_hit, weight, 0)
    taken = jax.tree.map(lambda values: values[best], paths)
    fits, _ = likelihood.spectrum_of(settings)
    scales = jnp.asarray(STEP_SCALES, track.dtype)

    def residuals(moved: Array) -> tuple[Array, Array]:
        photon = photons(track + moved * scales, places, taken, settings)
        r = jnp.stack([photon.late_ns / widths[0], (photon.index - fits.mean_index) / widths[1]])
        return r, r

    slopes, r = jax.jacfwd(residuals, has_aux=True)(jnp.zeros_like(track))
    weighted = slopes * weight[:, None]
    normal = jnp.einsum("rki,rkj->ij", weighted, slopes, precision="highest") + DAMPING * jnp.eye(6)
    gradient = jnp.einsum("rki,rk->i", weighted, r, precision="highest")
    return normal, gradient


def step(
    track: Float[Array, " 6"], places: Places, widths: Widths, noise: Array, settings: ModuleSettings
) -> Float[Array, " 6"]:
    """One step of expectation-maximisation towards the hits that the track may have made."""
    normal, gradient = normal_equations(track, places, widths, noise, settings)
    scales = jnp.asarray(STEP_SCALES, track.dtype)
    moved = -jnp.linalg.solve(normal, gradient)
    return within(track + jnp.clip(moved, -LONGEST_STEP, LONGEST_STEP) * scales, settings)


def within(track: Float[Array, "*n 6"], settings: ModuleSettings) -> Float[Array, "*n 6"]:
    """A track brought back to what the settings can draw, with a little margin."""
    slowest = settings.momentum_gev[0] / math.hypot(settings.momentum_gev[0], MASSES_GEV[-1])
    far = 10 * settings.height_mm / 300  # ns; no light takes longer
    ranges = (
        (settings.x_mm, MARGIN_MM),
        (settings.y_mm, MARGIN_MM),
        (settings.slope_x, MARGIN_SLOPE),
        (settings.slope_y, MARGIN_SLOPE),
        ((-far, far), 0.0),
        ((max(slowest - MARGIN_SPEED, MARGIN_SPEED), 1.0), 0.0),
    )
    low, high = (jnp.asarray([r[i] + sign * m for r, m in ranges], track.dtype) for i, sign in ((0, -1), (1, 1)))
    return jnp.clip(track, low, high)


def search(
    guesses: Float[Array, "s 6"],
    places: Places,
    settings: ModuleSettings,
    *,
    noise: Array,
    n_coarse: int,
    n_fine: int,
) -> Found:
    """The best fits from many guesses of one event.

    Args:
        guesses: tracks as for `likelihood.photons`.
        places: the event's hits.
        settings: of the module.
        noise: density of noise hits, per mm, rad and ns.
        n_coarse: guesses that are improved, the best ones.
        n_fine: fits that are then refined, the best ones.
    """

    def best(tracks: Array, widths: Widths, n: int) -> Found:
        def likelihood_of(track: Array) -> Array:
            return soft_log_likelihood(track, places, widths, noise, settings)

        likely = map_in_parts(likelihood_of, tracks, at_a_time=TRACKS_AT_A_TIME)
        likely, order = jax.lax.top_k(likely, min(n, len(tracks)))
        return Found(tracks[order], likely)

    def improved(tracks: Array, schedule: tuple[Widths, ...]) -> Array:
        def of_widths(tracks: Array, widths: Array) -> tuple[Array, None]:
            one_step = jax.vmap(lambda track: step(track, places, (widths[0], widths[1]), noise, settings))
            return one_step(tracks), None

        # one program in a loop, not one after the other: less to compile
        return jax.lax.scan(of_widths, tracks, jnp.asarray(schedule, tracks.dtype))[0]

    tracks = best(within(guesses, settings), GUESSED, n_coarse).tracks
    tracks = best(improved(tracks, COARSE), COARSE[-1], n_fine).tracks
    return best(improved(tracks, FINE), FINE[-1], n_fine)
