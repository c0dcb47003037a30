"""Figures of one event: what they draw, for ordinary and degenerate events; that their data draw them again."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb, to_rgba
from plotted import (  # noqa: F401
    DETECTOR,
    N_SIGNAL,
    NO_HITS,
    SMALL,
    VIEWS,
    centres_mm,
    nothing,
    nothing_left_behind,
    offsets,
    panel,
    pixels,
    png,
    single,
    texts,
    v_shape,
)

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.plots import EventView, style

EVENT_FIGURES = [plots.stage_panels, plots.event_3d]


def column(figure, name):
    """The 3-D panel of a stage and the projections beneath it: x-y, x-t, y-t."""
    first = next(i for i, axes in enumerate(figure.axes) if axes.get_title().startswith(name))
    return figure.axes[first : first + 4]


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
    expected = {plots.stage_panels: 6, plots.event_3d: 24}[draw] if name == "empty" else 0
    timeless = 3 if draw is plots.event_3d and not has_time else 0
    assert annotations.count("no times") == timeless
    assert len(annotations) == max(expected, timeless)


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
        ({"pattern": np.ones((3, 3))}, "pattern has type float64, expected integers"),
        ({"smeared": np.ones((3, 3), bool)}, "smeared has type bool, expected integers"),
        ({"pattern": np.array([[0, 0, 1], [-1, 0, 1]])}, r"pattern: hit 1 has x = -1, allowed are 0\.\.87"),
        ({"sparse": np.array([[88, 0, 1]])}, r"sparse: hit 0 has x = 88, allowed are 0\.\.87"),
        ({"smeared": np.array([[87, 127, 1000], [0, 128, 1]])}, r"smeared: hit 1 has y = 128, allowed are 0\.\.127"),
        ({"pattern": np.array([[0, 0, 0]], np.uint8)}, r"pattern: hit 0 has t = 0, allowed are 1\.\.1000"),
        ({"pattern": np.array([[0, 0, 1001]])}, r"pattern: hit 0 has t = 1001, allowed are 1\.\.1000"),
        ({"target": "noise"}, "target is 'noise', allowed are 'pattern', 'signal'"),
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
    axes = panel(figure, "noised") if draw is plots.stage_panels else column(figure, "noised")[1]
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


@pytest.mark.backlog("B44")
@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_every_stage_has_its_3d_panel_and_three_projections(units):
    view = v_shape()
    figure = plots.event_3d(view, detector=DETECTOR, units=units)
    assert len(figure.axes) == 24
    shift, scale = ((0.5, 0.5, -0.5), (7.5, 53 / 128, 0.025)) if units == "physical" else ((0, 0, 0), (1, 1, 1))
    names = ["x (mm)", "y (mm)", "time (ns)"] if units == "physical" else ["x (pixel)", "y (pixel)", "time (bin)"]
    limits = [(0, 660), (0, 53), (0, 25)] if units == "physical" else [(-0.5, 87.5), (-0.5, 127.5), (0.5, 1000.5)]
    shown = {"pattern": view.pattern, "sparse": view.sparse, "smeared": view.smeared}
    shown["noised"] = view.hits[view.is_signal]
    for stage, hits in shown.items():
        expected = (hits + shift) * scale
        deep, *flat = column(figure, stage)
        placed = next(found for found in deep.collections if found.get_label() == "signal")._offsets3d
        np.testing.assert_allclose(sorted(zip(*map(np.asarray, placed), strict=True)), sorted(map(tuple, expected)))
        assert [deep.get_xlabel(), deep.get_ylabel(), deep.get_zlabel()] == names
        assert (deep.get_xlim(), deep.get_ylim(), deep.get_zlim()) == (limits[0], limits[1][::-1], limits[2])
        for axes, (across, up) in zip(flat, ((0, 1), (0, 2), (1, 2)), strict=True):
            np.testing.assert_allclose(offsets(axes, "signal"), expected[:, [across, up]])
            assert axes.get_xlabel() == names[across]
            assert axes.get_xlim() == limits[across]
            assert axes.get_ylim() == (limits[1][::-1] if up == 1 else limits[2])  # y points down, time up
    assert [axes.get_ylabel() for axes in column(figure, "pattern")[1:]] == [names[1], names[2], names[2]]


@pytest.mark.backlog("B44")
def test_the_direct_output_is_sorted_by_truth_in_all_projections():
    view = v_shape()
    lit = view.direct > 0
    target = np.zeros((128, 88), int)
    target[view.pattern[:, 1], view.pattern[:, 0]] = view.pattern[:, 2]
    deep, *flat = column(plots.event_3d(view, detector=DETECTOR), "direct")
    groups = {
        "recovered": (lit & (target > 0), view.direct, style.SIGNAL),
        "false": (lit & (target == 0), view.direct, style.KEPT_NOISE),
        "missed": (~lit & (target > 0), target, style.SIGNAL),
    }
    for name, (where, times, colour) in groups.items():
        y, x = np.nonzero(where)
        assert len(x) > 0
        expected = np.stack([(x + 0.5) * 7.5, (y + 0.5) * 53 / 128, (times[y, x] - 0.5) * 0.025], axis=1)
        for axes, pair in zip(flat, ([0, 1], [0, 2], [1, 2]), strict=True):
            np.testing.assert_allclose(offsets(axes, name), expected[:, pair])
        for axes in (deep, *flat):
            drawn = next(found for found in axes.collections if found.get_label() == name)
            np.testing.assert_array_equal(drawn.get_edgecolors(), [to_rgba(colour)])
            assert len(drawn.get_facecolors()) == (name != "missed")


@pytest.mark.backlog("B44")
def test_a_direct_output_without_times_is_drawn_from_above_only():
    view = v_shape()
    view = view._replace(direct=np.sign(view.direct), has_time=False)
    deep, above, *sides = column(plots.event_3d(view, detector=DETECTOR), "direct")
    assert len(offsets(above, "recovered")) == 66
    for axes in (deep, *sides):
        assert [text.get_text() for text in axes.texts] == ["no times"]
        assert not axes.collections


def test_times_beyond_the_window_are_drawn_at_its_edge():
    view = single()._replace(direct=single().direct * 3)
    deep, _, x_t, y_t = column(plots.event_3d(view, detector=DETECTOR), "direct")
    for axes in (x_t, y_t):
        assert offsets(axes, "recovered")[0, 1] == 25
    assert np.asarray(deep.collections[0]._offsets3d[2])[0] == 25


def test_panels_of_the_3d_figure_lie_apart():
    figure = plots.event_3d(v_shape(), detector=DETECTOR, title="an event")
    pixels(figure)
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.name == "rectilinear"]
    boxes += [figure.legends[0].get_window_extent(), figure.texts[0].get_window_extent()]
    boxes += [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len(boxes) == 18 + 2 + 6
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes)  # with itself
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)


@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_long_headings_do_not_reach_their_neighbours(draw, units):
    rng = np.random.default_rng(3)
    direct = rng.integers(1, 1001, (128, 88)) * (rng.random((128, 88)) < 0.9)
    pattern = np.stack([rng.integers(0, 88, 4000), rng.integers(0, 128, 4000), rng.integers(1, 1001, 4000)], 1)
    kept = rng.random(4000) < 0.5
    view = EventView(pattern, pattern, pattern, pattern, rng.random(4000) < 0.5, direct, kept)
    figure = draw(view, detector=DETECTOR, units=units, title="an event")
    pixels(figure)
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    boxes.append(figure.texts[0].get_window_extent())
    assert len(boxes) == 7
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes)


def test_headings_count_what_is_drawn():
    view = v_shape()
    figure = plots.stage_panels(view, detector=DETECTOR)
    found, false = int(np.sum(view.kept & view.is_signal)), int(np.sum(view.kept & ~view.is_signal))
    assert 0 < found < N_SIGNAL and false > 0
    lit, target = view.direct > 0, np.zeros((128, 88), bool)
    target[view.pattern[:, 1], view.pattern[:, 0]] = True
    headings = [
        f"pattern\n{len(view.pattern)} signal",
        "sparse\n30 signal",
        "smeared\n30 signal",
        "noised\n30 signal, 200 noise",
        f"direct\n{np.sum(lit & target)} recovered, {np.sum(lit & ~target)} false, {np.sum(~lit & target)} missed",
        f"masked\n{found} recovered, {false} false, {N_SIGNAL - found} missed",
    ]
    assert [axes.get_title() for axes in figure.axes[:6]] == headings
    assert [axes.get_title() for axes in plots.event_3d(view, detector=DETECTOR).axes[::4]] == headings
    for draw in EVENT_FIGURES:
        [legend] = draw(view, detector=DETECTOR).legends
        names = ["signal / recovered signal", "noise", "missed signal", "false positive"]
        assert [text.get_text() for text in legend.get_texts()] == names


def test_the_direct_output_is_counted_against_its_target():
    view = v_shape()._replace(target="signal")
    smeared = len({(x, y) for x, y, _ in view.smeared})
    found = sum(view.direct[y, x] > 0 for x, y in {(x, y) for x, y, _ in view.smeared})
    false = np.count_nonzero(view.direct) - found
    title = panel(plots.stage_panels(view, detector=DETECTOR), "direct").get_title()
    assert title == f"direct\n{found} recovered, {false} false, {smeared - found} missed"


def test_masked_panel_tells_recovered_false_and_missed_apart():
    view = v_shape()
    axes = panel(plots.stage_panels(view, detector=DETECTOR), "masked")
    groups = {"recovered": view.kept & view.is_signal, "false": view.kept & ~view.is_signal}
    groups["missed"] = ~view.kept & view.is_signal
    for name, of in groups.items():
        np.testing.assert_allclose(offsets(axes, name), centres_mm(view.hits[of]))
    by_name = {found.get_label(): found for found in axes.collections}
    assert len(by_name["missed"].get_facecolors()) == 0  # hollow
    np.testing.assert_array_equal(by_name["missed"].get_edgecolors(), [to_rgba(style.SIGNAL)])
    np.testing.assert_array_equal(by_name["false"].get_edgecolors(), [to_rgba(style.KEPT_NOISE)])
    assert by_name["recovered"].get_zorder() > by_name["false"].get_zorder() > by_name["missed"].get_zorder()


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
    figure = plots.stage_panels(timeless, detector=DETECTOR)
    assert len(figure.axes) == 6  # no colour bar
    assert len(offsets(panel(figure, "direct"), "recovered")) == 66


def test_a_dark_direct_output_shows_what_it_missed():
    view = v_shape()._replace(direct=np.zeros((128, 88)))
    axes = panel(plots.stage_panels(view, detector=DETECTOR), "direct")
    assert axes.get_title() == "direct\n0 recovered, 0 false, 71 missed"
    assert len(offsets(axes, "missed")) == 71
    assert not axes.images


def test_direct_output_that_is_not_finite_is_dark():
    direct = v_shape().direct.copy()
    direct[0, :4] = np.nan, np.inf, -np.inf, -3
    figure = plots.stage_panels(v_shape()._replace(direct=direct), detector=DETECTOR)
    assert np.ma.getmaskarray(panel(figure, "direct").images[0].get_array())[0, :4].all()
    assert len(pixels(figure))


def test_y_points_down_and_panels_show_the_whole_detector():
    figure = plots.stage_panels(v_shape(), detector=DETECTOR)
    for axes in figure.axes[:6]:
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 660), (53, 0))
    axes = panel(plots.stage_panels(nothing(SMALL), detector=SMALL, units="pixels"), "noised")
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 8.5), (6.5, -0.5))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_aspect()) == ("x (pixel)", "y (pixel)", 1)


def test_a_very_oblong_detector_gets_no_sliver():
    detector = Detector(n_x=200, n_y=2)
    for draw in EVENT_FIGURES:
        figure = draw(nothing(detector), detector=detector, units="pixels")
        assert figure.axes[1].get_aspect() == "auto"
        assert len(pixels(figure))


def assert_same(views: list[EventView], others: list[EventView]) -> None:
    assert len(views) == len(others)
    for view, other in zip(views, others, strict=True):
        assert (view.has_time, view.target) == (other.has_time, other.target)
        for name in EventView._fields[:-2]:
            first, second = getattr(view, name), getattr(other, name)
            np.testing.assert_array_equal(first, second, err_msg=name)
            assert first.dtype == second.dtype, name


def random_view(seed: int, n: int) -> EventView:
    rng = np.random.default_rng(seed)
    low, high = (0, 0, 1), (SMALL.n_x, SMALL.n_y, SMALL.n_t + 1)
    lists = [rng.integers(low, high, (rng.integers(0, n + 1), 3)).astype(np.int16) for _ in range(4)]
    flags = [rng.random(len(lists[3])) < 0.5 for _ in range(2)]
    direct = rng.normal(size=(SMALL.n_y, SMALL.n_x)).astype(np.float32)
    return EventView(*lists, flags[0], direct, flags[1], bool(seed % 2), ("pattern", "signal")[seed % 3 % 2])


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


def test_old_files_do_not_say_their_target(tmp_path):
    views = [v_shape(), v_shape()._replace(target="signal")]
    path = plots.save_views(tmp_path / "data.npz", views, DETECTOR)
    assert [view.target for view in plots.load_views(path)[0]] == ["pattern", "signal"]
    with np.load(path) as file:
        old = {name: file[name] for name in file.files if name != "target"}
    np.savez(path, **old)
    loaded, _ = plots.load_views(path)
    assert_same(loaded, [view._replace(target="pattern") for view in views])


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
        "not plot data: Input": {"detector": np.asarray("{")},
        "is_signal has shape": {"is_signal": np.zeros(0, bool)},
        "target is 'noise', allowed are 'pattern', 'signal'": {"target": np.asarray(["noise"])},
        "not plot data": {"target": np.asarray([], str)},
        "pattern: hit 0 has t = 0": {"pattern": np.zeros((1, 3), int)},
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


def test_the_bar_of_a_single_time_names_it_in_full():
    figure = plots.stage_panels(single(), detector=DETECTOR, units="pixels")
    pixels(figure)
    bar = figure.axes[6]
    low, high = bar.get_xlim()
    labels = dict(zip(bar.get_xticks(), (label.get_text() for label in bar.get_xticklabels()), strict=True))
    assert {tick: label for tick, label in labels.items() if low <= tick <= high} == {1000: "1000"}
    assert bar.xaxis.get_offset_text().get_text() == ""
