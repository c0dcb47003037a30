"""An oracle with so many photons of the track that it comes near the limit, for LHCb TORCH.

The two thousand photons of a pattern leave a kernel estimate of the signal's density rough: with independent photons of
the same track its F1 at 30 signal and 200 uniform noise hits, best threshold and bandwidths, rises from 0.90 (2000)
over 0.93 (10,000) and 0.94 (40,000) to 0.95 (400,000), on 40 to 60 events.
Here some 100,000 are simulated anew for each event's track, its type and window known, so that none of them is a hit
of the event. They are counted in the cells of the detector, and Gaussian kernels that end at four sigma gather the
counts around each hit.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.lhcb_torch.simulation import ModuleSettings, Slots, Track, choose_slots, simulate_track

from .events import EventSet
from .methods import HitScorer, grid
from .oracle import UNEXPLAINED, Density, histogram

NAME = "oracle_simulated"
TIMES_DENSE = 50  # photons of a dense pattern
REACH_SIGMAS = 4
PHOTON_SEED = 7  # apart from all keys of events: these photons are no hits of any


def simulated_oracle(log_noise: Density) -> HitScorer:
    """The log ratio of the signal's and the noise's density as a score. Photons of a track are simulated once."""
    photons = cache(_photons)

    def score(events: EventSet, **bandwidths: float) -> np.ndarray:
        ratio = np.full(events.filled.shape, -np.inf)
        for row, filled in enumerate(events.filled):
            track, window_start_ns, module = _known(events, row)
            own = photons(track, window_start_ns, module, events.detector)
            hits = events.hits[row][filled]
            ratio[row][filled] = log_density(hits, own, events.detector, **bandwidths) - log_noise(hits)
        return ratio

    bandwidths = grid(x=(0.3, 0.75), y=(0.3, 0.75), t=(1.0, 2.0, 4.0))
    return HitScorer(NAME, score, bandwidths, compiles=True, settings_events=20)


def _known(events: EventSet, row: int) -> tuple[tuple[float, ...], float, ModuleSettings]:
    """Track, start of the window and settings of an event's simulation; ValueError where they are not known."""
    if events.module is None or events.window_start_ns is None:
        raise ValueError(f"{NAME} is for simulated LHCb TORCH alone")
    track = tuple(events.tracks[name][row].item() for name in Track._fields)
    return track, float(events.window_start_ns[row]), events.module


def _photons(
    track: tuple[float, ...], window_start_ns: float, module: ModuleSettings, detector: Detector
) -> np.ndarray:
    """Photons of a track, int16[m, 3]."""
    values: list[Any] = [np.float32(value) for value in track]
    values[Track._fields.index("particle")] = np.int32(track[Track._fields.index("particle")])
    hits = np.asarray(
        _simulated(
            Track(*values),
            np.float32(window_start_ns),
            module,
            shape_xyt=detector.shape,
            bin_ns=detector.bin_ns,
            slots=_slots(module),
        )
    )
    return hits[hits[:, 2] > 0].astype(np.int16)


@cache
def _slots(module: ModuleSettings) -> Slots:
    return choose_slots(module, scale=TIMES_DENSE * float(module.dense_factor))


@partial(jax.jit, static_argnames=("shape_xyt", "bin_ns", "slots"))
def _simulated(
    track: Track,
    window_start_ns: jax.Array,
    module: ModuleSettings,
    *,
    shape_xyt: tuple[int, int, int],
    bin_ns: float,
    slots: Slots,
) -> jax.Array:
    # the key may be the same for all tracks: each event is scored by its own photons alone
    grid_of = {"shape_xyt": shape_xyt, "bin_ns": bin_ns}
    scale = TIMES_DENSE * module.dense_factor
    key = jax.random.key(PHOTON_SEED)
    return simulate_track(key, track, module, window_start_ns=window_start_ns, **grid_of, slots=slots, scale=scale).hits


def log_density(
    hits: np.ndarray, photons: np.ndarray, detector: Detector, *, x: float, y: float, t: float
) -> np.ndarray:
    """Log density per cell at hits [k, 3], from photons [m, 3] and kernels of these widths in pixels and bins."""
    kernels, reach = [], []
    for width in (x, y, t):
        reach.append(int(np.ceil(REACH_SIGMAS * width)))
        kernel = np.exp(-0.5 * (np.arange(-reach[-1], reach[-1] + 1) / width) ** 2)
        kernels.append((kernel / kernel.sum()).astype(np.float32))
    counts = np.pad(histogram(photons, detector.shape).astype(np.uint16), [(r, r) for r in reach])
    columns, rows, bins = (
        place[:, None] + np.arange(2 * r + 1) for place, r in zip((hits - (0, 0, 1)).T, reach, strict=True)
    )
    around = counts[columns[:, :, None, None], rows[:, None, :, None], bins[:, None, None, :]].astype(np.float32)
    density = np.einsum("kxyt,x,y,t->k", around, *kernels) / max(len(photons), 1)
    return np.log((1 - UNEXPLAINED) * density + UNEXPLAINED / counts.size)
