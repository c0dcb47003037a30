"""Comparisons of runs: curves, radar, bars."""

import math

import numpy as np
import pytest
from figure_data import FULL_HISTORY, history, panel_titled, result, small_png
from matplotlib.colors import to_rgba
from plotted import legend, notes, texts

from tofae_jax.plots import LossNames
from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar
from tofae_jax.plots.curves import output_comparison


@pytest.mark.slow
def test_comparison_same_results_look_the_same():
    runs = {"a": result(f1=0.7) | {"intervals": {"masked": INTERVALS}}, "b": None, "c": result(ssim=None)}
    for draw in (radar, compare_outputs):
        first = small_png(draw(runs))
        assert small_png(draw(runs)) == first
        assert small_png(draw(runs | {"a": result(f1=0.8)})) != first


@pytest.mark.backlog("B19", "B50")
def test_compare_curves_any_lengths_are_not_trimmed():
    runs = {"long": history(9), "short": history(2), "none": [], "null": None, "unknown": [{"epoch": 1}]}
    figure = compare_curves(runs, title="two runs")
    assert legend(figure) == ["long", "short", "none (no history)", "null (no history)", "unknown (no values)"]
    for title, path in {"loss, validation": ["loss"], "F1, masked": ["masked", "f1"]}.items():
        lines = panel_titled(figure, title).lines
        assert [len(found.get_xdata()) for found in lines] == [9, 2]
        for found, name in zip(lines, runs, strict=False):
            expected = [record["validation"] for record in runs[name]]
            for key in path:
                expected = [value[key] for value in expected]
            np.testing.assert_array_equal(found.get_ydata(), expected)
    colours = [[found.get_color() for found in axes.lines] for axes in figure.axes]
    assert colours == [colours[0]] * 4 and len(set(colours[0])) == 2
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_compare_curves_each_loss_has_a_panel_of_its_own():
    """Numbers of different losses cannot be compared: they never share an axis."""
    losses = {"a": LossNames("x", "hit_bce"), "b": LossNames("y", "acb_mse"), "c": LossNames("z", "hit_bce")}
    runs = {name: history(3) for name in losses}
    figure = compare_curves(runs, losses=losses)
    panels = [axes for axes in figure.axes if axes.get_title() == "loss, validation"]
    assert [(axes.get_ylabel(), len(axes.lines)) for axes in panels] == [("hit_bce", 2), ("acb_mse", 1)]
    assert panels[1].lines[0].get_color() == figure.axes[-1].lines[1].get_color()
    assert [len(axes.lines) for axes in figure.axes[2:]] == [3, 3, 3]
    figure = compare_curves(runs, metrics=("train.loss", "loss"), losses=losses | {"b": losses["a"]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["x", "z", "hit_bce"]
    known = compare_curves({"a": history(3), "b": history(2)}, losses={"a": losses["a"]})
    assert [axes.get_ylabel() for axes in known.axes[:2]] == ["hit_bce", ""]
    assert [axes.get_title() for axes in compare_curves({}, losses=losses).axes][:2] == [
        "loss, validation",
        "efficiency, masked",
    ]


@pytest.mark.backlog("B19")
def test_compare_curves_share_one_unit_of_time():
    runs = {"hours": history(4, seconds=3000.0), "seconds": history(5, seconds=1.0)}
    figure = compare_curves(runs, against="time")
    slow, quick = figure.axes[0].lines
    np.testing.assert_allclose(slow.get_xdata(), np.cumsum([3000, 6000, 9000, 12000]) / 3600)
    np.testing.assert_allclose(quick.get_xdata(), np.cumsum([1, 2, 3, 4, 5]) / 3600)
    assert figure.axes[-1].get_xlabel() == "training time (h)"
    alone = compare_curves({"seconds": runs["seconds"]}, against="time")
    assert alone.axes[-1].get_xlabel() == "training time (s)"


def test_compare_curves_any_metrics_can_be_compared():
    metrics = ("train.loss", "direct.psnr_db", "counts.noise_hits", "no.such $metric", "train.precision")
    figure = compare_curves({"a": FULL_HISTORY}, metrics=metrics)
    titles = ["loss, train", "PSNR (dB), direct", "counts.noise_hits, validation", "no.such $metric, validation"]
    assert [axes.get_title() for axes in figure.axes] == [*titles, "precision, train"]
    np.testing.assert_allclose(
        figure.axes[0].lines[0].get_ydata(), [record["train"]["loss"] for record in FULL_HISTORY]
    )
    assert [bool(axes.lines) for axes in figure.axes] == [True, True, True, False, False]
    assert texts(figure) == ["no values"] * 2
    small_png(figure)


@pytest.mark.parametrize(
    "draw", [lambda metrics: compare_curves({}, metrics=metrics), lambda metrics: compare_outputs({}, metrics=metrics)]
)
@pytest.mark.parametrize("metrics", [(3,), ("f1", None), ("",), (" ",), "f1"])
def test_comparison_unknown_metric_raises(draw, metrics):
    with pytest.raises(ValueError, match=r"metrics (has|is) .*, expected"):
        draw(metrics)


@pytest.mark.slow
def test_comparison_of_nothing_says_so():
    assert texts(compare_curves({})) == ["no runs"] * 4
    assert texts(compare_curves({"a": FULL_HISTORY}, metrics=())) == ["no metrics"]
    assert texts(compare_curves({"a": []})) == ["no values"] * 4
    assert texts(compare_outputs({})) == ["no runs"]
    assert texts(compare_outputs({"a": result()}, metrics=())) == ["no metrics"]
    assert texts(compare_outputs({"a": None})) == ["no values"]
    assert texts(radar({})) == ["no runs"]
    for nothing in (None, {}, {"masked": None}, {"direct": result()["masked"]}, {"masked": {"f1": math.nan}}):
        assert texts(radar({"a": nothing})) == ["no values of the masked output"]
    for figure in (compare_curves({}), compare_outputs({}), radar({}), radar({"a": None})):
        small_png(figure)


@pytest.mark.slow
def test_compare_curves_more_runs_than_colours_differ():
    figure = compare_curves({f"run {n}": FULL_HISTORY[:2] for n in range(60)})
    looks = {(found.get_color(), found.get_linestyle(), found.get_marker()) for found in figure.axes[0].lines}
    assert len(looks) == 60
    assert len(legend(figure)) == 60
    small_png(figure)


def polygons(figure) -> list[np.ndarray]:
    """What each run has on the spokes, the first of them again at the end."""
    return [np.asarray(found.get_ydata(), float) for found in figure.axes[0].lines]


def test_radar_follows_its_rule_whatever_the_runs():
    values = {"efficiency": 0.9, "purity": 0.8, "f1": 0.7, "noise_rejection": 0.6, "correlation": -0.5, "nmi": 0.4}
    values |= {"ssim": 1.0, "psnr_db": 30.0, "true_positive_xy_percent": 25.0, "true_positive_tof_near_percent": 10.0}
    expected = [0.9, 0.8, 0.7, 0.6, 0.25, 0.1, 0.0, 0.4, 1.0, 0.5, 0.9]
    [alone] = polygons(radar({"a": {"masked": values}}))
    np.testing.assert_allclose(alone, expected)
    first, second = polygons(radar({"a": {"masked": values}, "b": result(psnr_db=100.0)}, title="two"))
    np.testing.assert_allclose(first, expected)
    assert second[9] == 1  # clipped
    labels = texts(radar({"a": {"masked": values}}))
    assert "PSNR\n0 to 60 dB" in labels and "true positives\nxy\n0 to 100 %" in labels and "F1\n0 to 1" in labels
    assert len(labels) == 10


def test_radar_missing_values_are_gaps_and_named():
    runs = {
        "a": result(ssim=None, f1=math.nan),
        "b": None,
        "c": {},
        "d": result(),
        "e": {"events": 0, **result()} | {"events": 0},
    }
    figure = radar(runs)
    first, second = polygons(figure)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(first)), [2, 8])
    assert not np.isnan(second).any()
    assert legend(figure) == ["a", "d"]
    assert notes(figure) == "a: no F1, SSIM\nb: not evaluated\nc: not evaluated\ne: no events"
    small_png(figure)
    many = notes(radar({f"run {n}": None for n in range(20)}))
    assert many.endswith("run 7: not evaluated\nand 12 more runs without all values")


@pytest.mark.parametrize("draw", [radar, compare_outputs])
def test_comparison_unknown_output_raises(draw):
    with pytest.raises(ValueError, match="output is 'raw', allowed are 'input', 'direct', 'masked'"):
        draw({"a": result()}, output="raw")
    direct = {"direct": result()["masked"]}
    assert draw({"a": direct}, output="direct").get_label() != draw({"a": result()}).get_label()


def test_compare_outputs_bars_are_grouped_by_metric():
    runs = {"a": result(efficiency=0.9, f1=0.7), "b": result(purity=0.1), "c": None, "d": result() | {"events": 0}}
    figure = compare_outputs(runs, title="runs")
    [axes] = figure.axes
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights[:2] == [[0.9, 0.5, 0.7, 0.5], [0.5, 0.1, 0.5, 0.5]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["efficiency", "purity", "F1", "noise rejection"]
    assert legend(figure) == ["a", "b", "c (not evaluated)", "d (no events)"]
    assert texts(figure) == ["0.900", "0.500", "0.700", "0.500", "0.500", "0.100", "0.500", "0.500", *["n/a"] * 8]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.containers[0]]
    np.testing.assert_allclose(np.diff(centres), 1)
    assert notes(figure) == ""
    small_png(figure)


def test_compare_outputs_units_have_their_own_axes():
    figure = compare_outputs(
        {"a": result(psnr_db=-3.0)}, metrics=("f1", "psnr_db", "efficiency", "power_snr_db", "w$at")
    )
    shares, decibels, unknown = figure.axes
    assert [bar.get_height() for bar in shares.patches] == [0.5, 0.5]
    assert [bar.get_height() for bar in decibels.patches] == [-3.0, 0.5]
    assert (shares.get_ylabel(), decibels.get_ylabel(), unknown.get_ylabel()) == ("share", "dB", "")
    assert [text.get_text() for text in unknown.texts] == ["n/a"]
    small_png(figure)


def error_bars(axes) -> list[tuple]:
    """Low and high ends, in the order of drawing."""
    return [tuple(path.vertices[:, 1]) for found in axes.collections for path in found.get_paths()]


INTERVALS = {"efficiency": [0.85, 0.93], "purity": (0.4, 0.6), "f1": None, "noise_rejection": [0.1]}


def test_comparison_intervals_are_error_bars():
    figure = compare_outputs({"a": result(efficiency=0.9) | {"intervals": {"masked": INTERVALS}}, "b": result()})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.85, 0.93), (0.4, 0.6)])
    assert notes(figure) == "error bars: 95 % confidence intervals"
    outputs = {"input": result()["masked"], **result(efficiency=0.9), "direct": None}
    figure = output_comparison(outputs | {"intervals": {"masked": INTERVALS, "direct": INTERVALS}})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.85, 0.93), (0.4, 0.6)])  # no bar, no interval
    assert notes(figure) == "error bars: 95 % confidence intervals"
    small_png(figure)


@pytest.mark.parametrize(
    "intervals",
    [None, 3, "text", {}, {"masked": None}, {"masked": {"f1": "ab"}}, {"masked": {"f1": [0.9, 0.1]}}]
    + [
        {"masked": {"f1": found}}
        for found in ([], [0.1, 0.2, 0.3], [math.nan, 0.3], [None, 1], {"low": 0.1, "high": 1})
    ],
)
def test_comparison_malformed_intervals_are_not_drawn(intervals):
    for figure in (
        compare_outputs({"a": result() | {"intervals": intervals}}),
        output_comparison(result() | {"intervals": intervals}),
    ):
        assert error_bars(figure.axes[0]) == []
        assert notes(figure) == ""
        small_png(figure)


def test_compare_outputs_value_outside_its_interval():
    figure = compare_outputs({"a": result(f1=0.5) | {"intervals": {"masked": {"f1": [0.6, 0.8]}}}})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.5, 0.8)])


def test_comparison_runs_have_one_look_everywhere():
    runs = [f"run {n}" for n in range(9)]
    lines = compare_curves(dict.fromkeys(runs, FULL_HISTORY)).axes[0].lines
    bars = compare_outputs(dict.fromkeys(runs, result())).axes[0].containers
    spokes = radar(dict.fromkeys(runs, result())).axes[0].lines
    assert [to_rgba(found.get_color()) for found in lines] == [to_rgba(found.get_color()) for found in spokes]
    assert [to_rgba(found.get_color()) for found in lines] == [found[0].get_facecolor() for found in bars]
    assert bars[0][0].get_hatch() != bars[7][0].get_hatch()
