"""Figures: what they draw, for ordinary and degenerate data; where they go."""

import ast
import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from plotted import (  # noqa: F401
    DETECTOR,
    NO_HITS,
    SMALL,
    nothing,
    nothing_left_behind,
    panel,
    pixels,
    png,
    texts,
    v_shape,
)

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.core.distributions import Distributions
from tofae_jax.data.dataset import write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.inspection import inspect_dataset
from tofae_jax.runs import figure_output

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
        "outputs above the threshold": [90, 10],
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


def test_places_against_time_are_those_of_the_signal(tmp_path):
    hits = np.array([[8, 6, 40], [8, 6, 1], [0, 0, 3], [2, 3, 40], [2, 3, 40]], np.int16)
    columns = {"origin": np.array([0, 0, 1, 0, 0], np.int8), "track": np.array([0, 0, 3, 1, 1], np.int16)}
    events = Events(hits, np.array([0, 3, 5]), columns)
    dataset = write_dataset(tmp_path / "d", [events], detector=SMALL, provenance={})
    found = inspect_dataset(dataset).distributions
    assert [(tuple(place), found.xt[tuple(place)]) for place in np.argwhere(found.xt)] == [
        ((2, 40), 2), ((8, 1), 1), ((8, 40), 1)
    ]  # fmt: skip
    assert found.yt.sum() == 4
    np.testing.assert_array_equal(found.hits_per_track, [0, 0, 2])  # two tracks of two hits each
    figure = plots.dataset_distributions(found, detector=SMALL, row_angles_rad=(0.45, 0.95))
    assert len(figure.axes) == 9
    assert figure.axes[-2].get_ylim() == (0.45, 0.95) or figure.axes[-1].get_ylim() == (0.45, 0.95)
    mesh = figure.axes[5].collections[0]
    assert mesh.get_array().sum() == 4
    np.testing.assert_allclose(mesh.get_coordinates()[[0, -1], [0, -1]], [[0, 0], [2, 18]])  # ns and mm
    for name in ("xt", "yt"):
        with pytest.raises(ValueError, match=f"the histogram of {name} has shape"):
            plots.dataset_distributions(found._replace(**{name: np.zeros((3, 3), int)}), detector=SMALL)


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
    assert texts(figure) == (["no hits"] * 4 if events else ["no events"] * 2 + ["no hits"] * 3)
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
    figure_output.print_once.cache_clear()


@pytest.fixture
def screen(monkeypatch):
    """What `pyplot.show` would have shown."""
    shown = []

    def show(*, block):
        shown.extend(pyplot.figure(number).canvas.figure for number in pyplot.get_fignums())
        assert block

    monkeypatch.setattr(figure_output, "display_obstacle", lambda: "")
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
    assert figure_output.display_obstacle() == "matplotlib's backend 'agg' has no windows"
    monkeypatch.setattr(pyplot, "get_backend", lambda: "TkAgg")
    assert figure_output.display_obstacle() == ""


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
        plots.pixel_difference(view, detector=SMALL),
        plots.occlusion_by_hits(np.zeros(0, int), np.zeros(0, int), detector=SMALL),
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
        "tofae_jax.core.detector",
        "tofae_jax.core.distributions",
        "tofae_jax.config.PlotMode",
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


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_photon_bands_are_told_apart(units):
    hits = np.array([[0, 0, 1], [8, 6, 40], [4, 3, 20]], np.int16)
    figure = plots.photon_bands(
        hits, [False, True, True], detector=SMALL, units=units, row_angles_rad=(0.45, 0.95), title="$x_{"
    )
    _, tx, _, *scales = figure.axes
    assert [len(part.get_offsets()) for part in tx.collections] == [1, 2]
    assert [angles.get_ylim() for angles in scales] == [(0.45, 0.95)] * 2
    expected = [[0.025, 1.0]] if units == "physical" else [[1, 0]]
    np.testing.assert_allclose(np.asarray(tx.collections[0].get_offsets()), expected)
    assert len(np.unique(pixels(figure))) > 10
    assert texts(plots.photon_bands(NO_HITS, [], detector=SMALL)) == ["no hits"] * 3
    with pytest.raises(ValueError, match=r"hits has shape \(3, 3\), is_reflected \(2,\)"):
        plots.photon_bands(hits, [True, False], detector=SMALL)
