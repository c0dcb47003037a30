"""The figure of scores against the truth."""

import numpy as np
import pytest

from tofae_jax import plots

MIDDLES = (np.arange(20) + 0.5) / 20
POINT = {
    "chosen_for": "f1",
    "score_threshold": 0.4,
    "validation": {"efficiency": 0.7, "purity": 0.8, "f1": 0.75},
}


def drawn(n_hits=None, cuts=None, point=POINT):
    counts = np.full(20, 50) if n_hits is None else n_hits
    share = np.where(counts > 0, MIDDLES, np.nan)
    curve = (np.linspace(0, 1, 5), np.linspace(1, 0.2, 5)) if cuts is None else cuts
    return plots.score_quality((MIDDLES, share, counts), curve, point=point)


def test_score_quality_shows_what_it_is_given():
    left, right, *_ = drawn().axes
    points = left.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xydata(), np.stack([MIDDLES, MIDDLES], axis=-1))
    (curve, chosen) = right.lines
    np.testing.assert_allclose(curve.get_ydata(), np.linspace(1, 0.2, 5))
    assert chosen.get_xydata().tolist() == [[0.7, 0.8]]
    assert "chosen for f1: 0.4" in right.get_legend().get_texts()[0].get_text()


def test_score_quality_empty_bins_are_left_out():
    counts = np.where(np.arange(20) < 3, 4, 0)
    left = drawn(counts).axes[0]
    assert len(left.containers[0].lines[0].get_xdata()) == 3


@pytest.mark.parametrize("point", [None, {}])
def test_score_quality_without_hits_or_threshold(point):
    figure = drawn(np.zeros(20, int), (np.zeros(0), np.zeros(0)), point)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"no scores", "no signal"} <= set(texts)
    assert drawn(point=point).axes[1].get_legend() is None
