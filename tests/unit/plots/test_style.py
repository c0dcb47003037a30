"""Style of all figures: readers' settings, labels."""

import matplotlib
import numpy as np
import pytest
from figure_data import RESULT, distributions
from plotted import SMALL, nothing, png

from tofae_jax import plots
from tofae_jax.plots import curves
from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar
from tofae_jax.plots.curves import output_comparison
from tofae_jax.plots.metric_grid import metrics_grid, training_details


@pytest.fixture
def figure():
    return plots.output_comparison(RESULT)


def test_style_settings_of_the_reader_change_nothing(figure):
    expected = png(figure)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 30, "text.color": "red"}):
        assert png(plots.output_comparison(RESULT)) == expected


def test_figures_have_distinct_labels():
    view = nothing(SMALL)
    figures = [
        plots.stage_panels(view, detector=SMALL),
        plots.event_3d(view, detector=SMALL),
        plots.pixel_difference(view, detector=SMALL),
        plots.occlusion_by_hits(np.zeros(0, int), np.zeros(0, int), detector=SMALL),
        plots.training_curves([]),
        plots.training_curves([], against="time"),
        plots.output_comparison({}),
        plots.dataset_distributions(distributions([]), detector=SMALL),
    ]
    assert len({figure.get_label() for figure in figures} - {""}) == len(figures)


def test_metric_figures_have_distinct_labels():
    figures = [
        metrics_grid([]),
        metrics_grid([], against="time"),
        training_details([]),
        training_details([], against="time"),
        compare_curves({}),
        compare_curves({}, against="time"),
        radar({}),
        radar({}, output="direct"),
        compare_outputs({}),
        compare_outputs({}, output="input"),
        output_comparison({}),
        curves.training_curves([]),
    ]
    assert len({figure.get_label() for figure in figures} - {""}) == len(figures)
