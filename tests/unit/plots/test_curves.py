"""Curves and bars of one run's metrics."""

import math

import numpy as np
import pytest
from figure_data import RESULT
from plotted import panel, pixels, texts

from tofae_jax import plots
from tofae_jax.plots import LossNames
from tofae_jax.plots.metric_grid import metrics_grid

HISTORY = [
    {
        "epoch": epoch,
        "train": {"loss": 2.0 / epoch},
        "validation": {
            "loss": 2.5 / epoch,
            "direct": {"efficiency": 0.1 * epoch, "purity": 0.5, "f1": 0.2},
            "masked": {"efficiency": 0.09 * epoch, "purity": 0.9, "f1": 0.6},
        },
        "time": {"epoch_s": 10.0 * epoch},
    }
    for epoch in range(1, 8)
]


def line(figure, name, curve):
    """x and y of a curve."""
    return next(found for found in panel(figure, name).lines if found.get_label() == curve).get_xydata().T


def test_training_curves_show_the_history():
    figure = plots.training_curves(HISTORY, against="epoch", title="a run")
    x, y = line(figure, "loss", "validation")
    np.testing.assert_allclose(x, range(1, 8))
    np.testing.assert_allclose(y, 2.5 / x)
    np.testing.assert_allclose(line(figure, "efficiency", "masked")[1], 0.09 * x)
    np.testing.assert_allclose(line(figure, "F1", "direct")[1], 0.2)
    assert figure.axes[2].get_xlabel() == "epoch"
    figure = plots.training_curves(HISTORY, against="time")
    np.testing.assert_allclose(line(figure, "loss", "train")[0], np.cumsum(10.0 * x) / 60)
    assert figure.axes[2].get_xlabel() == "training time (min)"
    assert len(np.unique(pixels(figure))) > 10


def test_training_curves_leave_out_unknown_values():
    history = [dict(record) for record in HISTORY]
    history[1]["validation"] = None
    history[2]["train"] = {"loss": None}
    history[3]["train"] = {"loss": math.nan}
    history[4]["time"] = None
    history[5]["validation"] = {"loss": math.inf, "masked": {"f1": math.nan, "purity": "?"}}
    figure = plots.training_curves(history)
    np.testing.assert_array_equal(line(figure, "loss", "train")[0], [1, 2, 5, 6, 7])
    for name, curve in (("loss", "validation"), ("F1", "masked"), ("purity", "masked")):
        np.testing.assert_array_equal(line(figure, name, curve)[0], [1, 3, 4, 5, 7])
    timed = line(plots.training_curves(history, against="time"), "loss", "train")[0]
    np.testing.assert_allclose(timed * 60, [10, 30, 160, 230])  # the fifth took an unknown time
    assert len(pixels(figure))


@pytest.mark.parametrize("draw", [plots.training_curves, metrics_grid])
def test_axes_of_losses_carry_their_names(draw):
    """One axis for one loss; two losses have one each, in the colours of their curves."""
    same = draw(HISTORY, losses=LossNames("hit_bce", "hit_bce"))
    axes = panel(same, "loss")
    assert axes.get_ylabel() == "hit_bce" and [found.get_label() for found in axes.lines] == ["train", "validation"]
    assert panel(draw(HISTORY), "loss").get_ylabel() == ""
    apart = draw(HISTORY, losses=LossNames("hit_bce", "$mse$"))
    left = panel(apart, "loss")
    [right] = [found for found in apart.axes if found is not left and found.bbox.bounds == left.bbox.bounds]
    for axes, part, name, factor in ((left, "train", "hit_bce", 2.0), (right, "validation", "$mse$", 2.5)):
        [curve] = axes.lines
        np.testing.assert_allclose(curve.get_ydata() * curve.get_xdata(), factor)
        assert axes.get_ylabel() == f"{part}: {name}"
        assert axes.yaxis.label.get_color() == curve.get_color()
        assert right.get_legend().get_texts()[part == "validation"].get_text() == part
    assert len(np.unique(pixels(apart))) > 10


def test_axes_of_losses_without_values():
    """A loss without values has no axis of its own; without any, the panel says so once."""
    for part in ("train", "validation"):
        history = [{"epoch": record["epoch"], part: record[part]} for record in HISTORY]
        figure = plots.training_curves(history, losses=LossNames("a", "b"))
        assert len(figure.axes) == 4
        assert panel(figure, "loss").get_ylabel() == f"{part}: {'ab'[part == 'validation']}"
    assert texts(plots.training_curves([], losses=LossNames("a", "b"))) == ["no values"] * 4
    figure = plots.training_curves(HISTORY, losses=LossNames("", "b"))
    assert panel(figure, "loss").get_ylabel() == "train: loss"


@pytest.mark.parametrize("against", ["epoch", "time"])
@pytest.mark.parametrize("history", [[], [{"epoch": 1}], [{"epoch": 1, "validation": None, "time": {"epoch_s": None}}]])
def test_training_curves_without_values_say_so(history, against):
    figure = plots.training_curves(history, against=against)
    assert texts(figure) == ["no values"] * 4
    assert len(pixels(figure))


def test_training_curves_one_epoch_is_a_point():
    figure = plots.training_curves(HISTORY[:1])
    [point] = [found for found in panel(figure, "loss").lines if found.get_label() == "train"]
    assert point.get_marker() == "o"
    assert [tick for tick in panel(figure, "loss").get_xticks() if 0.9 < tick < 1.1] == [1]
    assert len(pixels(figure))


def test_training_curves_bad_arguments_raise():
    with pytest.raises(ValueError, match="against is 'step', allowed are 'epoch', 'time'"):
        plots.training_curves(HISTORY, against="step")
    with pytest.raises(ValueError, match="record 1 of the history has no number 'epoch'"):
        plots.training_curves([HISTORY[0], {"train": {"loss": 1.0}}])


def test_output_comparison_bars_are_as_high_as_numbers():
    figure = plots.output_comparison(RESULT, title="test events")
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert heights == [list(RESULT[output].values()) for output in ("input", "direct", "masked")]
    assert texts(figure) == [f"{height:.3f}" for bars in heights for height in bars]
    assert len(np.unique(pixels(figure))) > 10


def test_output_comparison_missing_numbers_say_so():
    incomplete = RESULT | {"direct": {"efficiency": None, "purity": math.nan}, "masked": None}
    assert texts(plots.output_comparison(incomplete))[4:] == ["n/a"] * 8
    for empty in ({}, RESULT | {"events": 0}):
        figure = plots.output_comparison(empty)
        assert texts(figure) == ["no events"]
        assert len(pixels(figure))
