"""Hits of LHCb TORCH scored given the tracks: the likelihood of the module, and what is left to learn.

The tracking system knows each track's impact point, slopes and momentum before TORCH is read. With these and a particle
type the light of a track is known in closed form (`reconstruction.likelihood`); which type it is, when exactly its
collision was and how many hits each track and the noise have is found in each event by expectation-maximisation
(`reconstruction.mixture`), each type and collision time being one hypothesis of a track. So this model works before any
training. What it can learn is where noise is likely, which is taken for uniform at first, and how sure to be.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.core.chunking import fitting, map_in_parts
from tofae_jax.core.detector import NO_HIT
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.sincos import sincos
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.optics import LIGHT_MM_PER_NS, MASSES_GEV, beta
from tofae_jax.lhcb_torch.reconstruction import likelihood, mixture
from tofae_jax.lhcb_torch.reconstruction.likelihood import Grid
from tofae_jax.models.interface import MOMENTUM, HitInput, Output

MOST_SIGMAS = 3.0
"""of the collision's time, that are tried"""
DELAYS_PER_SIGMA = 1.25
"""times tried per time resolution"""
OCTAVES = 4
"""waves in x, y and t by which the density of noise is learnt, each half as long as the one before"""
MAX_LOG_ODDS = 15.0
"""log odds beyond which no hit is surer"""
MARGIN_MM = 20.0
"""by which an impact point may miss the plate: its resolution, and slopes times the plate's thickness"""
NOBODY = -1
"""in place of a track, where an event has none"""
SMALLEST_MOMENTUM_GEV = 1e-3


def collision_delays(sigma_ns: float, time_sigma_ns: float) -> tuple[np.ndarray, np.ndarray]:
    """Times that a collision is tried at, from the expected one in ns, and the logarithm of their chances."""
    n = 2 * math.ceil(MOST_SIGMAS * sigma_ns / time_sigma_ns * DELAYS_PER_SIGMA) + 1
    sigmas = np.linspace(-MOST_SIGMAS, MOST_SIGMAS, n) if n > 1 else np.zeros(1)
    chance = np.exp(-0.5 * sigmas**2)
    return (sigmas * sigma_ns).astype(np.float32), np.log(chance / chance.sum()).astype(np.float32)


def hypotheses(
    track: Float[Array, " 6"], hits: Int[Array, "k 3"], grid: Grid, settings: ModuleSettings, *, time_sigma_ns: float
) -> Float[Array, "m k"]:
    """Densities of each hit in a track's light, over uniform noise: of each type, and of each collision time in it.

    `track` holds `TRACK_COLUMNS`.
    """
    delays, _ = collision_delays(float(settings.bunch_sigma_ns), time_sigma_ns)
    length = jnp.sqrt(1 + track[2] ** 2 + track[3] ** 2)

    def of_type(mass_gev: Array) -> Array:
        speed = beta(jnp.maximum(track[MOMENTUM], SMALLEST_MOMENTUM_GEV), mass_gev)
        arrival = track[5] + settings.flight_path_mm * length / (speed * LIGHT_MM_PER_NS)
        known = jnp.concatenate([track[:4], jnp.stack([arrival, speed])])
        return likelihood.over_noise(
            known, hits, grid, settings, time_sigma_ns=time_sigma_ns, delays_ns=jnp.asarray(delays)
        )

    return jax.vmap(of_type)(jnp.asarray(MASSES_GEV, jnp.float32)).reshape(-1, len(hits))


class LhcbTorchTracks(nn.Module, kw_only=True):
    """Hit lists and tracks to a logit per hit, whether it is of one of the tracks, and of which."""

    shape_xyt: tuple[int, int, int]
    bin_ns: float
    module: ModuleSettings
    time_sigma_ns: float
    width: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: HitInput, train: bool = False) -> Output:
        """Score the hits; training and inference compute the same."""
        grid = Grid(self.shape_xyt, self.bin_ns)
        is_hit, is_track = x.hits[..., 2] != NO_HIT, x.tracks[..., MOMENTUM] > 0

        _, log_chance = collision_delays(float(self.module.bunch_sigma_ns), self.time_sigma_ns)
        log_prior = jnp.tile(jnp.asarray(log_chance), len(MASSES_GEV))

        def of_event(event: tuple[Array, ...]) -> mixture.Explained:
            hits, tracks, noisier, is_hit, is_track = event
            densities = jax.vmap(
                lambda track: hypotheses(track, hits, grid, self.module, time_sigma_ns=self.time_sigma_ns)
            )(tracks)
            return mixture.explain(densities * jnp.exp(-noisier), is_hit, is_track, log_prior=log_prior)

        noisier = at_least_float32(self._mlp(self._places(x.hits), "noise"))
        events = (x.hits, x.tracks, noisier, is_hit, is_track & self._crosses_the_plate(x.tracks))
        bytes_each = 4 * x.tracks.shape[1] * len(log_prior) * x.hits.shape[1]
        explained = map_in_parts(of_event, events, at_a_time=fitting(bytes_each))
        odds = jnp.clip(explained.log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
        n_hits = jnp.sum(is_hit, axis=1, dtype=odds.dtype)
        event = jnp.stack([jnp.log1p(n_hits), explained.noise_share], axis=-1)
        known = jnp.concatenate(
            [
                jnp.stack([odds / MAX_LOG_ODDS, jnp.tanh(odds / 4)], axis=-1),
                jnp.broadcast_to(event[:, None], (*odds.shape, 2)),
            ],
            axis=-1,
        )
        logits = odds + at_least_float32(self._mlp(known.astype(self.dtype), "surer"))
        owner = jnp.argmax(explained.of_track, axis=1).astype(jnp.int32)
        return Output(
            hit_logits=logits.astype(self.output_dtype),
            tracks=jnp.where(jnp.any(explained.of_track > 0, axis=1), owner, NOBODY),
        )

    def _crosses_the_plate(self, tracks: Float[Array, "b n 6"]) -> Bool[Array, "b n"]:
        """Tracks of other modules leave no light here."""
        within = jnp.abs(tracks[..., 0]) <= self.module.width_mm / 2 + MARGIN_MM
        return within & (jnp.abs(tracks[..., 1]) <= self.module.height_mm / 2 + MARGIN_MM)

    def _mlp(self, x: Float[Array, "b k f"], name: str) -> Float[Array, "b k"]:
        """A correction that is nothing at first."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        hidden = nn.relu(nn.Dense(self.width, name=f"{name}_in", **dtypes)(x))
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name=f"{name}_out", **dtypes)(hidden)[..., 0]

    def _places(self, hits: Int[Array, "b k 3"]) -> Float[Array, "b k f"]:
        """Places in -1..1, and slow waves of them."""
        places = hits.astype(jnp.float32) / jnp.asarray([n / 2 for n in self.shape_xyt], jnp.float32) - 1
        waves = [math.pi / 2 * 2**i * places for i in range(OCTAVES)]
        features = [places, *(wave for phase in waves for wave in sincos(phase))]
        return jnp.concatenate(features, axis=-1).astype(self.dtype)
