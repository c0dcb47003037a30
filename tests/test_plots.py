"""Figures: what they draw, for ordinary and degenerate data; where they go; that their data draw them again."""

import ast
import io
import math
from pathlib import Path

import matplotlib
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.image import imread

from tofae_jax import plots
from tofae_jax.datasets.events import DataError
from tofae_jax.datasets.integrity import Distributions
from tofae_jax.detector import Detector
from tofae_jax.plots import EventView, delivery, style

DETECTOR = Detector()
SMALL = Detector(n_x=9, n_y=7, n_t=40, width_mm=18.0, height_mm=3.5, window_ns=2.0)
NO_HITS = np.zeros((0, 3), np.int16)
N_SIGNAL, N_NOISE = 30, 200


def v_shape() -> EventView:
    """Two arms from (45, 110) upwards, 30 hits of them seen, among 200 of noise; the left arm's foot is not found."""
    rng = np.random.default_rng(7)
    step = np.arange(36)
    pattern = np.concatenate([np.stack([45 + side * step, 110 - 3 * step, 400 + step], 1) for side in (-1, 1)])
    pattern = np.unique(pattern, axis=0)
    sparse = pattern[rng.choice(len(pattern), N_SIGNAL, replace=False)]
    smeared = sparse + rng.integers(-1, 2, sparse.shape)
    noise = np.stack([rng.integers(0, 88, N_NOISE), rng.integers(0, 128, N_NOISE), rng.integers(1, 1001, N_NOISE)], 1)
    order = rng.permutation(N_SIGNAL + N_NOISE)
    hits = np.concatenate([smeared, noise])[order].astype(np.int16)
    direct = np.zeros((128, 88), np.float32)
    for reach in (-1, 0, 1):
        direct[pattern[:, 1], np.clip(pattern[:, 0] + reach, 0, 87)] = pattern[:, 2]
    direct[95:, :45] = 0
    return EventView(pattern, sparse, smeared, hits, order < N_SIGNAL, direct, direct[hits[:, 1], hits[:, 0]] > 0)


def nothing(detector: Detector = DETECTOR) -> EventView:
    dark, none = np.zeros((detector.n_y, detector.n_x), np.float32), np.zeros(0, bool)
    return EventView(NO_HITS, NO_HITS, NO_HITS, NO_HITS, none, dark, none)


def single() -> EventView:
    """One hit in the last corner, found."""
    hit, yes, direct = np.array([[87, 127, 1000]], np.int16), np.ones(1, bool), np.zeros((128, 88), np.float32)
    direct[127, 87] = 1000
    return EventView(hit, hit, hit, hit, yes, direct, yes)


def occluded() -> EventView:
    """All hits share a pixel; the latest, which is noise, hides the rest."""
    hits = np.array([[3, 4, t] for t in (1, 5, 9, 12)], np.int16)
    direct = np.zeros((128, 88), np.float32)
    direct[4, 3] = 12
    return EventView(hits, hits[:3], hits[:3], hits, np.arange(4) < 3, direct, np.arange(4) == 3)


VIEWS = {"normal": v_shape(), "empty": nothing(), "single": single(), "occluded": occluded()}
EVENT_FIGURES = [plots.stage_panels, plots.event_3d]


def png(figure) -> bytes:
    with style.style():
        figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


def pixels(figure) -> np.ndarray:
    """What the figure looks like: [Y, X, RGB] in 0..255."""
    return np.round(imread(io.BytesIO(png(figure)))[..., :3] * 255).astype(int)


def panel(figure, name):
    """The panel whose title begins with the name."""
    return next(axes for axes in figure.axes if axes.get_title().startswith(name))


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def offsets(axes, name) -> np.ndarray:
    """Positions of the markers of one group, [n, 2]."""
    return np.asarray(next(found for found in axes.collections if found.get_label() == name).get_offsets())


def centres_mm(hits) -> np.ndarray:
    return np.stack([(hits[:, 0] + 0.5) * 7.5, (hits[:, 1] + 0.5) * 53 / 128], axis=1)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No figure stays with pyplot, and no setting of matplotlib changes."""
    before = dict(matplotlib.rcParams)
    yield
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_event_figures_are_drawn_for_any_event(draw, name, units, has_time):
    view = VIEWS[name]
    view = view if has_time else view._replace(direct=np.sign(view.direct), has_time=False)
    figure = draw(view, detector=DETECTOR, units=units, title="an event")
    assert len(np.unique(pixels(figure))) > 10
    annotations = [text for text in texts(figure) if text.startswith("no ")]
    n_panels = {plots.stage_panels: 6, plots.event_3d: 8 if has_time else 6}[draw]
    assert len(annotations) == (n_panels if name == "empty" else 0)


@pytest.mark.backlog("B16")
def test_only_empty_panels_say_so():
    view = v_shape()._replace(pattern=NO_HITS, direct=np.zeros((128, 88)), kept=np.zeros(230, bool))
    figure = plots.stage_panels(view, detector=DETECTOR)
    assert [text.get_text() for text in panel(figure, "pattern").texts] == ["no hits"]
    assert [text.get_text() for text in panel(figure, "direct").texts] == ["no lit pixels"]
    assert texts(figure) == ["no hits", "no lit pixels"]  # the masked panel shows what was missed


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("draw", EVENT_FIGURES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_signal": np.ones(7, bool)}, r"is_signal has shape \(7,\), but hits has shape \(230, 3\)"),
        ({"kept": np.ones((230, 1), bool)}, r"kept has shape \(230, 1\), but hits has shape \(230, 3\)"),
        ({"direct": np.zeros((88, 128))}, r"direct has shape \(88, 128\), .* have shape \(128, 88\)"),
        ({"sparse": np.zeros((4, 2), int)}, r"sparse has shape \(4, 2\), expected \(n, 3\)"),
        ({"pattern": np.zeros(0, int)}, r"pattern has shape \(0,\), expected \(n, 3\)"),
        ({"kept": np.ones(230)}, "kept has type float64, expected bool"),
    ],
)
def test_mismatched_arrays_are_named(draw, change, message):
    with pytest.raises(ValueError, match=message):
        draw(v_shape()._replace(**change), detector=DETECTOR)


@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_unknown_units_are_refused(draw):
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        draw(v_shape(), detector=DETECTOR, units="inches")


@pytest.mark.backlog("B60")
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_signal_is_red_in_the_noised_event(draw):
    view = v_shape()
    figure = draw(view, detector=DETECTOR)
    flat = [axes for axes in figure.axes if axes.name == "rectilinear"]
    axes = panel(figure, "noised") if draw is plots.stage_panels else flat[1]  # beneath the second of the 3-D panels
    for name, colour, of in (("signal", style.SIGNAL, view.is_signal), ("noise", style.NOISE, ~view.is_signal)):
        drawn = next(found for found in axes.collections if found.get_label() == name)
        np.testing.assert_array_equal(np.unique(drawn.get_facecolors(), axis=0), [to_rgba(colour)])
        np.testing.assert_allclose(np.asarray(drawn.get_offsets()), centres_mm(view.hits[of]))
    red, green, blue = to_rgb(style.SIGNAL)
    assert red > 0.75 and red > 3 * max(green, blue)
    assert len(set(to_rgb(style.NOISE))) == 1


def red_in_panel(view: EventView) -> int:
    figure = plots.stage_panels(view, detector=DETECTOR)
    image = pixels(figure)
    box = panel(figure, "noised").get_window_extent()
    rows = slice(round(len(image) - box.y1), round(len(image) - box.y0))
    inside = image[rows, round(box.x0) : round(box.x1)]
    return int(np.sum(np.all(inside == np.round(np.multiply(to_rgb(style.SIGNAL), 255)), axis=-1)))


@pytest.mark.backlog("B60")
def test_red_is_seen_exactly_where_there_is_signal():
    view = v_shape()
    assert red_in_panel(view) > 10 * N_SIGNAL
    assert red_in_panel(view._replace(is_signal=np.zeros(230, bool))) == 0


def test_3d_panels_hold_the_hits_in_mm_and_ns():
    view = v_shape()
    axes = panel(plots.event_3d(view, detector=DETECTOR), "noised")
    signal = next(found for found in axes.collections if found.get_label() == "signal")
    expected = view.hits[view.is_signal]
    x, y, t = (np.sort(np.asarray(values)) for values in signal._offsets3d)
    np.testing.assert_allclose(x, np.sort(centres_mm(expected)[:, 0]))
    np.testing.assert_allclose(y, np.sort(centres_mm(expected)[:, 1]))
    np.testing.assert_allclose(t, np.sort((expected[:, 2] - 0.5) * 0.025))
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_zlim()) == ((0, 660), (53, 0), (0, 25))


def test_headings_count_what_is_drawn():
    view = v_shape()
    figure = plots.stage_panels(view, detector=DETECTOR)
    found, false = int(np.sum(view.kept & view.is_signal)), int(np.sum(view.kept & ~view.is_signal))
    assert 0 < found < N_SIGNAL and false > 0
    assert [axes.get_title() for axes in figure.axes[:6]] == [
        f"pattern: {len(view.pattern)} signal",
        "sparse: 30 signal",
        "smeared: 30 signal",
        "noised: 30 signal, 200 noise",
        f"direct: {np.count_nonzero(view.direct)} lit pixels",
        f"masked: {found} signal, {false} noise, {N_SIGNAL - found} missed",
    ]
    assert panel(plots.stage_panels(single(), detector=DETECTOR), "direct").get_title() == "direct: 1 lit pixel"
    [legend] = figure.legends
    names = ["signal", "noise", "kept noise (false positive)", "missed signal"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_masked_panel_tells_found_false_and_missed_apart():
    view = v_shape()
    axes = panel(plots.stage_panels(view, detector=DETECTOR), "masked")
    groups = {"signal": view.kept & view.is_signal, "noise": view.kept & ~view.is_signal}
    groups["missed"] = ~view.kept & view.is_signal
    for name, of in groups.items():
        np.testing.assert_allclose(offsets(axes, name), centres_mm(view.hits[of]))
    by_name = {found.get_label(): found for found in axes.collections}
    assert len(by_name["missed"].get_facecolors()) == 0  # hollow
    np.testing.assert_array_equal(by_name["missed"].get_edgecolors(), [to_rgba(style.SIGNAL)])
    np.testing.assert_array_equal(by_name["noise"].get_edgecolors(), [to_rgba(style.KEPT_NOISE)])


def test_direct_panel_is_the_image_coloured_by_time():
    view = v_shape()
    figure = plots.stage_panels(view, detector=DETECTOR)
    [image] = panel(figure, "direct").images
    shown = image.get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), view.direct == 0)
    np.testing.assert_allclose(shown.compressed(), (view.direct[view.direct > 0] - 0.5) * 0.025)
    assert image.get_extent() == [0, 660, 53, 0]
    assert [axes.get_xlabel() for axes in figure.axes].count("direct output: time (ns)") == 1
    timeless = view._replace(direct=np.sign(view.direct), has_time=False)
    assert len(plots.stage_panels(timeless, detector=DETECTOR).axes) == 6  # no colour bar


def test_direct_output_that_is_not_finite_is_dark():
    direct = v_shape().direct.copy()
    direct[0, :4] = np.nan, np.inf, -np.inf, -3
    figure = plots.stage_panels(v_shape()._replace(direct=direct), detector=DETECTOR)
    assert np.ma.getmaskarray(panel(figure, "direct").images[0].get_array())[0, :4].all()
    assert len(pixels(figure))


@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_y_points_down_and_panels_show_the_whole_detector(draw):
    figure = draw(v_shape(), detector=DETECTOR)
    for axes in figure.axes[: 6 if draw is plots.stage_panels else None]:
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 660), (53, 0))
    axes = panel(plots.stage_panels(nothing(SMALL), detector=SMALL, units="pixels"), "noised")
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 8.5), (6.5, -0.5))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_aspect()) == ("x (pixel)", "y (pixel)", 1)


def test_a_very_oblong_detector_gets_no_sliver():
    detector = Detector(n_x=200, n_y=2)
    figure = plots.stage_panels(nothing(detector), detector=detector, units="pixels")
    assert figure.axes[0].get_aspect() == "auto"
    assert len(pixels(figure))


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


def test_curves_show_the_history_against_epoch_and_time():
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


def test_curves_leave_out_what_is_not_known():
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


@pytest.mark.parametrize("against", ["epoch", "time"])
@pytest.mark.parametrize("history", [[], [{"epoch": 1}], [{"epoch": 1, "validation": None, "time": {"epoch_s": None}}]])
def test_curves_without_values_say_so(history, against):
    figure = plots.training_curves(history, against=against)
    assert texts(figure) == ["no values"] * 4
    assert len(pixels(figure))


def test_curves_of_one_epoch_show_a_point():
    figure = plots.training_curves(HISTORY[:1])
    [point] = [found for found in panel(figure, "loss").lines if found.get_label() == "train"]
    assert point.get_marker() == "o"
    assert [tick for tick in panel(figure, "loss").get_xticks() if 0.9 < tick < 1.1] == [1]
    assert len(pixels(figure))


def test_curves_refuse_what_they_cannot_place():
    with pytest.raises(ValueError, match="against is 'step', allowed are 'epoch', 'time'"):
        plots.training_curves(HISTORY, against="step")
    with pytest.raises(ValueError, match="record 1 of the history has no number 'epoch'"):
        plots.training_curves([HISTORY[0], {"train": {"loss": 1.0}}])


def telemetry_record(epoch, above):
    outputs = {"threshold": 0.5, "above": above, "below": 1000 - above, "histogram": [600, 0, 300, 1000 - 900]}
    counts = {"pattern_hits": 500, "signal_hits": 300, "visible_signal_hits": 290, "noise_hits": 2000}
    return {"epoch": epoch, "validation": {"events": 10, "outputs": outputs, "counts": counts}}


@pytest.mark.backlog("B17", "B43")
def test_telemetry_shows_what_it_is_given():
    figure = plots.threshold_telemetry([telemetry_record(1, 900), telemetry_record(2, 100)])
    left, right = figure.axes
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["threshold 0.5", "above 100", "not above 900"]
    [line] = [found for found in left.lines if found.get_label() == "threshold 0.5"]
    np.testing.assert_array_equal(line.get_xdata(), [0.5, 0.5])
    lines = {line.get_label(): list(line.get_ydata()) for line in right.lines}
    assert lines == {
        "pixels above the threshold": [90, 10],
        "pattern hits": [50, 50],
        "kept signal hits": [30, 30],
        "visible signal hits": [29, 29],
        "noise hits": [200, 200],
    }
    assert len(np.unique(pixels(figure))) > 10


def test_telemetry_of_nothing_says_so():
    for history in ([], [{"epoch": 1, "validation": None}], [{"epoch": 1, "validation": {"events": 0}}]):
        figure = plots.threshold_telemetry(history)
        assert texts(figure) == ["no outputs", "no values"]
        assert len(pixels(figure))


RESULT = {
    "events": 10,
    "loss": 0.1,
    "input": {"efficiency": 1.0, "purity": 0.132, "f1": 0.233, "noise_rejection": 0.0},
    "direct": {"efficiency": 0.91, "purity": 0.874, "f1": 0.892, "noise_rejection": 0.985},
    "masked": {"efficiency": 0.912, "purity": 0.953, "f1": 0.931, "noise_rejection": 0.991},
}


def test_bars_are_as_high_as_their_numbers():
    figure = plots.output_comparison(RESULT, title="test events")
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert heights == [list(RESULT[output].values()) for output in ("input", "direct", "masked")]
    assert texts(figure) == [f"{height:.3f}" for bars in heights for height in bars]
    assert len(np.unique(pixels(figure))) > 10


def test_bars_without_a_number_say_so():
    incomplete = RESULT | {"direct": {"efficiency": None, "purity": math.nan}, "masked": None}
    assert texts(plots.output_comparison(incomplete))[4:] == ["n/a"] * 8
    for empty in ({}, RESULT | {"events": 0}):
        figure = plots.output_comparison(empty)
        assert texts(figure) == ["no events"]
        assert len(pixels(figure))


def distributions(events: list[np.ndarray], detector: Detector = SMALL) -> Distributions:
    """What `inspect_dataset` finds in these events."""
    counts = np.array([len(hits) for hits in events], int)
    shared = [len(hits) - len({(x, y) for x, y, _ in hits}) for hits in events]
    x, y, t = np.concatenate([NO_HITS, *events]).T
    per_count = np.bincount(counts, minlength=1)
    return Distributions(
        per_count,
        np.bincount(x, minlength=detector.n_x),
        np.bincount(y, minlength=detector.n_y),
        np.bincount(t, minlength=detector.n_t + 1),
        np.stack([per_count, np.bincount(counts, shared, minlength=1).astype(int)]),
    )


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_distributions_are_those_of_the_hits(units):
    events = [np.array([[8, 6, 40], [8, 6, 1], [0, 0, 3]]), np.array([[2, 3, 40]]), np.array([[2, 3, 40]])]
    figure = plots.dataset_distributions(distributions(events), detector=SMALL, units=units, title="a dataset")
    per_event, occlusion, x, y, t = figure.axes
    values, edges, _ = x.patches[0].get_data()
    np.testing.assert_array_equal(values, [1, 0, 2, 0, 0, 0, 0, 0, 2])
    np.testing.assert_allclose([edges[0], edges[-1]], x.get_xlim())
    np.testing.assert_array_equal(y.patches[0].get_data().values, [1, 0, 0, 2, 0, 0, 2])
    values, edges, _ = t.patches[0].get_data()
    assert (values[0], values[2], values[39], len(values)) == (1, 1, 3, 40)
    np.testing.assert_allclose([edges[0], edges[-1]], (0, 2) if units == "physical" else (0.5, 40.5))
    np.testing.assert_array_equal(per_event.patches[0].get_data().values, [2, 0, 1])
    np.testing.assert_allclose(occlusion.lines[0].get_xydata(), [[1, 0], [3, 100 / 3]])
    assert len(np.unique(pixels(figure))) > 10


def test_long_histograms_are_averaged_not_cut():
    counts = np.zeros(1001, int)
    counts[1000] = 16
    flat = Distributions(np.array([0, 16]), np.zeros(88, int), np.zeros(128, int), counts, np.array([[0, 16], [0, 0]]))
    values, edges, _ = plots.dataset_distributions(flat, detector=DETECTOR).axes[4].patches[0].get_data()
    assert len(values) <= 130
    np.testing.assert_allclose(np.sum(values * np.diff(edges)) / DETECTOR.bin_ns, 16)
    np.testing.assert_allclose(edges[-1], DETECTOR.window_ns)


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("events", [[], [NO_HITS]])
def test_distributions_of_nothing_say_so(events):
    figure = plots.dataset_distributions(distributions(events), detector=SMALL)
    assert texts(figure) == ([] if events else ["no events"]) + ["no hits"] * 4
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
def test_distributions_of_one_hit_and_of_all_occluded():
    one = distributions([np.array([[0, 0, 1]])])
    hidden = distributions([np.array([[1, 1, 1]] * 5)])
    for found, share in ((one, 0), (hidden, 80)):
        figure = plots.dataset_distributions(found, detector=SMALL)
        np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [share])
        assert len(pixels(figure))


@pytest.mark.backlog("B16")
def test_distributions_of_another_detector_are_refused():
    with pytest.raises(ValueError, match=r"histogram of x has shape \(9,\), but the detector's has shape \(88,\)"):
        plots.dataset_distributions(distributions([]), detector=DETECTOR)
    with pytest.raises(ValueError, match=r"occlusion has shape \(3,\), expected \(2, n\)"):
        plots.dataset_distributions(distributions([])._replace(occlusion=np.zeros(3)), detector=SMALL)


@pytest.fixture
def figure():
    return plots.output_comparison(RESULT)


@pytest.fixture
def headless(monkeypatch):
    """No display; opening a window fails the test."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("show", "figure"):
        monkeypatch.setattr(pyplot, name, lambda *_, **__: pytest.fail("a window was opened"))
    delivery.print_once.cache_clear()


@pytest.fixture
def screen(monkeypatch):
    """What `pyplot.show` would have shown."""
    shown = []

    def show(*, block):
        shown.extend(pyplot.figure(number).canvas.figure for number in pyplot.get_fignums())
        assert block

    monkeypatch.setattr(delivery, "display_obstacle", lambda: "")
    monkeypatch.setattr(pyplot, "show", show)
    return shown


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["", "Save", "yes", "savefig"])
def test_unknown_modes_are_refused(figure, tmp_path, mode):
    with pytest.raises(ValueError, match=rf"plot mode is '{mode}', allowed are 'show', 'save', 'both', 'none'"):
        plots.deliver(figure, tmp_path / "a.png", mode)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["show", "save", "both", "none"])
def test_each_mode_does_what_it_says(figure, tmp_path, screen, mode):
    path = tmp_path / "new" / "a.png"
    returned = plots.deliver(figure, path, mode, warn=pytest.fail)
    saves = mode in ("save", "both")
    assert returned == (path if saves else None)
    assert path.is_file() == saves
    assert screen == ([figure] if mode in ("show", "both") else [])


@pytest.mark.parametrize("path", [None, "plot", "plot.pdf"])
def test_saving_needs_a_png_path(figure, path):
    for mode in ("save", "both"):
        with pytest.raises(ValueError, match=f"plot mode '{mode}' needs a path that ends in '.png', got"):
            plots.deliver(figure, path, mode)
    assert plots.deliver(figure, path, "none") is None


def test_saved_file_is_the_figure(tmp_path):
    figure = plots.stage_panels(v_shape(), detector=DETECTOR)
    path = plots.deliver(figure, tmp_path / "a.png", "save")
    image = imread(path)
    np.testing.assert_allclose(image.shape[:2], figure.get_size_inches()[::-1] * 150, atol=1)
    assert image[..., :3].std() > 0.05  # a blank page has none
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(figure, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(partial, **_):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.deliver(figure, path, "save")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"old")]


@pytest.mark.backlog("B18")
@pytest.mark.parametrize("mode", ["show", "both"])
def test_without_a_display_nothing_opens_and_nothing_fails(figure, tmp_path, headless, mode):
    warnings = []
    returned = plots.deliver(figure, tmp_path / "a.png", mode, warn=warnings.append)
    assert (returned is not None) == (mode == "both") == (tmp_path / "a.png").is_file()
    [warning] = warnings
    assert warning.startswith("plots are not shown: this machine has no display")
    assert "\n" not in warning


def test_the_default_warning_is_printed_once_to_stderr(figure, headless, capsys):
    for _ in range(3):
        assert plots.deliver(figure, None, "show") is None
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("plots are not shown") == 1


def test_a_backend_without_windows_is_named(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    assert delivery.display_obstacle() == "matplotlib's backend 'agg' has no windows"
    monkeypatch.setattr(pyplot, "get_backend", lambda: "TkAgg")
    assert delivery.display_obstacle() == ""


def test_a_window_that_does_not_open_is_only_a_warning(figure, screen, monkeypatch):
    def fail(**_):
        raise RuntimeError("cannot connect")

    monkeypatch.setattr(pyplot, "figure", fail)
    warnings = []
    assert plots.deliver(figure, None, "show", warn=warnings.append) is None
    assert warnings == ["plots are not shown: no window opened: cannot connect"]


def test_a_figure_is_the_same_after_it_was_shown(figure, screen):
    before = png(plots.output_comparison(RESULT))
    plots.deliver(figure, None, "show")
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert png(figure) == before


def test_readers_settings_do_not_change_figures(figure):
    expected = png(figure)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 30, "text.color": "red"}):
        assert png(plots.output_comparison(RESULT)) == expected


def test_figures_say_what_they_show():
    view = nothing(SMALL)
    figures = [
        plots.stage_panels(view, detector=SMALL),
        plots.event_3d(view, detector=SMALL),
        plots.training_curves([]),
        plots.training_curves([], against="time"),
        plots.output_comparison({}),
        plots.dataset_distributions(distributions([]), detector=SMALL),
    ]
    assert len({figure.get_label() for figure in figures} - {""}) == len(figures)


@pytest.mark.backlog("B51")
def test_plots_know_nothing_of_training():
    allowed = (
        "tofae_jax.plots",
        "tofae_jax.detector",
        "tofae_jax.config.PlotMode",
        "tofae_jax.datasets.events",
        "tofae_jax.datasets.integrity",
        "tofae_jax.display",
        "tofae_jax.files",
    )
    files = sorted(Path(plots.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        names = [
            f"{node.module}.{part.name}" for node in nodes if isinstance(node, ast.ImportFrom) for part in node.names
        ]
        names += [part.name for node in nodes if isinstance(node, ast.Import) for part in node.names]
        assert not [name for name in names if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax")], file
        assert not [name for name in names if name.startswith("tofae_jax") and not name.startswith(allowed)], file
        at_import = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [line for line in at_import if "pyplot" in line], file


def assert_same(views: list[EventView], others: list[EventView]) -> None:
    assert len(views) == len(others)
    for view, other in zip(views, others, strict=True):
        assert view.has_time is other.has_time
        for name in EventView._fields[:-1]:
            first, second = getattr(view, name), getattr(other, name)
            np.testing.assert_array_equal(first, second, err_msg=name)
            assert first.dtype == second.dtype, name


def random_view(seed: int, n: int) -> EventView:
    rng = np.random.default_rng(seed)
    lists = [rng.integers(-9, 9, (rng.integers(0, n + 1), 3)).astype(np.int16) for _ in range(4)]
    flags = [rng.random(len(lists[3])) < 0.5 for _ in range(2)]
    direct = rng.normal(size=(SMALL.n_y, SMALL.n_x)).astype(np.float32)
    return EventView(*lists, flags[0], direct, flags[1], bool(seed % 2))


@given(seeds=st.lists(st.integers(0, 1000), max_size=4), n=st.integers(0, 5))
def test_views_come_back_exactly(seeds, n, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "data.npz"
    views = [random_view(seed, n) for seed in seeds]
    assert plots.save_views(path, views, SMALL) == path
    loaded, detector = plots.load_views(path)
    assert detector == SMALL
    assert_same(loaded, views)


def test_figures_can_be_drawn_again_from_their_data(tmp_path):
    path = plots.save_views(tmp_path / "data.npz", list(VIEWS.values())[:2], DETECTOR)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
    [view, empty], detector = plots.load_views(path)
    for draw in EVENT_FIGURES:
        assert png(draw(view, detector=detector)) == png(draw(v_shape(), detector=DETECTOR))
        assert png(draw(empty, detector=detector)) != png(draw(view, detector=detector))


def test_numbers_of_the_accelerator_become_numbers_of_numpy(tmp_path):
    view = single()._replace(direct=single().direct.astype(ml_dtypes.bfloat16))
    [loaded], _ = plots.load_views(plots.save_views(tmp_path / "data.npz", [view], DETECTOR))
    assert loaded.direct.dtype == np.float32
    assert loaded.direct[127, 87] == 1000


def test_mismatched_views_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"kept has shape \(3,\), but hits has shape \(230, 3\)"):
        plots.save_views(tmp_path / "data.npz", [v_shape(), v_shape()._replace(kept=np.ones(3, bool))], DETECTOR)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused_by_name(tmp_path):
    path = plots.save_views(tmp_path / "data.npz", [single()], DETECTOR)
    with np.load(path) as file:
        arrays = dict(file)
    changes = {
        "it has no array 'kept'": {"kept": None},
        "version 99, this program reads 1": {"version": np.asarray(99)},
        "not plot data": {"detector": np.asarray("{")},
        "is_signal has shape": {"is_signal": np.zeros(0, bool)},
    }
    for message, change in changes.items():
        np.savez(path, **{name: array for name, array in (arrays | change).items() if array is not None})
        with pytest.raises(DataError, match=f"data.npz: .*{message}"):
            plots.load_views(path)
    for content in (b"", b"text", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz: not plot data"):
            plots.load_views(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"a\.npy: not plot data"):
        plots.load_views(tmp_path / "a.npy")
