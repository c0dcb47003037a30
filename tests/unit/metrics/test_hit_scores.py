"""Scores of hits against the truth: counts, thresholds, calibration."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax import metrics
from tofae_jax.metrics.hit_scores import LOGIT_LIMIT, N_SCORES, TIME_EDGES, compute_scores, no_scores


def sums_of(score, is_signal, time_error=None, is_shown=None, is_event=None):
    score, is_signal = np.atleast_2d(np.asarray(score, np.float32)), np.atleast_2d(is_signal)
    time_error = np.zeros(score.shape, np.float32) if time_error is None else np.atleast_2d(time_error)
    is_shown = np.ones(score.shape, bool) if is_shown is None else np.atleast_2d(is_shown)
    is_event = np.ones(len(score), bool) if is_event is None else is_event
    return jax.device_get(jax.jit(metrics.score_sums)(score, time_error, is_signal, is_shown, is_event))


def drawn(seed, n=400):
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-rng.normal(0, 3, n)))
    return score, rng.random(n) < score, rng.exponential(20, n).astype(np.float32)


@given(st.integers(0, 2**31 - 1))
def test_kept_counts_equal_a_slow_loop(seed):
    score, is_signal, error = drawn(seed, 60)
    signal, noise = metrics.kept_counts(sums_of(score, is_signal, error))
    edges, logit = metrics.score_edges(), np.log(score) - np.log1p(-score)
    for i in range(0, N_SCORES - 1, 37):
        if np.min(np.abs(logit - np.log(edges[i] / (1 - edges[i])))) < 1e-4:
            continue  # rounding decides
        for j in range(len(TIME_EDGES) + 1):
            near = error <= TIME_EDGES[j] if j < len(TIME_EDGES) else np.ones(60, bool)
            kept = (score >= edges[i]) & near
            assert (signal[i, j], noise[i, j]) == (np.sum(kept & is_signal), np.sum(kept & ~is_signal))


def test_score_sums_hidden_signal_is_lost():
    sums = sums_of(
        [[0.9, 0.1], [0.9, 0.9]],
        [[True, True], [True, False]],
        is_shown=[[True, False], [True, True]],
        is_event=np.array([True, False]),
    )
    assert (sums.signal.sum(), sums.noise.sum(), sums.n_signal) == (1, 0, 2)
    assert metrics.choose_operating_point(sums).efficiency == 0.5


def test_score_sums_scores_out_of_range_count_at_the_ends():
    sums = sums_of([np.nan, -1.0, 0.0, 1.0, 2.0, np.inf], [False] * 6)
    assert (sums.noise[0].sum(), sums.noise[-1].sum(), sums.noise.sum()) == (3, 3, 6)
    assert metrics.score_edges()[0] == pytest.approx(np.exp(-LOGIT_LIMIT), rel=1e-3)


@given(st.integers(0, 2**31 - 1))
def test_choose_operating_point_no_threshold_is_better(seed):
    score, is_signal, error = drawn(seed)
    sums = sums_of(score, is_signal, error)
    point = metrics.choose_operating_point(sums, tune_times=True)
    kept = (score >= point.score_threshold) & (error <= point.tof_tolerance_bins)
    f1 = 2 * np.sum(kept & is_signal) / (kept.sum() + is_signal.sum())
    assert f1 == pytest.approx(point.f1, abs=0.01)
    for cut in np.linspace(0, 1, 23):
        for tolerance in (*TIME_EDGES[::3], np.inf):
            other = (score >= cut) & (error <= tolerance)
            assert 2 * np.sum(other & is_signal) / max(other.sum() + is_signal.sum(), 1) <= point.f1 + 0.01


@pytest.mark.parametrize("n_t", [1, 2, 40, 131, 1000])
@given(seed=st.integers(0, 2**31 - 1))
def test_choose_operating_point_tolerance_is_shorter_than_the_window(n_t, seed):
    """Times differ by less than the window, so that all longer tolerances keep the same hits: there is none then."""
    score, is_signal, error = drawn(seed, 60)
    sums = sums_of(score, is_signal, np.minimum(error, n_t - 1))
    point = metrics.choose_operating_point(sums, tune_times=True, n_t=n_t)
    assert point.tof_tolerance_bins < n_t or point.tof_tolerance_bins == np.inf
    assert point.f1 == metrics.choose_operating_point(sums, tune_times=True).f1


@pytest.mark.parametrize(("aim", "other"), [("efficiency", "purity"), ("purity", "efficiency")])
@pytest.mark.parametrize("minimum", [0.5, 0.8, 0.95])
def test_choose_operating_point_minimum_is_reached(aim, other, minimum):
    score, is_signal, _ = drawn(5)
    sums = sums_of(score, is_signal)
    point = metrics.choose_operating_point(sums, aim=aim, minimum=minimum)
    assert point.reached
    assert getattr(point, aim) >= minimum
    stricter = metrics.choose_operating_point(sums, aim=aim, minimum=min(1.0, minimum + 0.04))
    assert getattr(stricter, other) <= getattr(point, other)


def test_choose_operating_point_unreachable_is_marked():
    sums = sums_of([0.9, 0.9, 0.9], [True, False, False])  # one cell: purity is 1/3 whatever the cut
    point = metrics.choose_operating_point(sums, aim="purity", minimum=0.9)
    assert not point.reached
    assert point.purity == pytest.approx(1 / 3)


@pytest.mark.parametrize("minimum", [None, 0.0, 1.5, -1.0, float("nan")])
def test_choose_operating_point_bad_aim_raises(minimum):
    with pytest.raises(ValueError, match="minimum purity must lie above 0"):
        metrics.choose_operating_point(no_scores(), aim="purity", minimum=minimum)
    with pytest.raises(ValueError, match="aim must be one of"):
        metrics.choose_operating_point(no_scores(), aim="nonsense")


def test_compute_scores_no_hits_are_defined():
    point = metrics.choose_operating_point(no_scores())
    assert (point.efficiency, point.purity, point.f1) == (1, 1, 1)
    assert compute_scores(no_scores()) == {"calibration_error": 0.0, "average_precision": 1.0, "best_f1": 1.0}


def test_reliability_calibrated_scores_lie_on_the_diagonal():
    score, is_signal, _ = drawn(1, 40_000)
    good = sums_of(score, is_signal)
    found = metrics.reliability(good)
    sigma = np.sqrt(0.25 / found.n_hits)
    assert np.all(np.abs(found.score - found.fraction) < 4 * sigma + 0.003)
    assert compute_scores(good)["calibration_error"] < 0.01
    overconfident = sums_of(1 / (1 + ((1 - score) / score) ** 3), is_signal)
    assert compute_scores(overconfident)["calibration_error"] > 0.05
    # a monotone map of the scores leaves their order, and so the average precision
    precisions = [compute_scores(sums)["average_precision"] for sums in (good, overconfident)]
    assert precisions[0] == pytest.approx(precisions[1], abs=0.002)


def test_compute_scores_average_precision_by_definition():
    score, is_signal, _ = drawn(3, 300)
    order = np.argsort(-score)
    purity = np.cumsum(is_signal[order]) / np.arange(1, 301)
    expected = purity[is_signal[order]].mean()
    assert compute_scores(sums_of(score, is_signal))["average_precision"] == pytest.approx(expected, abs=0.01)
    assert compute_scores(sums_of(1 - score, is_signal))["average_precision"] < expected - 0.2
