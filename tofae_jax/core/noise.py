"""Noise hits of one event, by named profile, drawn in the (x, y, t) cube."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tofae_jax.core.hits import is_hit
from tofae_jax.core.noise_limits import MAX_BURSTS, MAX_CLUSTERS, MAX_HOT_PIXELS
from tofae_jax.core.static_checks import CheckedFields, check_at_least, static_number
from tofae_jax.core.types import Number

Range = tuple[Number, Number]
Shape = tuple[int, int, int]


class _NoiseNumbers(NamedTuple):
    weights: tuple[Number, ...] | Array = (1.0,)
    """weight of each profile in the order of `NOISE_PROFILES`, in any unit; missing weights at the end are 0"""
    n_hot_pixels: Number = 10
    """pixels that fire too often, 1..64"""
    hot_pixel_seed: Number = 0
    """which pixels are hot: the same in every event, as they belong to the detector"""
    n_clusters: Number = 3
    """Gaussian clusters per event, 1..8"""
    cluster_sigma_pixels: Number = 3.0
    """width of a cluster in x and y [pixels]"""
    cluster_sigma_bins: Number = 20.0
    """width of a cluster in time [time bins]"""
    n_bursts: Number = 2
    """time bursts per event, 1..8"""
    burst_sigma_bins: Number = 5.0
    """width of a burst [time bins]"""


class NoiseSettings(CheckedFields, _NoiseNumbers):
    """Numbers of the noise profiles: their weights and sizes. Each may be traced; those that are not are checked.

    Raises:
        ValueError: a number is negative or not finite, or no weight is above 0.
    """

    __slots__ = ()

    def check(self) -> None:
        """Raise ValueError for a negative or infinite number, and where no weight is above 0."""
        weights = list(self.weights) if isinstance(self.weights, tuple | list) else []
        for weight in weights:
            check_at_least("weights", weight)
        known = [static_number(weight) for weight in weights]
        if known and all(weight == 0 for weight in known):
            raise ValueError(f"weights must hold one above 0, got {self.weights}")
        for name, value in zip(self._fields[1:], self[1:], strict=True):
            check_at_least(name, value)


class HitDraws(NamedTuple):
    """Uniform numbers in [0, 1) of each noise hit, from which every profile makes its hits."""

    x: Float[Array, " n"]
    y: Float[Array, " n"]
    t: Float[Array, " n"]
    site: Float[Array, " n"]
    """chooses among the sites of a profile that has several, such as clusters"""


class EventSites(NamedTuple):
    """Random cells of one event `(x, y, t)`, t from 0, about which profiles may place hits."""

    clusters: Float[Array, "_c 3"]
    """float[MAX_CLUSTERS, 3]"""
    bursts: Float[Array, "_b 3"]
    """float[MAX_BURSTS, 3]"""


Profile = Callable[[HitDraws, EventSites, Shape, NoiseSettings], Array]
"""`(draws, sites, shape_xyt, settings) -> int32[n, 3]`: cells (x, y, t) of the hits, each counted from 0"""


def draw_count(key: Array, bounds: Range) -> Int[Array, ""]:
    """Draw a count uniformly from an inclusive range."""
    low, high = (jnp.asarray(bound, jnp.int32) for bound in bounds)
    return jax.random.randint(key, (), low, high + 1, dtype=jnp.int32)


def _uniform_cell(u: Float[Array, " n"], n_cells: int) -> Int[Array, " n"]:
    """Return the cell 0..n_cells-1 of a uniform number in [0, 1)."""
    return jnp.minimum((u * n_cells).astype(jnp.int32), n_cells - 1)


def _gaussian_cell(u: Float[Array, " n"], centre: Float[Array, " n"], sigma: Number, n_cells: int) -> Int[Array, " n"]:
    """Return the cell of a Gaussian truncated to the detector, by its inverse distribution: no hit is lost."""
    sigma = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3)
    low = jax.scipy.special.ndtr((-0.5 - centre) / sigma)
    high = jax.scipy.special.ndtr((n_cells - 0.5 - centre) / sigma)
    z = jax.scipy.special.ndtri(jnp.clip(low + u * (high - low), 1e-7, 1 - 1e-7))
    return jnp.clip(jnp.round(centre + sigma * z), 0, n_cells - 1).astype(jnp.int32)


def _site_cells(u: Float[Array, "n 3"], shape_xyt: Shape) -> Float[Array, "n 3"]:
    return jnp.floor(u * jnp.array(shape_xyt, jnp.float32))


def _pick(u: Float[Array, " n"], n_used: Number, n_most: int) -> Int[Array, " n"]:
    """Return for each hit one of the first `n_used` of `n_most` sites."""
    n_used = jnp.clip(jnp.asarray(n_used, jnp.int32), 1, n_most)
    return jnp.minimum((u * n_used).astype(jnp.int32), n_used - 1)


def uniform(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits uniformly in x, y and t."""
    del sites, settings
    return jnp.stack([_uniform_cell(u, n) for u, n in zip(draws[:3], shape_xyt, strict=True)], -1)


def hot_pixels(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits on a few pixels that are the same in every event, uniformly in time."""
    del sites
    key = jax.random.key(jnp.asarray(settings.hot_pixel_seed, jnp.uint32))
    pixels = _site_cells(jax.random.uniform(key, (MAX_HOT_PIXELS, 3), jnp.float32), shape_xyt).astype(jnp.int32)
    own = pixels[_pick(draws.site, settings.n_hot_pixels, MAX_HOT_PIXELS)]
    return jnp.stack([own[:, 0], own[:, 1], _uniform_cell(draws.t, shape_xyt[2])], -1)


def clusters(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits by Gaussians in x, y and t about centres of this event."""
    centre = sites.clusters[_pick(draws.site, settings.n_clusters, MAX_CLUSTERS)]
    width = settings.cluster_sigma_pixels
    sigmas = (width, width, settings.cluster_sigma_bins)
    return jnp.stack([_gaussian_cell(draws[i], centre[:, i], sigmas[i], shape_xyt[i]) for i in range(3)], -1)


def gradient_x(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits with a density that rises linearly with x and is 0 at the edge x = 0."""
    return uniform(draws._replace(x=jnp.sqrt(draws.x)), sites, shape_xyt, settings)


def gradient_y(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits with a density that rises linearly with y and is 0 at the edge y = 0."""
    return uniform(draws._replace(y=jnp.sqrt(draws.y)), sites, shape_xyt, settings)


def time_bursts(draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings) -> Int[Array, "n 3"]:
    """Place hits uniformly in x and y, by Gaussians in time about moments of this event."""
    moment = sites.bursts[_pick(draws.site, settings.n_bursts, MAX_BURSTS)][:, 2]
    n_x, n_y, n_t = shape_xyt
    t = _gaussian_cell(draws.t, moment, settings.burst_sigma_bins, n_t)
    return jnp.stack([_uniform_cell(draws.x, n_x), _uniform_cell(draws.y, n_y), t], -1)


def event_background(
    draws: HitDraws, sites: EventSites, shape_xyt: Shape, settings: NoiseSettings
) -> Int[Array, "n 3"]:
    """Leave the slots empty (one bin before the first): `add_noise` fills them from the event's own background."""
    del sites, shape_xyt, settings
    return jnp.tile(jnp.array([0, 0, -1], jnp.int32), (draws.t.shape[0], 1))


BACKGROUND = "data"
"""profile whose hits are the background that an event brought along"""
NOISE_PROFILES: dict[str, Profile] = {
    "uniform": uniform,
    "hot_pixels": hot_pixels,
    "clusters": clusters,
    "gradient_x": gradient_x,
    "gradient_y": gradient_y,
    "time_bursts": time_bursts,
    BACKGROUND: event_background,
}
"""every noise profile by name; a new one goes to the end, where it leaves the draws of the others as they are"""


def _weights(weights: tuple[Number, ...] | Array) -> Float[Array, " p"]:
    """Return one weight per profile; ValueError where there are more."""
    given = jnp.stack([jnp.asarray(weight, jnp.float32) for weight in weights])
    missing = len(NOISE_PROFILES) - len(given)
    if missing < 0:
        raise ValueError(f"weights must be at most one per noise profile ({len(NOISE_PROFILES)}), got {len(given)}")
    return jnp.pad(given, (0, missing))


def _choose_profiles(u: Float[Array, " n"], weights: tuple[Number, ...] | Array) -> Int[Array, " n"]:
    """Return the place in `NOISE_PROFILES` of each hit's profile, drawn by weight."""
    weight = _weights(weights)
    below = jnp.cumsum(weight)
    # by the last profile in use: the sum of all may round differently when profiles of weight 0 follow,
    # and a product that rounds up to it must not choose one of these
    last = jnp.max(jnp.where(weight > 0, jnp.arange(len(weight), dtype=jnp.int32), 0))
    chosen = jnp.sum(u[:, None] * below[last] >= below[None], axis=-1, dtype=jnp.int32)
    return jnp.minimum(chosen, last)


def _shuffled(key: Array, hits: Int[Array, "b 3"], n: int) -> Int[Array, "n 3"]:
    """Return `n` slots with the hits in random order, all if they fit, the rest empty."""
    hits = jnp.pad(hits.astype(jnp.int32), ((0, max(0, n - hits.shape[0])), (0, 0)))
    draw = jnp.where(is_hit(hits), jax.random.uniform(key, hits.shape[:1], jnp.float32), -1.0)
    return hits[jax.lax.top_k(draw, n)[1]]


def add_noise(
    key: Array,
    background: Int[Array, "b 3"] | None = None,
    *,
    n_noise: Range,
    max_noise: int,
    shape_xyt: Shape,
    settings: NoiseSettings,
) -> tuple[Int[Array, "m 3"], Int[Array, ""]]:
    """Draw the noise hits of one event in the cube of x, y and t, before any flattening.

    Each hit takes a profile of `NOISE_PROFILES`, drawn by weight. Gaussians are truncated at the detector's edges, so
    that every noise hit counts. Hits of profile `data` are drawn from `background`, each used at most once.

    Args:
        key: random key of this event.
        background: hits [b, 3] that the event brought along, t = 0 in empty slots; None: it has none.
        n_noise: inclusive range that the number of noise hits is drawn from.
        max_noise: slots of the result; more are never drawn.
        shape_xyt: pixel columns, pixel rows, time bins.
        settings: weights and sizes of the profiles; may be traced.

    Returns:
        `(hits[max_noise, 3], n)`: t in 1..n_t, and the `n` hits that there are: fewer than drawn where `data` has not
        enough, whose slots stay empty.

    Raises:
        ValueError: more weights than profiles.
    """
    key_count, key_hits, key_sites = jax.random.split(key, 3)
    n = jnp.minimum(draw_count(key_count, n_noise), max_noise)
    # one large draw instead of one per profile: on CPU each further draw costs more to compile than to run
    u = jax.random.uniform(key_hits, (max_noise, 5), jnp.float32)
    draws = HitDraws(*(u[:, i] for i in range(1, 5)))
    centres = _site_cells(jax.random.uniform(key_sites, (MAX_CLUSTERS + MAX_BURSTS, 3), jnp.float32), shape_xyt)
    sites = EventSites(centres[:MAX_CLUSTERS], centres[MAX_CLUSTERS:])
    cells = jnp.stack([place(draws, sites, shape_xyt, settings) for place in NOISE_PROFILES.values()])
    profile = _choose_profiles(u[:, 0], settings.weights)
    hits = jnp.take_along_axis(cells, profile[None, :, None], axis=0)[0] + jnp.array([0, 0, 1], jnp.int32)
    if background is not None and background.shape[0] and max_noise:
        of_background = profile == list(NOISE_PROFILES).index(BACKGROUND)
        # fold_in: the draws of events without a background stay what they are
        order = _shuffled(jax.random.fold_in(key_sites, 1), background, max_noise)
        hits = jnp.where(of_background[:, None], order[jnp.cumsum(of_background) - 1], hits)
    hits = jnp.where((jnp.arange(max_noise) < n)[:, None], hits, 0)
    return hits, jnp.sum(is_hit(hits), dtype=jnp.int32)
