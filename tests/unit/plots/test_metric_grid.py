"""The grid of metrics, and the details of a training, for any history, however incomplete."""

import math

import numpy as np
import pytest
from figure_data import FULL_HISTORY, panel_titled, small_png
from plotted import legend, notes, texts

from tofae_jax.metrics import metric_names
from tofae_jax.plots import curves, style
from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar
from tofae_jax.plots.curves import QUALITIES
from tofae_jax.plots.metric_grid import metrics_grid, training_details

BROKEN = [
    {"epoch": 1},
    {"epoch": 2, "train": None, "validation": None, "time": None, "scheduled": None, "hits_dropped": "many"},
    {"epoch": 3, "train": {"loss": math.nan}, "validation": {"masked": {"f1": math.inf}, "direct": 3, "loss": 1e300}},
]


def curve_labelled(axes, label):
    """x and y of a curve."""
    [found] = [found for found in axes.lines if found.get_label() == label]
    return found.get_xydata().T


DRAWINGS = {
    "grid": lambda history: metrics_grid(history),
    "grid against time": lambda history: metrics_grid(history, against="time"),
    "details": lambda history: training_details(history),
    "details against time": lambda history: training_details(history, against="time"),
    "curves": lambda history: curves.training_curves(history),
    "comparison": lambda history: compare_curves({"a": history, "b": FULL_HISTORY[:3]}),
    "comparison against time": lambda history: compare_curves({"a": history}, against="time"),
}


@pytest.mark.slow
@pytest.mark.parametrize("history", [[], FULL_HISTORY[:1], BROKEN], ids=["none", "one", "broken"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_metric_figures_any_history_can_be_drawn(name, history):
    assert len(small_png(DRAWINGS[name](history))) > 3000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grid", "details against time", "comparison"])
def test_metric_figures_same_history_looks_the_same(name):
    first = small_png(DRAWINGS[name](FULL_HISTORY))
    assert small_png(DRAWINGS[name](FULL_HISTORY)) == first
    assert small_png(DRAWINGS[name](FULL_HISTORY[:6])) != first


@pytest.mark.slow
@pytest.mark.parametrize("large", [-1.7e308, 5e-324])
def test_metric_figures_extreme_numbers_do_no_harm(large):
    extreme = [
        {
            "epoch": epoch,
            "learning_rate": large,
            "train": {"loss": large},
            "validation": {"loss": large * epoch, "masked": dict.fromkeys(QUALITIES, large * (-1) ** epoch)},
            "time": {"epoch_s": large},
        }
        for epoch in (1, 2)
    ]
    for name in ("grid against time", "details against time", "comparison"):
        small_png(DRAWINGS[name](extreme))
    assert len(metrics_grid(extreme).axes) == 18
    small_png(compare_outputs({"a": extreme[0]["validation"]}, metrics=("mse", "f1")))
    small_png(radar({"a": extreme[0]["validation"]}))


@pytest.mark.backlog("B50")
def test_metrics_grid_has_every_metric_of_quality():
    counts = {"true_positives", "false_positives", "false_negatives", "noise_left", "noise_made"}
    counts |= {"true_positives_xy", "true_positives_tof", "true_positives_tof_near"}
    given = {name.removeprefix("masked.") for name in metric_names() if name.startswith("masked.")}
    assert set(QUALITIES) == given - counts
    figure = metrics_grid(FULL_HISTORY, title="a run")
    assert [axes.get_title() for axes in figure.axes] == ["loss", *(known.label for known in QUALITIES.values())]
    for name, quantity in QUALITIES.items():
        axes = panel_titled(figure, quantity.label)
        for output in ("input", "direct", "masked"):
            if (output, name) == ("input", "ssim"):
                assert [found.get_label() for found in axes.lines] == ["direct", "masked"]
                continue
            x, y = curve_labelled(axes, output)
            np.testing.assert_array_equal(x, range(1, 8))
            np.testing.assert_array_equal(y, [record["validation"][output][name] for record in FULL_HISTORY])
    np.testing.assert_allclose(curve_labelled(panel_titled(figure, "loss"), "train")[1], 2 / x)
    np.testing.assert_allclose(curve_labelled(panel_titled(figure, "loss"), "validation")[1], 2.5 / x)
    assert legend(figure) == ["input", "direct", "masked"]
    assert {axes.get_xlim() for axes in figure.axes} == {figure.axes[0].get_xlim()}


@pytest.mark.slow
def test_metrics_grid_input_is_a_thin_grey_reference():
    for axes in metrics_grid(FULL_HISTORY).axes[1:]:
        for found in axes.lines:
            assert found.get_color() == style.OUTPUTS[found.get_label()]
            assert (found.get_linewidth() < 1) == (found.get_label() == "input")


def test_metrics_grid_units_and_whole_ranges():
    figure = metrics_grid(FULL_HISTORY)
    titles = {axes.get_title() for axes in figure.axes}
    assert {"PSNR (dB)", "MSE (t²/T²)", "MAE (t/T)", "true positives, xy (%)", "efficiency", "NMI"} <= titles
    assert panel_titled(figure, "purity").get_ylim() == (-0.02, 1.02)
    assert panel_titled(figure, "true positives, xy + near ToF (%)").get_ylim() == (-2, 102)


@pytest.mark.slow
@pytest.mark.parametrize(("last", "scale"), [(0.11, "linear"), (0.09, "log"), (0.0, "linear"), (-1.0, "linear")])
def test_metrics_grid_falling_errors_have_a_log_axis(last, scale):
    records = [{"epoch": e, "validation": {"masked": {"mse": mse, "psnr_db": mse}}} for e, mse in ((1, 1.0), (2, last))]
    figure = metrics_grid(records)
    assert panel_titled(figure, "MSE (t²/T²)").get_yscale() == scale
    assert panel_titled(figure, "PSNR (dB)").get_yscale() == "linear"
    small_png(figure)


def test_metrics_grid_metrics_without_values_say_so():
    records = [
        {"epoch": e, "validation": {"masked": {"f1": f1, "nmi": None}}} for e, f1 in ((1, 0.1), (2, None), (3, 0.3))
    ]
    figure = metrics_grid(records)
    np.testing.assert_array_equal(curve_labelled(panel_titled(figure, "F1"), "masked"), [[1, 3], [0.1, 0.3]])
    assert texts(figure) == ["no values"] * 17
    assert not panel_titled(figure, "F1").texts
    assert texts(metrics_grid([])) == ["no values"] * 18
    assert legend(metrics_grid([])) == []


@pytest.mark.parametrize(
    "draw", [metrics_grid, training_details, lambda found, **how: compare_curves({"a": found}, **how)]
)
def test_metric_figures_bad_arguments_raise(draw):
    with pytest.raises(ValueError, match="against is 'step', allowed are 'epoch', 'time'"):
        draw(FULL_HISTORY, against="step")
    with pytest.raises(ValueError, match=r"record 1 of the history.* has no number 'epoch'"):
        draw([FULL_HISTORY[0], {"train": {"loss": 1.0}}])


@pytest.mark.backlog("B19")
def test_training_details_each_epoch_has_one_duration():
    records = [dict(record, time=record["time"] | {"plots_s": 0.5, "drawing_cpu_s": 0.25}) for record in FULL_HISTORY]
    for against in ("epoch", "time"):
        axes = panel_titled(training_details(records, against=against), "duration of an epoch (s)")
        drawn = {found.get_label(): found.get_ydata() for found in axes.lines}
        own = 10.0 * np.arange(1, 8)
        np.testing.assert_allclose(drawn["epoch"], own)  # not summed up
        np.testing.assert_allclose(drawn["train"], 0.8 * own)
        np.testing.assert_allclose(drawn["validation"], 0.2 * own)
        np.testing.assert_allclose(drawn["plots"], [0.5] * 7)
        np.testing.assert_allclose(drawn["drawing (background)"], [0.25] * 7)
        assert len(drawn) == 5
    without = panel_titled(training_details(FULL_HISTORY), "duration of an epoch (s)")
    assert [found.get_label() for found in without.lines] == ["epoch", "train", "validation"]


@pytest.mark.slow
@pytest.mark.backlog("B50")
def test_training_details_are_those_of_the_history():
    figure = training_details(FULL_HISTORY, title="a run")
    for title, expected in {
        "learning rate": [record["learning_rate"] for record in FULL_HISTORY],
        "gradient norm": [record["train"]["gradient_norm"] for record in FULL_HISTORY],
        "parameter norm": [record["train"]["parameter_norm"] for record in FULL_HISTORY],
        "relative update": [record["train"]["relative_update"] for record in FULL_HISTORY],
        "hits dropped per epoch": [1, 2, 0, 1, 2, 0, 1],
    }.items():
        [found] = panel_titled(figure, title).lines
        np.testing.assert_array_equal(found.get_xydata().T, [range(1, 8), expected])
    assert len(figure.axes) == 6  # nothing was scaled, skipped or scheduled


def test_training_details_optional_panels_appear():
    scaled = [dict(record, train=record["train"] | {"loss_scale": 8.0, "steps_skipped": 2}) for record in FULL_HISTORY]
    figure = training_details(scaled)
    np.testing.assert_array_equal(panel_titled(figure, "loss scale").lines[0].get_ydata(), [8.0] * 7)
    np.testing.assert_array_equal(panel_titled(figure, "steps skipped per epoch").lines[0].get_ydata(), [2] * 7)
    assert len(figure.axes) == 8


@pytest.mark.slow
def test_training_details_scheduled_settings_are_drawn():
    schedules = [
        {"a.$x_{": e, "b.range": [1, 2 * e], "c.name": "text", "d.some": None if e < 3 else e} for e in range(7)
    ]
    schedules[1] = {}
    figure = training_details(
        [record | {"scheduled": now} for record, now in zip(FULL_HISTORY, schedules, strict=True)]
    )
    [found] = panel_titled(figure, "a.$x_{, scheduled").lines
    np.testing.assert_array_equal(found.get_xydata().T, [[1, 3, 4, 5, 6, 7], [0, 2, 3, 4, 5, 6]])
    low, high = panel_titled(figure, "b.range, scheduled").lines
    np.testing.assert_array_equal(low.get_ydata(), [1] * 6)
    np.testing.assert_array_equal(high.get_ydata(), [0, 4, 6, 8, 10, 12])
    assert [text.get_text() for text in panel_titled(figure, "c.name, scheduled").texts] == ["no values"]
    np.testing.assert_array_equal(panel_titled(figure, "d.some, scheduled").lines[0].get_xdata(), [4, 5, 6, 7])
    small_png(figure)
    many = training_details([{"epoch": 1, "scheduled": {f"key {n}": list(range(99)) for n in range(15)}}])
    assert sum("scheduled" in axes.get_title() for axes in many.axes) == 12
    assert notes(many) == "3 more settings are scheduled"
    small_png(many)
