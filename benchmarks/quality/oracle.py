"""An oracle that knows the track, by the photons of its pattern.

Bayes' rule for each hit: the density of the signal, from the photons of the same track, over the density of noise. The
signal's is a kernel estimate over all photons of the event's pattern (some 2000 on LHCb TORCH), without the photon that
the hit itself was made of, or every signal hit would be known by its own place. Its bandwidths are chosen on validation
events. With noise drawn uniformly the density of noise is exactly one over the cells of the detector; other noise has
an estimate of it, from many background hits of other events, which knows nothing of this event's other tracks.

On LHCb TORCH two thousand photons are too few for the limit: see `simulated_oracle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from tofae_jax.core.detector import Detector
from tofae_jax.core.hits import is_hit

from .events import EventSet, padded
from .methods import HitScorer, grid
from .sources import MODULES, held_out

Density = Callable[[np.ndarray], np.ndarray]
"""log density of hits [..., 3] per cell, a cell being a pixel and a time bin"""

NAME = "oracle_kde"
UNEXPLAINED = 1e-6  # share of the signal that may be anywhere, so that a hit far from all photons has a finite score
SLOT_STEP = 512  # photons are padded to multiples of it: few shapes, few compilations
NOISE_EVENTS = 500  # that a density is estimated from: a million hits of other tracks
SMOOTHING = (4.0, 4.0, 10.0)  # sigma in columns, rows, bins: each such volume holds hundreds of them
UNIFORM_SHARE = 0.01  # of an estimated density, so that it is nowhere 0


@jax.jit
def _log_signal_density(
    hits: jax.Array, photon: jax.Array, patterns: jax.Array, bandwidths: jax.Array, n_cells: jax.Array
) -> jax.Array:
    """Kernel estimates [n, k] with Gaussian kernels of these widths in x, y, t."""
    log_height = -jnp.sum(jnp.log(jnp.sqrt(2 * jnp.pi) * bandwidths))

    def of_event(event: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        own_hits, own, pattern = event
        far = (own_hits[:, None] - pattern).astype(jnp.float32) / bandwidths
        others = is_hit(pattern) & (jnp.arange(len(pattern)) != own[:, None])
        n_others = jnp.maximum(jnp.sum(others, axis=1), 1)
        log_kernels = jnp.where(others, -0.5 * jnp.sum(far**2, axis=-1), -jnp.inf)
        log_density = jax.nn.logsumexp(log_kernels, axis=1) + log_height - jnp.log(n_others)
        return jnp.logaddexp(log_density, jnp.log(UNEXPLAINED / n_cells))

    return jax.lax.map(of_event, (hits, photon, patterns))


def log_signal_density(events: EventSet, *, x: float, y: float, t: float) -> np.ndarray:
    """Log density of the signal at each hit, [n, k], from its track's other photons; bandwidths in pixels and bins."""
    most = max((len(pattern) for pattern in events.patterns), default=0)
    patterns = padded(events.patterns, -(-max(most, 1) // SLOT_STEP) * SLOT_STEP)
    bandwidths, n_cells = np.array([x, y, t], np.float32), np.float32(np.prod(events.detector.shape))
    return np.asarray(_log_signal_density(events.hits, events.photon, patterns, bandwidths, n_cells))


def oracle(log_noise: Density) -> HitScorer:
    """The log ratio of both densities as a score."""

    def score(events: EventSet, **bandwidths: float) -> np.ndarray:
        ratio = log_signal_density(events, **bandwidths) - log_noise(events.hits)
        return np.where(events.filled, ratio, -np.inf)

    bandwidths = grid(x=(0.5, 1.0, 2.0, 4.0), y=(0.5, 1.0, 2.0, 4.0), t=(0.5, 1.0, 2.0, 4.0, 8.0))
    return HitScorer(NAME, score, bandwidths, compiles=True, settings_events=30)


def noise_density(name: str, *, seed: int, detector: Detector) -> Density:
    """Log density of the noise of a data set.

    `uniform` and dark counts: exact. Hot pixels: their shares, counted over other events, uniform in time. Other
    tracks, afterpulses: a histogram over x, y and t of the hits of other events, smoothed by a Gaussian.
    """
    origin = MODULES[name].origin if name in MODULES else None
    if origin in (None, "dark"):
        return partial(_uniform, n_cells=float(np.prod(detector.shape)))
    backgrounds = held_out(name, "noise", n_events=NOISE_EVENTS, seed=seed, detector=detector).backgrounds
    hits = np.concatenate([background.hits for background in backgrounds or ()])
    return of_pixels(hits, detector) if origin == "hot_pixel" else smoothed(hits, detector)


def _uniform(hits: np.ndarray, *, n_cells: float) -> np.ndarray:
    return np.full(hits.shape[:-1], -np.log(n_cells))


def _looked_up(hits: np.ndarray, *, log_density: np.ndarray) -> np.ndarray:
    """Values of a table [x, y, t - 1]; empty slots read any."""
    x, y, t = np.moveaxis(hits, -1, 0)
    return log_density[x, y, np.maximum(t, 1) - 1]


def histogram(hits: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Hits [m, 3] per column, row and time bin."""
    cells = np.ravel_multi_index((hits[:, 0], hits[:, 1], hits[:, 2] - 1), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)


def smoothed(hits: np.ndarray, detector: Detector) -> Density:
    """From noise hits [m, 3]: their histogram, smoothed, and a hundredth of it uniform."""
    counts = ndimage.gaussian_filter(histogram(hits, detector.shape).astype(np.float32), SMOOTHING)
    density = (1 - UNIFORM_SHARE) * counts / len(hits) + UNIFORM_SHARE / counts.size
    return partial(_looked_up, log_density=np.log(density))


def of_pixels(hits: np.ndarray, detector: Detector) -> Density:
    """From noise hits [m, 3] whose rates depend on the pixel alone: each pixel's share, and a hundredth uniform."""
    share = histogram(hits, detector.shape).sum(axis=2, keepdims=True) / len(hits)
    n_x, n_y, n_t = detector.shape
    density = ((1 - UNIFORM_SHARE) * share + UNIFORM_SHARE / (n_x * n_y)) / n_t
    return partial(_looked_up, log_density=np.broadcast_to(np.log(density), detector.shape))
