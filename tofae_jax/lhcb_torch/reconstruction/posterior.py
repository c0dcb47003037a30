"""What an event's hits are, over all tracks that explain it: tracks drawn around fits, weighed by their likelihood.

The search ends at the best fits of a softened density. The true one is narrow and has edges, so the best tracks lie
beside those fits, and no gradient leads to them. So tracks are drawn around the fits, as widely as the least squares
leave them open, the best are kept, and drawn around anew. Near a fit every hit's photon comes by the same few paths,
so only these are looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tofae_jax.core.detector import NO_HIT
from tofae_jax.core.types import Number
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.reconstruction import likelihood, mixture
from tofae_jax.lhcb_torch.reconstruction.likelihood import Grid, Places, all_paths
from tofae_jax.lhcb_torch.reconstruction.track_search import FINE, STEP_SCALES, log_ratios, normal_equations, within

SPREADS = (1.0, 0.7, 0.5)
"""how far tracks are drawn from the best ones, round by round, in standard deviations of the least squares"""
KEPT = 16
"""best tracks that others are drawn around"""
CHILDREN = 16
"""drawn around each"""
PATHS = 4
"""most likely ones of each hit; with all 28, F1 of 96 events is the same to four digits"""
_SEED = 2017


class _Tracks(NamedTuple):
    """Tracks, and what is known of each."""

    track: Float[Array, "n 6"]
    shape: Float[Array, "n 6 6"]
    """`shape.T @ shape` is the covariance of the fit that it comes from, in `STEP_SCALES`"""
    paths: Int[Array, "n k p"]
    log_likelihood: Float[Array, " n"]
    log_odds: Float[Array, "n k"]


def log_odds(
    fits: Float[Array, "n 6"],
    hits: Int[Array, "k 3"],
    grid: Grid,
    settings: ModuleSettings,
    *,
    noise: Array,
    time_sigma_ns: Number,
) -> Float[Array, " k"]:
    """Logarithm of each hit's chances, to be light of the event's track against noise.

    Args:
        fits: tracks as for `likelihood.photons`, from `search`.
        hits: of one event.
        grid: of the detector.
        settings: of the module.
        noise: density of noise hits, per mm, rad and ns.
        time_sigma_ns: resolution of a photon's time.
    """
    every = all_paths()
    is_hit = hits[:, 2] != NO_HIT

    def explained(track: Array, paths: Array) -> tuple[Array, Array]:
        light = likelihood.over_noise(
            track,
            hits,
            grid,
            settings,
            time_sigma_ns=time_sigma_ns,
            delays_ns=jnp.zeros(1, track.dtype),
            paths=jax.tree.map(lambda values: values[paths], every),
        )
        event = mixture.explain(light[None], is_hit, jnp.ones(1, bool))
        return event.log_likelihood, event.log_odds

    places = likelihood.places_of(hits, grid, settings)
    shape, paths = jax.vmap(lambda track: _surroundings(track, places, noise, settings))(fits)
    tracks = _best(_Tracks(fits, shape, paths, *jax.vmap(explained)(fits, paths)), KEPT)
    scales = jnp.asarray(STEP_SCALES, fits.dtype)

    def with_children(parents: _Tracks, drawn: tuple[Array, Array]) -> _Tracks:
        normal, spread = drawn
        moved = jnp.einsum("nmi,nij->nmj", normal, parents.shape) * spread * scales
        track = within((parents.track[:, None] + moved).reshape(-1, len(STEP_SCALES)), settings)
        shape, paths = (jnp.repeat(leaf, CHILDREN, axis=0) for leaf in (parents.shape, parents.paths))
        children = _Tracks(track, shape, paths, *jax.vmap(explained)(track, paths))
        return jax.tree.map(lambda old, new: jnp.concatenate([old, new]), parents, children)

    rng = np.random.default_rng(_SEED)
    normal = jnp.asarray(rng.normal(size=(len(SPREADS), len(tracks.track), CHILDREN, len(STEP_SCALES))), fits.dtype)
    spreads = jnp.asarray(SPREADS, fits.dtype)

    def a_round(parents: _Tracks, drawn: tuple[Array, Array]) -> tuple[_Tracks, None]:
        return _best(with_children(parents, drawn), len(parents.track)), None

    tracks, _ = jax.lax.scan(a_round, tracks, (normal[:-1], spreads[:-1]))
    tracks = with_children(tracks, (normal[-1], spreads[-1]))
    return _averaged(tracks)


def _best(tracks: _Tracks, n: int) -> _Tracks:
    _, order = jax.lax.top_k(tracks.log_likelihood, min(n, len(tracks.track)))
    return jax.tree.map(lambda leaf: leaf[order], tracks)


def _averaged(tracks: _Tracks) -> Float[Array, " k"]:
    """Log odds of the hits' mean chances over the tracks, by their likelihood."""
    weight = jax.nn.log_softmax(tracks.log_likelihood)[:, None]
    log_signal = jax.nn.logsumexp(weight + jax.nn.log_sigmoid(tracks.log_odds), axis=0)
    log_noise = jax.nn.logsumexp(weight + jax.nn.log_sigmoid(-tracks.log_odds), axis=0)
    return log_signal - log_noise


def _surroundings(
    track: Float[Array, " 6"], places: Places, noise: Array, settings: ModuleSettings
) -> tuple[Float[Array, "6 6"], Int[Array, "k p"]]:
    """In which directions tracks near a fit explain the event as well, and the paths of the hits."""
    normal, _ = normal_equations(track, places, FINE[-1], noise, settings)
    lower = jnp.linalg.cholesky(normal)
    shape = jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(STEP_SCALES), dtype=track.dtype), lower=True)
    ratios = log_ratios(track, places, all_paths(), FINE[0], noise, settings)
    return shape, jax.lax.top_k(ratios, PATHS)[1]
