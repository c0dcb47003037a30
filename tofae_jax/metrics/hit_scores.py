"""Scores of hits against the truth: how well they are calibrated, and which cuts on them give what.

Hits are counted in cells of their score and of how far their time is from the network's own (`time_error`, in bins; 0
for models that give no time). Cells are evenly spaced in the logit of the score, so that they are fine where scores are
near 0 and 1. All that depends on the scores follows from these counts, for any cut, without the events.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tofae_jax.core.precision import at_least_float32
from tofae_jax.metrics.confusion import fraction

LOGIT_LIMIT = 12.0
LOGIT_STEP = 0.05
N_SCORES = round(2 * LOGIT_LIMIT / LOGIT_STEP) + 1
"""cell 0 holds what lies below the lowest edge, cell i > 0 the scores from edge i - 1 on"""
TIME_EDGES = (0.5, 1.5, 2.5, 4.5, 7.5, 10.5, 15.5, 20.5, 30.5, 45.5, 60.5, 90.5, 130.5, 200.5)
"""of the time errors, in bins; the last cell holds all beyond"""
N_RELIABILITY = 20
_ROWS = 64

Aim = Literal["f1", "efficiency", "purity"]
AIMS = ("f1", "efficiency", "purity")


class ScoreSums(NamedTuple):
    """Hits counted by score and time error, `[N_SCORES, len(TIME_EDGES) + 1]` each."""

    signal: Any
    noise: Any
    n_signal: Any
    """all signal hits, those included that the model was not shown"""


class OperatingPoint(NamedTuple):
    """A cut on the scores, and perhaps on times, and what it gives on the hits that it was chosen on."""

    score_threshold: float
    """hits of at least this score are kept"""
    tof_tolerance_bins: float
    """if their time errs by at most this; infinite: by anything"""
    efficiency: float
    purity: float
    f1: float
    reached: bool
    """whether the minimum efficiency or purity was reached; if not, this is the nearest to it"""


def score_edges() -> np.ndarray:
    """Lower edge of each cell of scores but the lowest, which begins at 0; float64[N_SCORES - 1], rising."""
    return 1 / (1 + np.exp(LOGIT_LIMIT - LOGIT_STEP * np.arange(N_SCORES - 1)))


def score_sums(
    score: Float[Array, "batch k"],
    time_error: Float[Array, "batch k"],
    is_signal: Bool[Array, "batch k"],
    is_scored: Bool[Array, "batch k"],
    is_event: Bool[Array, " batch"],
) -> ScoreSums:
    """Counts of a batch.

    Args:
        score: of each hit, in [0, 1]; what lies outside counts as 0 or 1, NaN as 0.
        time_error: distance of the hit's time from the network's, in bins; 0 where the network gives no time.
        is_signal: which hits are signal.
        is_scored: which hits the model was shown; the others count in `n_signal` alone.
        is_event: False for filling.
    """
    p = jnp.nan_to_num(at_least_float32(score), nan=0.0)
    logit = jnp.log(jnp.maximum(p, 1e-30)) - jnp.log(jnp.maximum(1 - p, 1e-30))
    row = jnp.floor((logit + LOGIT_LIMIT) / LOGIT_STEP + 1)
    row = jnp.clip(row, 0, N_SCORES - 1).astype(jnp.int32)
    column = jnp.searchsorted(jnp.asarray(TIME_EDGES, jnp.float32), at_least_float32(time_error)).astype(jnp.int32)
    n_columns = len(TIME_EDGES) + 1
    counted = is_scored & is_event[:, None]
    kind = jnp.where(is_signal, 0, 1)
    # neighbouring events have tables of their own: many hits share a cell, and on a GPU would wait for each other
    table = jnp.arange(len(score), dtype=jnp.int32)[:, None] % _ROWS
    size = 2 * N_SCORES * n_columns
    cell = table * size + (kind * N_SCORES + row) * n_columns + column
    cell = jnp.where(counted, cell, _ROWS * size)
    counts = jnp.zeros(_ROWS * size, jnp.int32).at[cell.reshape(-1)].add(1, mode="drop")
    signal, noise = jnp.sum(counts.reshape(_ROWS, 2, N_SCORES, n_columns), axis=0, dtype=jnp.int32)
    return ScoreSums(signal, noise, jnp.sum(is_signal & is_event[:, None], dtype=jnp.int32))


def no_scores() -> ScoreSums:
    """Sums of no hits, on the host."""
    nothing = np.zeros((N_SCORES, len(TIME_EDGES) + 1), np.int64)
    return ScoreSums(nothing, nothing, np.int64(0))


def kept_counts(sums: ScoreSums) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise hits kept by each cut: `[i, j]` is a score of at least edge `i` and a time error of at most `j`.

    `int64[N_SCORES - 1, n_times]` each; the last time cell allows any time.
    """
    signal, noise = (
        np.cumsum(np.cumsum(np.asarray(counts, np.int64)[::-1], axis=0)[::-1], axis=1)[1:] for counts in sums[:2]
    )
    return signal, noise


def choose_operating_point(
    sums: ScoreSums,
    *,
    aim: str = "f1",
    minimum: float | None = None,
    tune_times: bool = False,
    n_t: float = math.inf,
) -> OperatingPoint:
    """The cut that serves an aim best, on the hits that were counted.

    Args:
        sums: merged counts.
        aim: `f1`: highest F1; `efficiency`: highest purity at no less than the minimum efficiency; `purity`: highest
            efficiency at no less than the minimum purity.
        minimum: in (0, 1]; needed for the last two, where the nearest is taken if nothing reaches it.
        tune_times: cut on times too.
        n_t: time bins of the detector; a tolerance of as many or more would cut nothing, and is none.

    Raises:
        ValueError: an unknown aim, or no `minimum` in (0, 1] where one is needed.
    """
    if aim not in AIMS:
        raise ValueError(f"aim must be one of {AIMS}, got {aim!r}")
    least = 0.0 if minimum is None else minimum
    if aim != "f1" and not 0 < least <= 1:
        raise ValueError(f"minimum {aim} must lie above 0 and at most at 1, got {minimum}")
    signal, noise = kept_counts(sums)
    tolerances = [edge if tune_times and edge < n_t else math.inf for edge in TIME_EDGES] + [math.inf]
    columns = [j for j, edge in enumerate(tolerances) if edge < math.inf or j == len(TIME_EDGES)]
    signal, noise = signal[:, columns], noise[:, columns]
    n_signal = int(sums.n_signal)
    efficiency = signal / n_signal if n_signal else np.ones(signal.shape)
    kept = signal + noise
    purity = np.where(kept > 0, signal / np.maximum(kept, 1), 1.0)
    f1 = np.where(n_signal + kept > 0, 2 * signal / np.maximum(n_signal + kept, 1), 1.0)
    reached = True
    if aim == "f1":
        quality = f1
    else:
        first, second = (efficiency, purity) if aim == "efficiency" else (purity, efficiency)
        enough = (first >= least) & (kept > 0)
        reached = bool(enough.any())
        quality = np.where(enough, second, -1.0) if reached else np.where(kept > 0, first, -1.0)
    # of equally good cuts the middle one: the gap between the hits on either side is where others will fall too
    best = np.flatnonzero(quality.ravel() == quality.max())
    i, j = np.unravel_index(best[len(best) // 2], quality.shape)
    return OperatingPoint(
        score_threshold=float(score_edges()[i]),
        tof_tolerance_bins=float(tolerances[columns[j]]),
        efficiency=float(efficiency[i, j]),
        purity=float(purity[i, j]),
        f1=float(f1[i, j]),
        reached=reached,
    )


class Reliability(NamedTuple):
    """Scores against the truth, in bins of equal width."""

    score: np.ndarray
    """mean score of the hits of each bin, float64[n]; NaN where it has none"""
    fraction: np.ndarray
    """share of signal among them"""
    n_hits: np.ndarray
    """how many they are"""


def reliability(sums: ScoreSums) -> Reliability:
    """How often hits of each score are signal: for calibrated scores, as often as the score says."""
    edges = score_edges()
    middle = np.concatenate([[0.0], (edges[:-1] + edges[1:]) / 2, [1.0]])
    signal, noise = (np.asarray(counts).sum(axis=1) for counts in sums[:2])
    place = np.minimum((middle * N_RELIABILITY).astype(int), N_RELIABILITY - 1)
    n_hits, n_signal, total = (
        np.bincount(place, weights, minlength=N_RELIABILITY)
        for weights in (signal + noise, signal, middle * (signal + noise))
    )
    with np.errstate(invalid="ignore"):
        return Reliability(total / n_hits, n_signal / n_hits, n_hits.astype(np.int64))


def compute_scores(sums: ScoreSums) -> dict[str, float]:
    """Calibration error, area under the efficiency-purity curve, and F1 at the best cut.

    `calibration_error` is the mean over hits of the distance between score and share of signal in bins of equal width
    (expected calibration error; Naeini et al., AAAI 2015), 0 without hits. `average_precision` is the mean purity over
    the signal hits, each at the cut that just keeps it (trapezium-free sum over cells), 1 without signal. `best_f1` is
    the highest F1 of any cut on the score alone: what an epoch can give once its cut is chosen.
    """
    found = reliability(sums)
    filled = found.n_hits > 0
    distance = np.abs(found.score - found.fraction)[filled]
    signal, noise = (table[:, -1] for table in kept_counts(sums))
    gained = -np.diff(np.append(signal, 0))
    purity = signal / np.maximum(signal + noise, 1)
    return {
        "calibration_error": float(np.average(distance, weights=found.n_hits[filled])) if filled.any() else 0.0,
        "average_precision": fraction(float(np.sum(gained * purity)), float(sums.n_signal)),
        "best_f1": choose_operating_point(sums).f1,
    }
