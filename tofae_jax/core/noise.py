"""Noise hits of one event, by named profile, drawn in the (x, y, t) cube."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax.core.hits import is_hit
from tofae_jax.core.types import Number

Range = tuple[Number, Number]

NOISE_PROFILES = ("uniform", "hot_pixels", "clusters", "gradient_x", "gradient_y", "time_bursts", "data")
# static capacities of what is drawn once per event or run; the settings choose how many of them are in use
MAX_HOT_PIXELS = 64
MAX_CLUSTERS = 8
MAX_BURSTS = 8


class NoiseSettings(NamedTuple):
    """Numbers of the noise profiles. Each may be traced."""

    weights: tuple[Number, ...] | Array = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    """share of each profile of `NOISE_PROFILES`, in any unit"""
    n_hot_pixels: Number = 10
    """pixels that fire too often, 1..64"""
    hot_pixel_seed: Number = 0
    """which pixels are hot: the same in every event, as they belong to the detector"""
    n_clusters: Number = 3
    """Gaussian clusters per event, 1..8"""
    cluster_sigma_pixels: Number = 3.0
    """width of a cluster in x and y, in pixels"""
    cluster_sigma_bins: Number = 20.0
    """width of a cluster in time, in bins"""
    n_bursts: Number = 2
    """time bursts per event, 1..8"""
    burst_sigma_bins: Number = 5.0
    """width of a burst, in bins"""


def _draw_count(key: Array, bounds: Range) -> Int[Array, ""]:
    low, high = (jnp.asarray(bound, jnp.int32) for bound in bounds)
    return jax.random.randint(key, (), low, high + 1, dtype=jnp.int32)


def _uniform_cell(u: Float[Array, " n"], n_cells: int) -> Int[Array, " n"]:
    """Cell 0..n_cells-1 of a uniform number in [0, 1)."""
    return jnp.minimum((u * n_cells).astype(jnp.int32), n_cells - 1)


def _normal_cell(u: Float[Array, " n"], centre: Float[Array, " n"], sigma: Number, n_cells: int) -> Int[Array, " n"]:
    """Cell of a normal law cut to the detector, by its inverse distribution: no hit is lost at the edges."""
    sigma = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3)
    low = jax.scipy.special.ndtr((-0.5 - centre) / sigma)
    high = jax.scipy.special.ndtr((n_cells - 0.5 - centre) / sigma)
    z = jax.scipy.special.ndtri(jnp.clip(low + u * (high - low), 1e-7, 1 - 1e-7))
    return jnp.clip(jnp.round(centre + sigma * z), 0, n_cells - 1).astype(jnp.int32)


def _sites(u: Float[Array, "n 3"], shape_xyt: tuple[int, int, int]) -> Float[Array, "n 3"]:
    return jnp.floor(u * jnp.array(shape_xyt, jnp.float32))


def _pick(u: Float[Array, " n"], n_used: Number, n_most: int) -> Int[Array, " n"]:
    """Which of the first `n_used` of `n_most` sites each hit belongs to."""
    n_used = jnp.clip(jnp.asarray(n_used, jnp.int32), 1, n_most)
    return jnp.minimum((u * n_used).astype(jnp.int32), n_used - 1)


def _shuffled(key: Array, hits: Int[Array, "b 3"], n: int) -> Int[Array, "n 3"]:
    """`n` slots with the hits in random order, all if they fit, the rest empty."""
    hits = jnp.pad(hits.astype(jnp.int32), ((0, max(0, n - hits.shape[0])), (0, 0)))
    draw = jnp.where(is_hit(hits), jax.random.uniform(key, hits.shape[:1], jnp.float32), -1.0)
    return hits[jax.lax.top_k(draw, n)[1]]


def _candidates(
    u: Float[Array, "n 5"], key_sites: Array, shape_xyt: tuple[int, int, int], settings: NoiseSettings
) -> Int[Array, "p n 3"]:
    """Each noise hit as each profile but `data` would have it, from its own uniform numbers."""
    n_x, n_y, n_t = shape_xyt
    u_x, u_y, u_t, u_site = (u[:, i] for i in range(1, 5))
    sites = _sites(jax.random.uniform(key_sites, (MAX_CLUSTERS + MAX_BURSTS, 3), jnp.float32), shape_xyt)
    hot_key = jax.random.key(jnp.asarray(settings.hot_pixel_seed, jnp.uint32))
    hot = _sites(jax.random.uniform(hot_key, (MAX_HOT_PIXELS, 3), jnp.float32), shape_xyt).astype(jnp.int32)
    hot = hot[_pick(u_site, settings.n_hot_pixels, MAX_HOT_PIXELS)]
    centre = sites[_pick(u_site, settings.n_clusters, MAX_CLUSTERS)]
    burst = sites[MAX_CLUSTERS + _pick(u_site, settings.n_bursts, MAX_BURSTS)]

    x, y, t = _uniform_cell(u_x, n_x), _uniform_cell(u_y, n_y), _uniform_cell(u_t, n_t)
    width = settings.cluster_sigma_pixels
    candidates = jnp.stack(
        [  # in the order of NOISE_PROFILES
            jnp.stack([x, y, t], -1),
            jnp.stack([hot[:, 0], hot[:, 1], t], -1),
            jnp.stack(
                [
                    _normal_cell(u_x, centre[:, 0], width, n_x),
                    _normal_cell(u_y, centre[:, 1], width, n_y),
                    _normal_cell(u_t, centre[:, 2], settings.cluster_sigma_bins, n_t),
                ],
                -1,
            ),
            jnp.stack([_uniform_cell(jnp.sqrt(u_x), n_x), y, t], -1),
            jnp.stack([x, _uniform_cell(jnp.sqrt(u_y), n_y), t], -1),
            jnp.stack([x, y, _normal_cell(u_t, burst[:, 2], settings.burst_sigma_bins, n_t)], -1),
        ]
    )
    return candidates + jnp.array([0, 0, 1], jnp.int32)


def add_noise(
    key: Array,
    background: Int[Array, "b 3"] | None = None,
    *,
    n_noise: Range,
    max_noise: int,
    shape_xyt: tuple[int, int, int],
    settings: NoiseSettings,
) -> tuple[Int[Array, "m 3"], Int[Array, ""]]:
    """Noise hits of one event, drawn in the cube of x, y and t before any flattening.

    Each hit takes a profile drawn by weight:
    `uniform` in x, y, t; `hot_pixels`: a few pixels that are the same in every event, any time; `clusters`: Gaussian
    in x, y and t about centres of this event; `gradient_x`, `gradient_y`: density rising linearly with x (with y), 0
    below the first pixel; `time_bursts`: uniform in x and y, Gaussian in time about moments of this event; `data`: hits
    of `background`, which the event brought along, each used at most once.
    Gaussian laws are cut at the detector's edges, so every noise hit counts. t lies in 1..n_t.

    Returns:
        `(hits[max_noise, 3], n)`: of the number drawn from the inclusive range `n_noise`, the `n` that there are: fewer
        where `data` has not enough, whose slots stay empty.
    """
    key_count, key_hits, key_sites = jax.random.split(key, 3)
    n = jnp.minimum(_draw_count(key_count, n_noise), max_noise)
    # one large draw instead of one per profile: on CPU each further draw costs more to compile than to run
    u = jax.random.uniform(key_hits, (max_noise, 5), jnp.float32)
    candidates = _candidates(u, key_sites, shape_xyt, settings)
    share = jnp.cumsum(jnp.stack([jnp.asarray(w, jnp.float32) for w in settings.weights]))
    n_drawn = candidates.shape[0]
    # rounding may reach the sum of all shares, and must not ask for a background that has none
    most = jnp.where(jnp.asarray(settings.weights[n_drawn]) > 0, n_drawn, n_drawn - 1)
    profile = jnp.minimum(jnp.sum(u[:, :1] * share[-1] >= share[None, :-1], axis=-1), most)
    hits = jnp.take_along_axis(candidates, jnp.minimum(profile, n_drawn - 1)[None, :, None], axis=0)[0]
    of_data = profile == n_drawn
    if background is not None and background.shape[0] and max_noise:
        # fold_in: the draws of events without a background stay what they are
        order = _shuffled(jax.random.fold_in(key_sites, 1), background, max_noise)
        hits = jnp.where(of_data[:, None], order[jnp.cumsum(of_data) - 1], hits)
    else:
        hits = jnp.where(of_data[:, None], 0, hits)
    hits = jnp.where((jnp.arange(max_noise) < n)[:, None], hits, 0)
    return hits, jnp.sum(is_hit(hits), dtype=jnp.int32)
