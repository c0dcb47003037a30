"""Counts of raw outputs about the threshold."""

import numpy as np
import pytest
from plotted import pixels, texts

from tofae_jax import plots


def telemetry_record(epoch, above):
    outputs = {"threshold": 0.5, "above": above, "below": 1000 - above, "histogram": [600, 0, 300, 1000 - 900]}
    counts = {"pattern_hits": 500, "signal_hits": 300, "visible_signal_hits": 290, "noise_hits": 2000}
    return {"epoch": epoch, "validation": {"events": 10, "outputs": outputs, "counts": counts}}


@pytest.mark.backlog("B17", "B43")
def test_threshold_telemetry_shows_what_it_is_given():
    figure = plots.threshold_telemetry([telemetry_record(1, 900), telemetry_record(2, 100)])
    left, right = figure.axes
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["threshold 0.5", "above 100", "not above 900"]
    [line] = [found for found in left.lines if found.get_label() == "threshold 0.5"]
    np.testing.assert_array_equal(line.get_xdata(), [0.5, 0.5])
    lines = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert lines == {
        "outputs above the threshold": [90, 10],
        "pattern hits": [50, 50],
        "kept signal hits": [30, 30],
        "visible signal hits": [29, 29],
        "noise hits": [200, 200],
    }
    assert len(np.unique(pixels(figure))) > 10


def test_threshold_telemetry_of_nothing_says_so():
    for history in ([], [{"epoch": 1, "validation": None}], [{"epoch": 1, "validation": {"events": 0}}]):
        figure = plots.threshold_telemetry(history)
        assert texts(figure) == ["no outputs", "no values"]
        assert len(pixels(figure))
