"""Figures of metrics: the grid, training's details, and comparisons of runs; for any history, however incomplete."""

import math
from functools import partial

import numpy as np
import plotted
import pytest
from matplotlib.colors import to_rgba
from plotted import legend, notes, nothing_left_behind, texts  # noqa: F401 (fixture)

from tofae_jax.metrics import metric_names
from tofae_jax.plots import curves, style
from tofae_jax.plots.comparison import compare_curves, compare_outputs, radar
from tofae_jax.plots.curves import QUALITIES, output_comparison
from tofae_jax.plots.metric_grid import metrics_grid, training_details

png = partial(plotted.png, dpi=60)  # coarse is enough
HOSTILE = ["$x_{1}$ \\frac{", "_hidden", "two\nlines\x00", "long " * 60, "", "日本", "\ud800", "\u202e$"]
SHARES = ("efficiency", "purity", "f1", "noise_rejection")


def validation(epoch: int) -> dict:
    """All numbers that `metrics.compute` gives; those of quality differ from name to name and epoch to epoch."""
    result: dict = {"loss": 2.5 / epoch}
    for place, name in enumerate(metric_names()):
        *outer, key = name.split(".")
        if outer:
            result.setdefault(outer[0], {})[key] = (place + 1) / (100 * epoch)
    return result


def history(n: int, *, seconds: float = 10.0) -> list[dict]:
    return [
        {
            "epoch": epoch,
            "step": 5 * epoch,
            "learning_rate": 1e-3 / epoch,
            "train": {
                "loss": 2.0 / epoch,
                "gradient_norm": 0.5 / epoch,
                "parameter_norm": 20.0 + epoch,
                "update_norm": 0.1,
                "relative_update": 0.1 / (20 + epoch),
                "precision": "float32",
            },
            "validation": validation(epoch),
            "hits_dropped": epoch % 3,
            "time": {
                "epoch_s": seconds * epoch,
                "train_s": 0.8 * seconds * epoch,
                "validation_s": 0.2 * seconds * epoch,
            },
        }
        for epoch in range(1, n + 1)
    ]


HISTORY = history(7)
BROKEN = [
    {"epoch": 1},
    {"epoch": 2, "train": None, "validation": None, "time": None, "scheduled": None, "hits_dropped": "many"},
    {"epoch": 3, "train": {"loss": math.nan}, "validation": {"masked": {"f1": math.inf}, "direct": 3, "loss": 1e300}},
]


def result(**masked) -> dict:
    return {"events": 10, "masked": dict.fromkeys(QUALITIES, 0.5) | masked}


def panel(figure, title):
    [found] = [axes for axes in figure.axes if axes.get_title() == title]
    return found


def line(axes, label):
    """x and y of a curve."""
    [found] = [found for found in axes.lines if found.get_label() == label]
    return found.get_xydata().T


DRAWINGS = {
    "grid": lambda history: metrics_grid(history),
    "grid against time": lambda history: metrics_grid(history, against="time"),
    "details": lambda history: training_details(history),
    "details against time": lambda history: training_details(history, against="time"),
    "curves": lambda history: curves.training_curves(history),
    "comparison": lambda history: compare_curves({"a": history, "b": HISTORY[:3]}),
    "comparison against time": lambda history: compare_curves({"a": history}, against="time"),
}


@pytest.mark.parametrize("history", [[], HISTORY[:1], BROKEN], ids=["none", "one", "broken"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_any_history_can_be_drawn(name, history):
    assert len(png(DRAWINGS[name](history))) > 3000


@pytest.mark.parametrize("name", ["grid", "details against time", "comparison"])
def test_the_same_history_looks_the_same(name):
    first = png(DRAWINGS[name](HISTORY))
    assert png(DRAWINGS[name](HISTORY)) == first
    assert png(DRAWINGS[name](HISTORY[:6])) != first


def test_the_same_results_look_the_same():
    runs = {"a": result(f1=0.7) | {"intervals": {"masked": INTERVALS}}, "b": None, "c": result(ssim=None)}
    for draw in (radar, compare_outputs):
        first = png(draw(runs))
        assert png(draw(runs)) == first
        assert png(draw(runs | {"a": result(f1=0.8)})) != first


@pytest.mark.parametrize("large", [-1.7e308, 5e-324])
def test_numbers_at_the_end_of_their_range_do_no_harm(large):
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
        png(DRAWINGS[name](extreme))
    assert len(metrics_grid(extreme).axes) == 18
    png(compare_outputs({"a": extreme[0]["validation"]}, metrics=("mse", "f1")))
    png(radar({"a": extreme[0]["validation"]}))


@pytest.mark.backlog("B50")
def test_the_grid_has_every_metric_of_quality_that_validation_gives():
    counts = {"true_positives", "false_positives", "false_negatives", "noise_left", "noise_made"}
    counts |= {"true_positives_xy", "true_positives_tof", "true_positives_tof_near"}
    given = {name.removeprefix("masked.") for name in metric_names() if name.startswith("masked.")}
    assert set(QUALITIES) == given - counts
    figure = metrics_grid(HISTORY, title="a run")
    assert [axes.get_title() for axes in figure.axes] == ["loss", *(known.label for known in QUALITIES.values())]
    for name, quantity in QUALITIES.items():
        axes = panel(figure, quantity.label)
        for output in ("input", "direct", "masked"):
            if (output, name) == ("input", "ssim"):
                assert [found.get_label() for found in axes.lines] == ["direct", "masked"]
                continue
            x, y = line(axes, output)
            np.testing.assert_array_equal(x, range(1, 8))
            np.testing.assert_array_equal(y, [record["validation"][output][name] for record in HISTORY])
    np.testing.assert_allclose(line(panel(figure, "loss"), "train")[1], 2 / x)
    np.testing.assert_allclose(line(panel(figure, "loss"), "validation")[1], 2.5 / x)
    assert legend(figure) == ["input", "direct", "masked"]
    assert {axes.get_xlim() for axes in figure.axes} == {figure.axes[0].get_xlim()}


def test_the_input_is_a_thin_grey_reference():
    for axes in metrics_grid(HISTORY).axes[1:]:
        for found in axes.lines:
            assert found.get_color() == style.OUTPUTS[found.get_label()]
            assert (found.get_linewidth() < 1) == (found.get_label() == "input")


def test_units_and_whole_ranges():
    figure = metrics_grid(HISTORY)
    titles = {axes.get_title() for axes in figure.axes}
    assert {"PSNR (dB)", "MSE (t²/T²)", "MAE (t/T)", "true positives, xy (%)", "efficiency", "NMI"} <= titles
    assert panel(figure, "purity").get_ylim() == (-0.02, 1.02)
    assert panel(figure, "true positives, xy + near ToF (%)").get_ylim() == (-2, 102)


@pytest.mark.parametrize(("last", "scale"), [(0.11, "linear"), (0.09, "log"), (0.0, "linear"), (-1.0, "linear")])
def test_errors_that_fall_far_have_a_logarithmic_axis(last, scale):
    records = [{"epoch": e, "validation": {"masked": {"mse": mse, "psnr_db": mse}}} for e, mse in ((1, 1.0), (2, last))]
    figure = metrics_grid(records)
    assert panel(figure, "MSE (t²/T²)").get_yscale() == scale
    assert panel(figure, "PSNR (dB)").get_yscale() == "linear"
    png(figure)


def test_metrics_without_values_say_so_and_others_are_drawn():
    records = [
        {"epoch": e, "validation": {"masked": {"f1": f1, "nmi": None}}} for e, f1 in ((1, 0.1), (2, None), (3, 0.3))
    ]
    figure = metrics_grid(records)
    np.testing.assert_array_equal(line(panel(figure, "F1"), "masked"), [[1, 3], [0.1, 0.3]])
    assert texts(figure) == ["no values"] * 17
    assert not panel(figure, "F1").texts
    assert texts(metrics_grid([])) == ["no values"] * 18
    assert legend(metrics_grid([])) == []


@pytest.mark.parametrize(
    "draw", [metrics_grid, training_details, lambda found, **how: compare_curves({"a": found}, **how)]
)
def test_what_cannot_be_placed_is_refused(draw):
    with pytest.raises(ValueError, match="against is 'step', allowed are 'epoch', 'time'"):
        draw(HISTORY, against="step")
    with pytest.raises(ValueError, match=r"record 1 of the history.* has no number 'epoch'"):
        draw([HISTORY[0], {"train": {"loss": 1.0}}])


@pytest.mark.backlog("B19")
def test_each_epoch_has_one_duration_of_its_own():
    records = [dict(record, time=record["time"] | {"plots_s": 0.5, "drawing_cpu_s": 0.25}) for record in HISTORY]
    for against in ("epoch", "time"):
        axes = panel(training_details(records, against=against), "duration of an epoch (s)")
        drawn = {found.get_label(): found.get_ydata() for found in axes.lines}
        own = 10.0 * np.arange(1, 8)
        np.testing.assert_allclose(drawn["epoch"], own)  # not summed up
        np.testing.assert_allclose(drawn["train"], 0.8 * own)
        np.testing.assert_allclose(drawn["validation"], 0.2 * own)
        np.testing.assert_allclose(drawn["plots"], [0.5] * 7)
        np.testing.assert_allclose(drawn["drawing (background)"], [0.25] * 7)
        assert len(drawn) == 5
    without = panel(training_details(HISTORY), "duration of an epoch (s)")
    assert [found.get_label() for found in without.lines] == ["epoch", "train", "validation"]


@pytest.mark.backlog("B50")
def test_details_are_those_of_the_history():
    figure = training_details(HISTORY, title="a run")
    for title, expected in {
        "learning rate": [record["learning_rate"] for record in HISTORY],
        "gradient norm": [record["train"]["gradient_norm"] for record in HISTORY],
        "parameter norm": [record["train"]["parameter_norm"] for record in HISTORY],
        "relative update": [record["train"]["relative_update"] for record in HISTORY],
        "hits dropped per epoch": [1, 2, 0, 1, 2, 0, 1],
    }.items():
        [found] = panel(figure, title).lines
        np.testing.assert_array_equal(found.get_xydata().T, [range(1, 8), expected])
    assert len(figure.axes) == 6  # nothing was scaled, skipped or scheduled


def test_what_is_not_always_recorded_has_a_panel_where_it_is():
    scaled = [dict(record, train=record["train"] | {"loss_scale": 8.0, "steps_skipped": 2}) for record in HISTORY]
    figure = training_details(scaled)
    np.testing.assert_array_equal(panel(figure, "loss scale").lines[0].get_ydata(), [8.0] * 7)
    np.testing.assert_array_equal(panel(figure, "steps skipped per epoch").lines[0].get_ydata(), [2] * 7)
    assert len(figure.axes) == 8


def test_scheduled_settings_are_drawn_whatever_they_are():
    schedules = [
        {"a.$x_{": e, "b.range": [1, 2 * e], "c.name": "text", "d.some": None if e < 3 else e} for e in range(7)
    ]
    schedules[1] = {}
    figure = training_details([record | {"scheduled": now} for record, now in zip(HISTORY, schedules, strict=True)])
    [found] = panel(figure, "a.$x_{, scheduled").lines
    np.testing.assert_array_equal(found.get_xydata().T, [[1, 3, 4, 5, 6, 7], [0, 2, 3, 4, 5, 6]])
    low, high = panel(figure, "b.range, scheduled").lines
    np.testing.assert_array_equal(low.get_ydata(), [1] * 6)
    np.testing.assert_array_equal(high.get_ydata(), [0, 4, 6, 8, 10, 12])
    assert [text.get_text() for text in panel(figure, "c.name, scheduled").texts] == ["no values"]
    np.testing.assert_array_equal(panel(figure, "d.some, scheduled").lines[0].get_xdata(), [4, 5, 6, 7])
    png(figure)
    many = training_details([{"epoch": 1, "scheduled": {f"key {n}": list(range(99)) for n in range(15)}}])
    assert sum("scheduled" in axes.get_title() for axes in many.axes) == 12
    assert notes(many) == "3 more settings are scheduled"
    png(many)


@pytest.mark.backlog("B19", "B50")
def test_runs_of_any_length_are_compared_without_trimming():
    runs = {"long": history(9), "short": history(2), "none": [], "null": None, "unknown": [{"epoch": 1}]}
    figure = compare_curves(runs, title="two runs")
    assert legend(figure) == ["long", "short", "none (no history)", "null (no history)", "unknown (no values)"]
    for title, path in {"loss, validation": ["loss"], "F1, masked": ["masked", "f1"]}.items():
        lines = panel(figure, title).lines
        assert [len(found.get_xdata()) for found in lines] == [9, 2]
        for found, name in zip(lines, runs, strict=False):
            expected = [record["validation"] for record in runs[name]]
            for key in path:
                expected = [value[key] for value in expected]
            np.testing.assert_array_equal(found.get_ydata(), expected)
    colours = [[found.get_color() for found in axes.lines] for axes in figure.axes]
    assert colours == [colours[0]] * 4 and len(set(colours[0])) == 2
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


@pytest.mark.backlog("B19")
def test_runs_share_one_unit_of_time():
    runs = {"hours": history(4, seconds=3000.0), "seconds": history(5, seconds=1.0)}
    figure = compare_curves(runs, against="time")
    slow, quick = figure.axes[0].lines
    np.testing.assert_allclose(slow.get_xdata(), np.cumsum([3000, 6000, 9000, 12000]) / 3600)
    np.testing.assert_allclose(quick.get_xdata(), np.cumsum([1, 2, 3, 4, 5]) / 3600)
    assert figure.axes[-1].get_xlabel() == "training time (h)"
    alone = compare_curves({"seconds": runs["seconds"]}, against="time")
    assert alone.axes[-1].get_xlabel() == "training time (s)"


def test_training_and_any_number_of_metrics_can_be_compared():
    metrics = ("train.loss", "direct.psnr_db", "counts.noise_hits", "no.such $metric", "train.precision")
    figure = compare_curves({"a": HISTORY}, metrics=metrics)
    titles = ["loss, train", "PSNR (dB), direct", "counts.noise_hits, validation", "no.such $metric, validation"]
    assert [axes.get_title() for axes in figure.axes] == [*titles, "precision, train"]
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [record["train"]["loss"] for record in HISTORY])
    assert [bool(axes.lines) for axes in figure.axes] == [True, True, True, False, False]
    assert texts(figure) == ["no values"] * 2
    png(figure)


@pytest.mark.parametrize(
    "draw", [lambda metrics: compare_curves({}, metrics=metrics), lambda metrics: compare_outputs({}, metrics=metrics)]
)
@pytest.mark.parametrize("metrics", [(3,), ("f1", None), ("",), (" ",), "f1"])
def test_what_is_no_metric_is_refused(draw, metrics):
    with pytest.raises(ValueError, match=r"metrics (has|is) .*, expected"):
        draw(metrics)


def test_comparisons_of_nothing_say_so():
    assert texts(compare_curves({})) == ["no runs"] * 4
    assert texts(compare_curves({"a": HISTORY}, metrics=())) == ["no metrics"]
    assert texts(compare_curves({"a": []})) == ["no values"] * 4
    assert texts(compare_outputs({})) == ["no runs"]
    assert texts(compare_outputs({"a": result()}, metrics=())) == ["no metrics"]
    assert texts(compare_outputs({"a": None})) == ["no values"]
    assert texts(radar({})) == ["no runs"]
    for nothing in (None, {}, {"masked": None}, {"direct": result()["masked"]}, {"masked": {"f1": math.nan}}):
        assert texts(radar({"a": nothing})) == ["no values of the masked output"]
    for figure in (compare_curves({}), compare_outputs({}), radar({}), radar({"a": None})):
        png(figure)


def test_more_runs_than_colours_still_differ():
    figure = compare_curves({f"run {n}": HISTORY[:2] for n in range(60)})
    looks = {(found.get_color(), found.get_linestyle(), found.get_marker()) for found in figure.axes[0].lines}
    assert len(looks) == 60
    assert len(legend(figure)) == 60
    png(figure)


def test_hostile_names_are_drawn_literally():
    runs = dict.fromkeys(HOSTILE, HISTORY[:2])
    names = legend(compare_curves(runs))
    assert names[:3] == [HOSTILE[0], "_hidden", "two lines"]
    assert len(names[3]) <= 44 and "…" in names[3]
    assert names[4:] == ["(no name) [1]", "\ufffd\ufffd", "(no name) [2]", "$"]
    results = {name: result(f1=None) for name in HOSTILE}
    for figure in (compare_curves(runs), compare_outputs(results), radar(results)):
        assert legend(figure) == names
        assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())
        png(figure)


def test_long_names_stay_apart():
    start, end = "run-" * 30, "-end" * 30
    names = legend(compare_curves({start: [], f"{start}1": [], f"{start}1{end}": [], f"{start}2{end}": []}))
    assert len(set(names)) == 4
    assert names[2].startswith("run-run-") and names[2].endswith("-end [1] (no history)")


def polygons(figure) -> list[np.ndarray]:
    """What each run has on the spokes, the first of them again at the end."""
    return [np.asarray(found.get_ydata(), float) for found in figure.axes[0].lines]


def test_the_radar_follows_its_rule_whatever_the_runs():
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


def test_radars_have_gaps_where_values_are_missing_and_say_so():
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
    png(figure)
    many = notes(radar({f"run {n}": None for n in range(20)}))
    assert many.endswith("run 7: not evaluated\nand 12 more runs without all values")


@pytest.mark.parametrize("draw", [radar, compare_outputs])
def test_outputs_are_known_by_name(draw):
    with pytest.raises(ValueError, match="output is 'raw', allowed are 'input', 'direct', 'masked'"):
        draw({"a": result()}, output="raw")
    direct = {"direct": result()["masked"]}
    assert draw({"a": direct}, output="direct").get_label() != draw({"a": result()}).get_label()


def test_bars_of_runs_are_grouped_by_metric():
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
    png(figure)


def test_metrics_of_different_units_have_axes_of_their_own():
    figure = compare_outputs(
        {"a": result(psnr_db=-3.0)}, metrics=("f1", "psnr_db", "efficiency", "power_snr_db", "w$at")
    )
    shares, decibels, unknown = figure.axes
    assert [bar.get_height() for bar in shares.patches] == [0.5, 0.5]
    assert [bar.get_height() for bar in decibels.patches] == [-3.0, 0.5]
    assert (shares.get_ylabel(), decibels.get_ylabel(), unknown.get_ylabel()) == ("share", "dB", "")
    assert [text.get_text() for text in unknown.texts] == ["n/a"]
    png(figure)


def error_bars(axes) -> list[tuple]:
    """Low and high ends, in the order of drawing."""
    return [tuple(path.vertices[:, 1]) for found in axes.collections for path in found.get_paths()]


INTERVALS = {"efficiency": [0.85, 0.93], "purity": (0.4, 0.6), "f1": None, "noise_rejection": [0.1]}


def test_confidence_intervals_are_error_bars():
    figure = compare_outputs({"a": result(efficiency=0.9) | {"intervals": {"masked": INTERVALS}}, "b": result()})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.85, 0.93), (0.4, 0.6)])
    assert notes(figure) == "error bars: 95 % confidence intervals"
    outputs = {"input": result()["masked"], **result(efficiency=0.9), "direct": None}
    figure = output_comparison(outputs | {"intervals": {"masked": INTERVALS, "direct": INTERVALS}})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.85, 0.93), (0.4, 0.6)])  # no bar, no interval
    assert notes(figure) == "error bars: 95 % confidence intervals"
    png(figure)


@pytest.mark.parametrize(
    "intervals",
    [None, 3, "text", {}, {"masked": None}, {"masked": {"f1": "ab"}}, {"masked": {"f1": [0.9, 0.1]}}]
    + [
        {"masked": {"f1": found}}
        for found in ([], [0.1, 0.2, 0.3], [math.nan, 0.3], [None, 1], {"low": 0.1, "high": 1})
    ],
)
def test_intervals_that_make_no_sense_are_not_drawn(intervals):
    for figure in (
        compare_outputs({"a": result() | {"intervals": intervals}}),
        output_comparison(result() | {"intervals": intervals}),
    ):
        assert error_bars(figure.axes[0]) == []
        assert notes(figure) == ""
        png(figure)


def test_a_value_outside_of_its_interval_keeps_the_interval_s_nearer_end():
    figure = compare_outputs({"a": result(f1=0.5) | {"intervals": {"masked": {"f1": [0.6, 0.8]}}}})
    np.testing.assert_allclose(error_bars(figure.axes[0]), [(0.5, 0.8)])


def test_runs_have_one_look_in_all_comparisons():
    runs = [f"run {n}" for n in range(9)]
    lines = compare_curves(dict.fromkeys(runs, HISTORY)).axes[0].lines
    bars = compare_outputs(dict.fromkeys(runs, result())).axes[0].containers
    spokes = radar(dict.fromkeys(runs, result())).axes[0].lines
    assert [to_rgba(found.get_color()) for found in lines] == [to_rgba(found.get_color()) for found in spokes]
    assert [to_rgba(found.get_color()) for found in lines] == [found[0].get_facecolor() for found in bars]
    assert bars[0][0].get_hatch() != bars[7][0].get_hatch()


def test_figures_say_what_they_show():
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
