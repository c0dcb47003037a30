"""Confidence intervals: as wide as theory says, about the number itself."""

import math
import sys

import jax
import numpy as np
import pytest
from metric_trees import metric_paths, value_at

from tofae_jax.metrics import Confusion, EventCounts, ImageSums, Metrics, OutputMetrics, compute, intervals

HITS = 30
QUANTILE = 1.959964  # of the normal distribution, two-sided 95 %


@pytest.fixture(autouse=True)
def as_many_resamples_as_ever(monkeypatch):
    monkeypatch.setattr(sys.modules["tofae_jax.metrics.bootstrap"], "N_RESAMPLES", 1000)


def events_of_counts(found, *, of=HITS, loss=None, noise=10, noise_left=2, **image):
    """Metrics of single events in which so many of `of` hits are found."""
    found = np.asarray(found)
    n, ones = len(found), np.ones(len(found))
    zeros = np.zeros(n, int)
    hits = zeros + of
    confusion = Confusion(found, zeros + noise_left, hits - found, zeros + noise, zeros + noise_left)
    sums = {"squared_error": 0.1 * ones, "absolute_error": 0.2 * ones, "psnr_db": 9 * ones, "power_snr_db": ones}
    counts = dict.fromkeys(("n_pixels_right", "n_pixels_in_time", "n_pixels_near_in_time"), found)
    flat = ImageSums(
        means=np.ones((n, 5)), spreads=np.ones((n, 3)), n_target_pixels=hits, **(sums | counts | {"ssim": ones} | image)
    )
    output = OutputMetrics(confusion, flat)
    return Metrics(
        EventCounts(np.ones(n, int), *[hits] * 7), ones if loss is None else loss, None, None, output, output, output
    )


def total(per_event):
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), per_event)


def found(per_event, **options):
    return intervals(per_event, threshold=0.5, **options)


def computed(per_event, **options):
    return compute(total(per_event), threshold=0.5, **options)


def width(limits):
    return limits[1] - limits[0]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_efficiency_is_binomial(share):
    per_event = events_of_counts(np.random.default_rng(1).binomial(HITS, share, size=400))
    limits = found(per_event)["masked"]["efficiency"]
    point = computed(per_event)["masked"]["efficiency"]
    expected = 2 * QUANTILE * math.sqrt(point * (1 - point) / (HITS * 400))
    assert width(limits) == pytest.approx(expected, rel=0.1)
    assert limits[0] < point < limits[1]
    assert (limits[0] + limits[1]) / 2 == pytest.approx(point, abs=0.1 * expected)


@pytest.mark.slow
def test_intervals_correlated_hits_are_wider():
    """The negative control: were hits drawn instead of events, this would be as narrow as above."""
    per_event = events_of_counts(HITS * np.random.default_rng(1).binomial(1, 0.5, size=400))
    expected = 2 * QUANTILE * math.sqrt(0.25 / 400)
    assert width(found(per_event)["masked"]["efficiency"]) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_intervals_mean_is_gaussian():
    loss = np.random.default_rng(2).normal(5, 2, size=300)
    limits = found(events_of_counts(np.full(300, 3), loss=loss))["loss"]
    assert width(limits) == pytest.approx(2 * QUANTILE * loss.std() / math.sqrt(300), rel=0.1)
    assert limits[0] < loss.mean() < limits[1]


@pytest.mark.slow
def test_intervals_cover_the_truth():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(16):
        low, high = found(events_of_counts(rng.binomial(HITS, 0.7, size=60)))["direct"]["efficiency"]
        inside += low <= 0.7 <= high
    assert inside >= 13  # of 16: 15.2 expected, less than 13 in one case of 140


@pytest.mark.slow
def test_intervals_higher_level_is_wider():
    per_event = events_of_counts(np.random.default_rng(1).binomial(HITS, 0.5, size=200))
    widths = [width(found(per_event, level=level)["masked"]["efficiency"]) for level in (0.68, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[1] / widths[0] == pytest.approx(QUANTILE / 0.994458, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5001, 12_345])
def test_intervals_many_events_lose_none(n):
    per_event = events_of_counts(np.random.default_rng(4).binomial(HITS, 0.5, size=n))
    limits = found(per_event)["masked"]["efficiency"]
    point = computed(per_event)["masked"]["efficiency"]
    assert width(limits) == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / (HITS * n)), rel=0.1)
    assert (limits[0] + limits[1]) / 2 == pytest.approx(point, abs=0.1 * width(limits))


@pytest.mark.slow
def test_intervals_same_events_give_the_same():
    per_event = events_of_counts(np.random.default_rng(1).binomial(HITS, 0.5, size=50))
    assert found(per_event) == found(per_event)
    assert found(per_event, seed=1) != found(per_event)


@pytest.mark.parametrize("n", [0, 1])
def test_intervals_fewer_than_two_events_give_none(n):
    assert found(events_of_counts(np.full(n, 3))) == {}


def test_intervals_two_events_are_enough():
    assert found(events_of_counts([0, HITS]))["masked"]["efficiency"] == [0, 1]


@pytest.mark.slow
def test_intervals_without_variance_are_the_number():
    per_event = events_of_counts(np.full(20, 12))
    result = computed(per_event)
    for output, metric in (
        ("masked", "efficiency"),
        ("direct", "mse"),
        ("input", "f1"),
        ("masked", "detection_snr_db"),
    ):
        limits = found(per_event)[output][metric]
        if metric != "detection_snr_db":  # a half is added to each of its counts
            assert limits == pytest.approx([result[output][metric]] * 2, rel=1e-12)
        assert limits[0] == limits[1]


def test_intervals_without_signal_or_noise_are_finite():
    per_event = events_of_counts(np.zeros(20, int), of=0, noise=0, noise_left=0)
    limits = found(per_event)["masked"]
    for metric in ("efficiency", "purity", "f1", "noise_rejection"):
        assert limits[metric] == [1, 1]
    assert all(math.isfinite(limit) for pair in limits.values() for limit in pair)


def test_intervals_nan_loss_spoils_itself_alone():
    loss = np.ones(20)
    loss[3] = math.nan
    limits = found(events_of_counts(np.full(20, 12), loss=loss))
    assert all(math.isnan(limit) for limit in limits["loss"])
    assert limits["masked"]["efficiency"] == [0.4, 0.4]


def test_intervals_have_all_of_compute_but_counts():
    per_event = events_of_counts(np.random.default_rng(1).binomial(HITS, 0.5, size=20))
    result = computed(per_event)
    known, of = set(metric_paths(result)), set(metric_paths(found(per_event)))
    assert of <= known
    assert {"loss", "masked.f1", "direct.ssim", "input.correlation", "masked.false_positives_per_event"} <= of
    is_count = {name for name in known if isinstance(value_at(result, name), int)}
    assert not of & is_count
    assert known - of == is_count  # nothing else is left out
    assert "masked.nmi" not in of


def test_intervals_output_without_times_has_none_of_them():
    per_event = events_of_counts(np.random.default_rng(1).binomial(HITS, 0.5, size=20))
    limits = found(per_event, direct_has_time=False)
    assert "mse" not in limits["direct"]
    assert {"efficiency", "true_positive_xy_percent"} <= set(limits["direct"])
    assert "mse" in limits["masked"]
