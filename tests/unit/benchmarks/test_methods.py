"""Thresholds and curves of scores against searches and planted cases."""

import numpy as np
import pytest
from quality_benchmark import event_set, methods, random_events, scoring


def f1_of(kept, event):
    right = np.sum(kept & event.is_signal & event.filled)
    return 2 * right / (np.sum(kept & event.filled) + np.sum(event.is_signal))


@pytest.mark.parametrize("levels", [4, 1000])
def test_best_threshold_is_that_of_a_search(levels):
    event = random_events(n=5, k=30, seed=levels)
    rng = np.random.default_rng(0)
    score = np.floor(levels * (rng.random(event.filled.shape) + 0.3 * event.is_signal)) / levels
    score[rng.random(score.shape) < 0.1] = -np.inf
    threshold, f1 = methods.best_threshold(score, event)
    finite = score[np.isfinite(score) & event.filled]
    assert f1 == pytest.approx(max(f1_of(score >= value, event) for value in np.unique(finite)))
    assert f1_of(score > threshold, event) == pytest.approx(f1)


def test_best_threshold_perfect_and_inverted_scores():
    event = random_events()
    threshold, f1 = methods.best_threshold(event.is_signal.astype(float), event)
    assert (threshold, f1) == (0.5, 1)
    threshold, f1 = methods.best_threshold(-event.is_signal.astype(float), event)
    assert threshold == -np.inf
    assert f1 == pytest.approx(f1_of(event.filled, event))
    curve = methods.efficiency_purity(event.is_signal.astype(float), event)
    np.testing.assert_allclose(curve.efficiency, 1)
    assert curve.purity[0] == 1
    assert curve.purity[-1] == pytest.approx(event.is_signal.sum() / event.filled.sum())
    inverted = methods.efficiency_purity(-event.is_signal.astype(float), event)
    assert (inverted.efficiency[0], inverted.purity[0]) == (0, 0)


def test_best_threshold_tells_neighbouring_float32_apart():
    event = event_set([[[0, 0, 1], [1, 1, 1]]], [[True, False]])
    score = np.array([[1.0, np.nextafter(np.float32(1), np.float32(0))]], np.float32)
    tuned = methods.HitScorer("close", lambda _: score).tuned({}, event)
    assert scoring.estimates(tuned.counts(event, score))["f1"].value == 1


def test_efficiency_purity_has_points_where_signal_is():
    n = 100_000
    hits = np.ones((1, n, 3), np.int32)
    is_signal = np.arange(n) < 300
    curve = methods.efficiency_purity(np.linspace(1, 0, n)[None], event_set(hits, is_signal[None]))
    assert len(curve.efficiency) <= methods.CURVE_POINTS
    assert np.sum(curve.efficiency < 1) > 150
    assert curve.purity[-1] == pytest.approx(300 / n)


def test_best_threshold_nan_raises_and_minus_inf_is_not_kept():
    event = random_events()
    score = np.full(event.filled.shape, -np.inf)
    threshold, f1 = methods.best_threshold(score, event)
    assert f1 == 0
    assert not (score > threshold).any()
    assert len(methods.efficiency_purity(score, event).purity) == 0
    with pytest.raises(ValueError, match="not a number"):
        methods.best_threshold(np.full(event.filled.shape, np.nan), event)


def test_hit_scorer_tunes_on_validation_events():
    validation, other = random_events(seed=1), random_events(seed=2)
    good = methods.HitScorer(
        "good", lambda event, *, sign: sign * event.is_signal.astype(float), methods.grid(sign=(-1.0, 1.0))
    )
    settings = good.choose(validation)
    assert settings == {"sign": 1.0}
    tuned = good.tuned(settings, validation)
    assert tuned.threshold == 0.5
    counts = tuned.counts(other, tuned.output(other))
    assert scoring.estimates(counts)["f1"].value == 1
