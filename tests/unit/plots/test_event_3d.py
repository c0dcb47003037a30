"""The stages of an event in three dimensions and their projections."""

import numpy as np
import pytest
from event_figures import column
from matplotlib.colors import to_rgba
from plotted import DETECTOR, offsets, pixels, single, v_shape

from tofae_jax import plots
from tofae_jax.plots import style


@pytest.mark.backlog("B44")
@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_event_3d_every_stage_has_three_projections(units):
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
def test_event_3d_direct_is_sorted_by_truth():
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
def test_event_3d_direct_without_times_is_seen_from_above():
    view = v_shape()
    view = view._replace(direct=np.sign(view.direct), has_time=False)
    deep, above, *sides = column(plots.event_3d(view, detector=DETECTOR), "direct")
    assert len(offsets(above, "recovered")) == 66
    for axes in (deep, *sides):
        assert [text.get_text() for text in axes.texts] == ["no times"]
        assert not axes.collections


def test_event_3d_times_beyond_the_window_are_at_its_edge():
    view = single()._replace(direct=single().direct * 3)
    deep, _, x_t, y_t = column(plots.event_3d(view, detector=DETECTOR), "direct")
    for axes in (x_t, y_t):
        assert offsets(axes, "recovered")[0, 1] == 25
    assert np.asarray(deep.collections[0]._offsets3d[2])[0] == 25


def test_event_3d_panels_lie_apart():
    figure = plots.event_3d(v_shape(), detector=DETECTOR, title="an event")
    pixels(figure)
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.name == "rectilinear"]
    boxes += [figure.legends[0].get_window_extent(), figure.texts[0].get_window_extent()]
    boxes += [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len(boxes) == 18 + 2 + 6
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes)  # with itself
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)
