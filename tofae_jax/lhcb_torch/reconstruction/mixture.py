"""Light of tracks and noise in one event: how much of each there is, and whose each hit is."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

ITERATIONS = 8
FIRST_SHARE = 0.2
"""of the hits that are taken for signal at first"""
OUTLIERS = 0.04
"""share of a track's light that may be anywhere: the closed form has sharp edges, beyond which few photons stray.

On 512 simulated events of 30 signal and 200 uniform noise hits, tracks given, the scores' log loss is 0.121 without it,
0.074 with 0.01, 0.0715 with 0.02, 0.0698 with 0.04, 0.0710 with 0.08; F1 is 0.9325 with any."""
TINY = 1e-30


class Explained(NamedTuple):
    """What a mixture makes of an event."""

    log_odds: Float[Array, " k"]
    """of each hit: signal against noise; bounded below, as light may be anywhere"""
    log_likelihood: Float[Array, ""]
    """of all hits, against all of them being noise"""
    of_track: Float[Array, "n k"]
    """chance of each hit to be of each track, given that it is signal"""
    types: Float[Array, "n m"]
    """chance of each track to be of each type"""
    noise_share: Float[Array, ""]


def explain(
    densities: Float[Array, "n m k"],
    is_hit: Bool[Array, " k"],
    is_track: Bool[Array, " n"],
    *,
    log_prior: Float[Array, " m"] | None = None,
) -> Explained:
    """Shares of tracks and noise that explain an event best, by expectation-maximisation.

    Each hit is drawn from the light of one of the tracks, which is of one of its possible types, or from noise. How
    many hits each of them has is not known beforehand: events are thinned, and noise is what it is.

    Args:
        densities: of each hit in the light of each track as each type, over that of noise; both densities integrate
            to 1 over the detector.
        is_hit: which hits there are.
        is_track: which tracks.
        log_prior: logarithm of the chance of each type before anything is seen; None: all the same.
    """
    ratio = jnp.where(is_hit & is_track[:, None, None], (1 - OUTLIERS) * densities + OUTLIERS, 0)
    n_hits = jnp.maximum(jnp.sum(is_hit, dtype=ratio.dtype), 1)
    n_tracks, n_types, _ = densities.shape
    share = jnp.where(is_track, FIRST_SHARE / jnp.maximum(jnp.sum(is_track, dtype=ratio.dtype), 1), 0)
    before = jnp.zeros(n_types, ratio.dtype) if log_prior is None else log_prior.astype(ratio.dtype)
    types = jnp.broadcast_to(jax.nn.softmax(before), (n_tracks, n_types))

    def improve(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        share, types = state
        light, total = _light(ratio, share, types)
        rest = jnp.where(is_hit, total - light, 1.0)
        as_type = jnp.sum(jnp.where(is_hit, jnp.log(rest[:, None] + share[:, None, None] * ratio + TINY), 0), axis=-1)
        types = jax.nn.softmax(as_type + before, axis=-1)
        share = jnp.sum(jnp.where(is_hit, light / total, 0), axis=-1) / n_hits
        return (share, types), None

    # rematerialised for gradients: what an iteration needs is as large as the densities
    (share, types), _ = jax.lax.scan(jax.checkpoint(improve), (share, types), None, length=ITERATIONS)
    light, total = _light(ratio, share, types)
    noise = jnp.maximum(1 - jnp.sum(share), 1 / (10 * n_hits))
    signal = jnp.sum(light, axis=0)
    return Explained(
        log_odds=jnp.where(is_hit, jnp.log(signal + TINY) - jnp.log(noise), 0),
        log_likelihood=jnp.sum(jnp.where(is_hit, jnp.log(total), 0)),
        of_track=light / (signal + TINY),
        types=types,
        noise_share=noise,
    )


def _light(ratio: Array, share: Array, types: Array) -> tuple[Array, Array]:
    """Light of each track `[n, k]`, and all light with noise `[k]`, over the density of noise."""
    light = share[:, None] * jnp.einsum("nm,nmk->nk", types, ratio)
    # no event is free of noise to the last hit: a hit that nothing explains must not count for infinity
    noise = jnp.maximum(1 - jnp.sum(share), 1e-3)
    return light, jnp.sum(light, axis=0) + noise
