"""Hits of LHCb TORCH scored blindly: a network guesses tracks, a search refines them, their light decides.

The closed form of a track's light (`reconstruction.likelihood`) tells its photons from noise nearly as well as can be,
but the track must be known. A network of hit lists (`hit_transformer`) learns where in the six numbers of a track -
impact point, slopes, arrival, speed - it may be, as a mixture of normal laws (Bishop, Mixture density networks, 1994),
and from there expectation-maximisation finds tracks that explain the hits of the highest scores
(`reconstruction.track_search`). Each hit's chance to be light of one like these (`reconstruction.posterior`) makes its
score, together with what the network alone thinks of it (`combined`), for a search may end at a wrong track.
`samples = 0` leaves the search out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tofae_jax.core.chunking import fitting, map_in_parts
from tofae_jax.core.detector import NO_HIT, TRACK_COLUMNS, TRUTH_COLUMNS
from tofae_jax.core.precision import at_least_float32
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.reconstruction import likelihood, posterior
from tofae_jax.lhcb_torch.reconstruction.likelihood import Grid
from tofae_jax.lhcb_torch.reconstruction.track_search import TRACKS_AT_A_TIME, search
from tofae_jax.models.hit_transformer import HitTransformer, rms_norm
from tofae_jax.models.interface import MOMENTUM, HitInput, Output

N_NUMBERS = 6
"""of a track: x, y, slopes, arrival, square root of 1 - beta"""
N_BELOW = N_NUMBERS * (N_NUMBERS - 1) // 2
ARRIVAL_NS, ARRIVAL_SPREAD_NS = -3.0, 3.0
"""mean and spread of arrivals from the start of the window, whose first photons come some ns after the track"""
LAG, LAG_SPREAD = 0.08, 0.06
"""likewise of sqrt(1 - beta)"""
SHARPEST = 20.0
"""reciprocal of the smallest width of a law, in spreads"""
MAX_LOG_ODDS = 4.0
"""log odds beyond which neither the search nor the network is surer"""
FINEST_CELLS = 50.0
"""length of the shortest wave at initialisation, in cells along the axis with most"""
_SEED = 2016


class Guesses(NamedTuple):
    """A mixture of normal laws over the normalised numbers of a track."""

    log_weight: Float[Array, "*b c"]
    mean: Float[Array, "*b c 6"]
    root: Float[Array, "*b c 6 6"]
    """lower triangular, the precision matrix is `root @ root.T`"""


def centre_and_spread(settings: ModuleSettings) -> tuple[np.ndarray, np.ndarray]:
    """By which a track's numbers are brought to order 1."""
    ranges = np.array([settings.x_mm, settings.y_mm, settings.slope_x, settings.slope_y], np.float32)
    centre = np.append(ranges.mean(axis=1), [ARRIVAL_NS, LAG])
    spread = np.append((ranges[:, 1] - ranges[:, 0]) / 2, [ARRIVAL_SPREAD_NS, LAG_SPREAD])
    return centre.astype(np.float32), np.maximum(spread, 1e-3).astype(np.float32)


def log_likelihood(guesses: Guesses, numbers: Float[Array, " 6"]) -> Float[Array, ""]:
    """Logarithm of the mixture's density at one track's normalised numbers."""
    away = jnp.einsum("cij,ci->cj", guesses.root, numbers - guesses.mean)
    log_root = jnp.sum(jnp.log(jnp.diagonal(guesses.root, axis1=-2, axis2=-1)), axis=-1)
    constant = -0.5 * N_NUMBERS * math.log(2 * math.pi)
    return jax.nn.logsumexp(guesses.log_weight + log_root + constant - 0.5 * jnp.sum(jnp.square(away), axis=-1))


def samples_of(guesses: Guesses, n: int) -> Float[Array, "n 6"]:
    """So many normalised tracks of one event's mixture, always the same: of each law by its weight."""
    ends = jnp.cumsum(jnp.exp(guesses.log_weight))
    law = jnp.searchsorted(ends / ends[-1], (jnp.arange(n) + 0.5) / n)
    inverse = jax.scipy.linalg.solve_triangular(
        guesses.root, jnp.broadcast_to(jnp.eye(N_NUMBERS), guesses.root.shape), lower=True
    )
    normal = jnp.asarray(np.random.default_rng(_SEED).normal(size=(n, N_NUMBERS)), jnp.float32)
    # the covariance is inverse.T @ inverse
    return guesses.mean[law] + jnp.einsum("nji,nj->ni", inverse[law], normal)


class Evidence(NamedTuple):
    """Log odds of every hit to be signal, by what they come from."""

    found: Float[Array, "b k"]
    """by the tracks that the search has found"""
    network: Float[Array, "b k"]
    """by the network alone"""


def combined(
    evidence: Evidence, is_hit: Bool[Array, "b k"], *, found_weight: float, network_weight: float, offset: float
) -> Array:
    """Log odds of hits by the tracks that were found, and by what the network makes of each, whatever was found.

    The first are right where the search has found the track, and sure of nonsense where it has not. Both are evidence,
    though not independent: the weights are those of a logistic regression on `bounded` of both.
    """
    found, network = bounded(evidence, is_hit)
    return found_weight * found + network_weight * network + offset


def bounded(evidence: Evidence, is_hit: Bool[Array, "b k"]) -> Evidence:
    """Neither surer than it may be; what the network expects of an event as a whole is taken out, as the search knows
    better how many hits are signal.
    """
    found, network = evidence
    n_hits = jnp.maximum(jnp.sum(is_hit, axis=1, keepdims=True, dtype=network.dtype), 1)
    share = jnp.sum(jnp.where(is_hit, jax.nn.sigmoid(network), 0), axis=1, keepdims=True) / n_hits
    excess = network - jax.scipy.special.logit(jnp.clip(share, 1e-3, 1 - 1e-3))
    return Evidence(MAX_LOG_ODDS * jnp.tanh(found / MAX_LOG_ODDS), jnp.clip(excess, -MAX_LOG_ODDS, MAX_LOG_ODDS))


class LhcbTorch(nn.Module, kw_only=True):
    """Hit lists to a logit per hit: whether it is light of one track. Order and empty slots change nothing."""

    shape_xyt: tuple[int, int, int]
    bin_ns: float
    module: ModuleSettings
    width: int
    hidden: int
    layers: int
    queries: int
    value_width: int
    event_width: int
    frequencies: int
    laws: int
    tracks_weight: float
    samples: int
    improved: int
    refined: int
    searched_hits: int
    time_sigma_ns: float
    found_weight: float
    network_weight: float
    offset: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    output_dtype: Any = jnp.float32

    def setup(self) -> None:
        """The network; the search has nothing to learn."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.trunk = HitTransformer(
            shape_xyt=self.shape_xyt,
            width=self.width,
            hidden=self.hidden,
            layers=self.layers,
            queries=self.queries,
            value_width=self.value_width,
            event_width=self.event_width,
            frequencies=self.frequencies,
            finest=FINEST_CELLS,
            **dtypes,
        )
        init = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        n_outputs = self.laws * (1 + 2 * N_NUMBERS + N_BELOW)
        self.tracks_in = nn.Dense(self.event_width, **dtypes)
        # the laws start at different places, or they would all learn the same
        self.tracks_out = nn.Dense(n_outputs, kernel_init=init, bias_init=nn.initializers.normal(0.7), **dtypes)

    def __call__(self, x: HitInput, train: bool = False) -> Output:
        """Score the hits: in training by the network alone, which learns the tracks as well."""
        logits, event = self.trunk.scored(x)
        logits = at_least_float32(logits)
        guesses = self._guesses(event)
        if train:
            return Output(hit_logits=logits.astype(self.output_dtype), extra_loss=self._surprise(guesses, x.truth))
        if self.samples and not self.is_initializing():
            evidence = Evidence(self._found(guesses, x.hits, logits), logits)
            weights = {"found_weight": self.found_weight, "network_weight": self.network_weight, "offset": self.offset}
            logits = combined(evidence, x.hits[..., 2] != NO_HIT, **weights)
        return Output(hit_logits=logits.astype(self.output_dtype))

    def evidence(self, x: HitInput) -> Evidence:
        """What the score of each hit is made of."""
        logits, event = self.trunk.scored(x)
        logits = at_least_float32(logits)
        return Evidence(self._found(self._guesses(event), x.hits, logits), logits)

    def _found(self, guesses: Guesses, hits: Int[Array, "b k 3"], scores: Float[Array, "b k"]) -> Float[Array, "b k"]:
        """Log odds of all events' hits, some events at a time."""
        n_together = max(min(self.samples, TRACKS_AT_A_TIME), min(self.samples, self.improved))
        bytes_each = 4 * n_together * min(self.searched_hits, hits.shape[1]) * likelihood.N_PATHS
        bytes_each = max(bytes_each, 4 * posterior.KEPT * posterior.CHILDREN * hits.shape[1] * posterior.PATHS)
        events = guesses, hits, scores
        return map_in_parts(lambda event: self._searched(*event), events, at_a_time=fitting(bytes_each))

    def _guesses(self, event: Float[Array, "b e"]) -> Guesses:
        """At least in float32."""
        found = at_least_float32(self.tracks_out(nn.relu(self.tracks_in(rms_norm(event)))))
        found = found.reshape(len(event), self.laws, -1)
        log_weight, mean, diagonal, below = jnp.split(found, [1, 1 + N_NUMBERS, 1 + 2 * N_NUMBERS], axis=-1)
        place = jnp.asarray(np.tril_indices(N_NUMBERS, -1))
        root = jnp.zeros((*found.shape[:2], N_NUMBERS, N_NUMBERS), found.dtype)
        root = root.at[..., place[0], place[1]].set(below)
        diagonal = jnp.minimum(jax.nn.softplus(diagonal + 1) + 0.05, SHARPEST)
        root = root + diagonal[..., None] * jnp.eye(N_NUMBERS, dtype=found.dtype)
        return Guesses(jax.nn.log_softmax(log_weight[..., 0], axis=-1), mean, root)

    def _surprise(self, guesses: Guesses, truth: Float[Array, "b n 8"] | None) -> Array | None:
        """Weighed mean over an event's true tracks of minus the logarithm of their density."""
        if truth is None:
            return None
        columns = (*TRACK_COLUMNS, *TRUTH_COLUMNS)
        places = [columns.index(name) for name in ("x_mm", "y_mm", "slope_x", "slope_y", "arrival_ns")]
        lag = jnp.sqrt(jnp.maximum(1 - truth[..., columns.index("speed")], 0))
        numbers = jnp.concatenate([truth[..., jnp.asarray(places)], lag[..., None]], axis=-1)
        centre, spread = centre_and_spread(self.module)
        is_track = truth[..., MOMENTUM] > 0
        numbers = jnp.where(is_track[..., None], (numbers - centre) / spread, 0)
        per_event = jax.vmap(jax.vmap(log_likelihood, (None, 0)))(guesses, numbers)
        n_tracks = jnp.maximum(jnp.sum(is_track, axis=1), 1)
        return -self.tracks_weight * jnp.sum(jnp.where(is_track, per_event, 0), axis=1) / n_tracks

    def _searched(self, guesses: Guesses, hits: Int[Array, "k 3"], scores: Float[Array, " k"]) -> Float[Array, " k"]:
        """Log odds of one event's hits by the tracks that explain it best; found by those with the highest scores."""
        settings, grid = self.module, Grid(self.shape_xyt, self.bin_ns)
        volume = likelihood.cell_size(grid, settings) * math.prod(self.shape_xyt)
        centre, spread = centre_and_spread(settings)
        numbers = samples_of(guesses, self.samples) * spread + centre
        tracks = jnp.concatenate([numbers[:, :5], 1 - jnp.square(numbers[:, 5:])], axis=-1)
        is_hit = hits[:, 2] != NO_HIT
        noise = jnp.maximum(jnp.sum(is_hit, dtype=jnp.float32), 1) / volume
        looked_at = jax.lax.top_k(jnp.where(is_hit, scores, -jnp.inf), min(self.searched_hits, len(hits)))[1]
        share = jnp.sum(is_hit[looked_at], dtype=jnp.float32) / jnp.maximum(jnp.sum(is_hit, dtype=jnp.float32), 1)
        places = likelihood.places_of(hits[looked_at], grid, settings)
        numbers_of_guesses = {"n_coarse": self.improved, "n_fine": self.refined}
        fits = search(tracks, places, settings, noise=noise * share, **numbers_of_guesses).tracks
        at_once = {"noise": noise, "time_sigma_ns": self.time_sigma_ns}
        return posterior.log_odds(fits, hits, grid, settings, **at_once)
