"""Occlusion against what uniform hits would give."""

import numpy as np
import pytest
from plotted import DETECTOR, SMALL, pixels, texts

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.plots.occlusion import uniform_occlusion


@pytest.mark.parametrize("n_pixels", [1, 2, 63, 11264])
def test_uniform_occlusion_is_that_of_random_hits(n_pixels):
    rng = np.random.default_rng(2)
    n_hits = np.array([1, 2, 7, 300])
    expected = uniform_occlusion(n_hits, n_pixels=n_pixels)
    assert expected[0] == 0
    np.testing.assert_allclose(expected[1], 1 / n_pixels / 2, atol=1e-9)  # the second hits the first's pixel
    for n, share in zip(n_hits, expected, strict=True):
        lit = [len(np.unique(rng.integers(0, n_pixels, n))) for _ in range(4000)]
        sampled = 1 - np.array(lit) / n
        assert abs(sampled.mean() - share) <= 4 * sampled.std() / 4000**0.5 + 1e-9


def test_occlusion_by_hits_points_are_means_with_errors():
    n_hits, n_occluded = np.array([4, 0, 4, 4, 10, 8, 8]), np.array([1, 0, 3, 2, 9, 1, 1])
    [axes] = plots.occlusion_by_hits(n_hits, n_occluded, detector=SMALL, title="a dataset").axes
    points, expected, whole = (line for line in axes.lines if not line.get_label().startswith("_"))
    np.testing.assert_allclose(points.get_xydata(), [[4, 50], [8, 12.5], [10, 90]])
    [errors] = [found for found in axes.collections if len(found.get_segments()) == 3]
    lengths = [np.ptp(segment[:, 1]) / 2 if len(segment) else np.nan for segment in errors.get_segments()]
    shares = 100 * np.array([1, 3, 2]) / 4
    np.testing.assert_allclose(lengths[:2], [shares.std(ddof=1) / 3**0.5, 0], atol=1e-6)
    assert not np.isfinite(lengths[2])  # a single event has none
    n, share = expected.get_xydata().T
    assert (n[0], n[-1]) == (4, 10)
    np.testing.assert_allclose(share, 100 * (1 - 63 * (1 - (1 - 1 / 63) ** n) / n), rtol=1e-9)
    assert whole.get_label() == "all hits 45 %"
    np.testing.assert_allclose(whole.get_ydata(), 100 * 17 / 38)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hits per event", "occluded hits (%)")


def test_occlusion_by_hits_many_numbers_share_points():
    rng = np.random.default_rng(4)
    n_hits = rng.integers(100, 900, 5000)
    n_occluded = rng.binomial(n_hits, 0.1)
    figure = plots.occlusion_by_hits(n_hits, n_occluded, detector=DETECTOR)
    x, share = figure.axes[0].lines[0].get_xydata().T
    assert 40 <= len(x) <= 60
    size = 14  # 800 numbers in at most 60 groups
    first = n_hits < n_hits.min() + size
    np.testing.assert_allclose(
        [x[0], share[0]], [n_hits[first].mean(), 100 * n_occluded[first].sum() / n_hits[first].sum()]
    )
    assert abs(share - 10).max() < 1
    [errors] = [found for found in figure.axes[0].collections if len(found.get_segments()) == len(x)]
    lengths = np.array([np.ptp(segment[:, 1]) / 2 for segment in errors.get_segments()])
    expected = 100 * np.sqrt(0.09 / (x * 5000 / len(x)))
    assert abs(np.median(lengths / expected) - 1) < 0.1
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(("n_hits", "message"), [([], "no events"), ([0, 0], "no hits")])
def test_occlusion_by_hits_of_nothing_says_so(n_hits, message):
    counts = np.array(n_hits, int)
    figure = plots.occlusion_by_hits(counts, counts, detector=DETECTOR)
    assert texts(figure) == [message]
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(("n_hits", "n_occluded", "share"), [(1, 0, 0), (230, 229, 22900 / 230), (5, 5, 100)])
def test_occlusion_by_hits_of_one_event(n_hits, n_occluded, share):
    figure = plots.occlusion_by_hits(np.array([n_hits]), np.array([n_occluded]), detector=DETECTOR)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[n_hits, share]])
    low, high = figure.axes[0].get_ylim()
    assert low < share < high
    assert [tick for tick in figure.axes[0].get_xticks() if abs(tick - n_hits) < 0.6] == [n_hits]
    assert len(pixels(figure))


def test_occlusion_by_hits_single_pixel_is_as_expected():
    detector = Detector(n_x=1, n_y=1)
    figure = plots.occlusion_by_hits(np.array([2, 4]), np.array([1, 3]), detector=detector)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    points, expected = lines["events"], lines["uniformly spread hits"]
    np.testing.assert_allclose(points.get_ydata(), [50, 75])
    np.testing.assert_allclose(expected.get_ydata()[[0, -1]], [50, 75])


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(
    ("n_hits", "n_occluded", "message"),
    [
        ([3, 4], [1], r"n_hits has shape \(2,\), but n_occluded has shape \(1,\)"),
        ([[3]], [[1]], r"n_hits has shape \(1, 1\), expected \(n,\)"),
        ([3, -4], [1, 0], "n_hits: event 1 has -4, allowed is 0 or more"),
        ([3, 4], [-1, 0], "n_occluded: event 0 has -1, allowed is 0 or more"),
        ([3, 4], [1, 5], "event 1 has 5 occluded hits, but only 4 hits"),
        ([3.5], [1], "n_hits has type float64, expected integers"),
    ],
)
def test_occlusion_by_hits_impossible_counts_raise(n_hits, n_occluded, message):
    with pytest.raises(ValueError, match=message):
        plots.occlusion_by_hits(np.array(n_hits), np.array(n_occluded), detector=DETECTOR)
