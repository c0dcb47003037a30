"""Degradation of a dense pattern to what a detector sees: sparsify, smear, add_noise.

Everything here is for one event, `hits int[k, 3]` with `t = 0` in empty slots; use `jax.vmap` with one key per event
for a batch, so that an event's draw depends on nothing but its own key. Counts, widths and weights may be traced:
following a schedule does not recompile. Only capacities (`max_signal`, `max_noise`) and choices by name are static.
Draws are float32 whatever the precision, so runs at different precisions see the same events.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.array_types import Number
from tofae_jax.hits import is_hit

Range = tuple[Number, Number]
OVERFLOWS = ("drop", "clamp")
WIDTHS = ("sigma_x_pixels", "sigma_y_pixels", "sigma_t_bins")
SELECTIONS = ("random", "even")

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


class DegradationSettings(NamedTuple):
    """Numbers of the three steps. Each may be traced. Ranges are inclusive and drawn from anew for each event.

    Each width of the smearing is a number, or a range too.
    """

    n_signal: Range = (30, 30)
    """signal hits kept per event"""
    sigma_x_pixels: Number | Range = 0.0
    """smearing in x, in pixels"""
    sigma_y_pixels: Number | Range = 0.0
    """smearing in y, in pixels"""
    sigma_t_bins: Number | Range = 0.0
    """smearing in time, in bins"""
    n_noise: Range = (200, 200)
    """noise hits added per event"""
    noise: NoiseSettings = NoiseSettings()


class Degraded(NamedTuple):
    """One degraded event and all that is true of it."""

    hits: Int[Array, "*batch k 3"]
    """signal and noise hits, `max_signal + max_noise` slots"""
    is_signal: Bool[Array, "*batch k"]
    """which of them are signal"""
    sparse: Int[Array, "*batch s 3"]
    """the kept signal hits before smearing"""
    smeared: Int[Array, "*batch s 3"]
    """and after it"""
    n_pattern: Int[Array, "*batch"]
    """hits of the pattern"""
    n_kept: Int[Array, "*batch"]
    """signal hits kept by `sparsify`"""
    n_signal: Int[Array, "*batch"]
    """signal hits left after smearing (those smeared out of the detector are gone)"""
    n_noise: Int[Array, "*batch"]
    """noise hits added"""


def _draw_count(key: Array, bounds: Range) -> Int[Array, ""]:
    low, high = (jnp.asarray(bound, jnp.int32) for bound in bounds)
    return jax.random.randint(key, (), low, high + 1, dtype=jnp.int32)


def sparsify(
    key: Array, hits: Int[Array, "k 3"], *, n_signal: Range, max_signal: int, selection: str = "random"
) -> tuple[Int[Array, "s 3"], Int[Array, ""]]:
    """Keep `n` hits of an event, drawn uniformly without replacement.

    Args:
        key: random key of this event.
        hits: hits of the event, t = 0 in empty slots.
        n_signal: inclusive range that `n` is drawn from; an event with fewer hits keeps them all.
        max_signal: slots of the result; more are never kept.
        selection: `random`, or `even` for hits spaced evenly along the list (no draw but that of `n`).

    Returns:
        `(hits[max_signal, 3], n_kept)`, the kept hits first.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection must be one of {SELECTIONS}, got {selection!r}")
    key_count, key_order = jax.random.split(key)
    filled = is_hit(hits)
    n_hits = jnp.sum(filled, dtype=jnp.int32)
    slots = min(max_signal, hits.shape[0])
    n_kept = jnp.minimum(jnp.minimum(_draw_count(key_count, n_signal), n_hits), slots)
    rank = jnp.arange(slots, dtype=jnp.int32)
    if selection == "random":
        draw = jnp.where(filled, jax.random.uniform(key_order, filled.shape, jnp.float32), -1.0)
        _, index = jax.lax.top_k(draw, slots)
    else:
        # the middle of each of n_kept equal stretches; empty slots may stand anywhere, so number the filled ones first
        position = jnp.nonzero(filled, size=hits.shape[0], fill_value=0)[0]
        index = position[((2 * rank + 1) * n_hits) // (2 * jnp.maximum(n_kept, 1)) % hits.shape[0]]
    kept = jnp.where((rank < n_kept)[:, None], hits[index], 0)
    return jnp.pad(kept, ((0, max_signal - slots), (0, 0))), n_kept


def smear(
    key: Array,
    hits: Int[Array, "k 3"],
    *,
    shape_xyt: tuple[int, int, int],
    sigma_x_pixels: Number,
    sigma_y_pixels: Number,
    sigma_t_bins: Number,
    overflow: str = "drop",
) -> Int[Array, "k 3"]:
    """Gaussian smearing in x, y and t, rounded to pixels and bins; widths of 0 leave the hits as they are.

    A hit that leaves the detector or the time window is lost (`drop`: its slot becomes empty), or moved to the
    nearest pixel and bin inside (`clamp`).
    """
    if overflow not in OVERFLOWS:
        raise ValueError(f"overflow must be one of {OVERFLOWS}, got {overflow!r}")
    sigma = jnp.stack([jnp.asarray(s, jnp.float32) for s in (sigma_x_pixels, sigma_y_pixels, sigma_t_bins)])
    # floats until they are cut: a very wide draw would overflow an integer and come out on the other side
    moved = jnp.round(hits + sigma * jax.random.normal(key, hits.shape, jnp.float32))
    n_x, n_y, n_t = shape_xyt
    low, high = jnp.array([0, 0, 1], jnp.float32), jnp.array([n_x - 1, n_y - 1, n_t], jnp.float32)
    keep = is_hit(hits)
    if overflow == "drop":
        keep &= jnp.all((moved >= low) & (moved <= high), axis=-1)
    return jnp.where(keep[:, None], jnp.clip(moved, low, high).astype(hits.dtype), 0)


def _width(key: Array, number: int, name: str, width: Any) -> Number:
    """This event's width of a smearing. `fold_in`: where it is no range, all draws are what they are without ranges.

    ValueError for what is no width, as far as it is known before the program runs.
    """
    is_range = isinstance(width, tuple | list) or jnp.ndim(width) == 1
    ends: list[Any] = list(width) if is_range else [width]
    known = [float(end) for end in ends if not isinstance(end, Tracer)]
    if len(ends) not in (1, 2) or not all(0 <= end < math.inf for end in known) or known != sorted(known):
        raise ValueError(f"{name} must be a finite number from 0, or a range low <= high of them, got {width}")
    low, high = (jnp.asarray(end, jnp.float32) for end in (ends[0], ends[-1]))
    if not is_range:
        return low
    return low + (high - low) * jax.random.uniform(jax.random.fold_in(key, number))


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


def degrade(
    key: Array,
    hits: Int[Array, "k 3"],
    settings: DegradationSettings,
    background: Int[Array, "b 3"] | None = None,
    *,
    shape_xyt: tuple[int, int, int],
    max_signal: int,
    max_noise: int,
    overflow: str = "drop",
    selection: str = "random",
) -> Degraded:
    """Degrade one event: keep few signal hits, smear them, add noise. For a batch, `jax.vmap` over keys and hits.

    Args:
        key: random key of this event.
        hits: the pattern, t = 0 in empty slots.
        settings: numbers of the three steps; may be traced.
        background: hits that the event brought along, for the noise profile `data`; None: it has none.
        shape_xyt: pixel columns, pixel rows, time bins.
        max_signal: slots for signal hits; the largest `n_signal` that any schedule reaches.
        max_noise: slots for noise hits, likewise.
        overflow: `drop` or `clamp`, see `smear`.
        selection: `random` or `even`, see `sparsify`.
    """
    key_sparsify, key_smear, key_noise = jax.random.split(key, 3)
    hits = hits.astype(jnp.int32)
    sparse, n_kept = sparsify(
        key_sparsify, hits, n_signal=settings.n_signal, max_signal=max_signal, selection=selection
    )
    smeared = smear(
        key_smear,
        sparse,
        shape_xyt=shape_xyt,
        **{name: _width(key_smear, i, name, getattr(settings, name)) for i, name in enumerate(WIDTHS, start=1)},
        overflow=overflow,
    )
    noise, n_noise = add_noise(
        key_noise,
        background,
        n_noise=settings.n_noise,
        max_noise=max_noise,
        shape_xyt=shape_xyt,
        settings=settings.noise,
    )
    signal = is_hit(smeared)
    return Degraded(
        hits=jnp.concatenate([smeared, noise]),
        is_signal=jnp.concatenate([signal, jnp.zeros(max_noise, bool)]),
        sparse=sparse,
        smeared=smeared,
        n_pattern=jnp.sum(is_hit(hits), dtype=jnp.int32),
        n_kept=n_kept,
        n_signal=jnp.sum(signal, dtype=jnp.int32),
        n_noise=n_noise,
    )
