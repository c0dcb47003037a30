"""The stages of an event side by side."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb, to_rgba
from plotted import (
    DETECTOR,
    N_SIGNAL,
    NO_HITS,
    SMALL,
    centres_mm,
    nothing,
    offsets,
    panel,
    pixels,
    single,
    texts,
    v_shape,
)

from tofae_jax import plots
from tofae_jax.plots import EventView, style


@pytest.mark.backlog("B16")
def test_stage_panels_only_empty_ones_say_so():
    view = v_shape()._replace(pattern=NO_HITS, direct=np.zeros((128, 88)), kept=np.zeros(230, bool))
    figure = plots.stage_panels(view, detector=DETECTOR)
    assert [text.get_text() for text in panel(figure, "pattern").texts] == ["no hits"]
    assert [text.get_text() for text in panel(figure, "direct").texts] == ["no lit pixels"]
    assert texts(figure) == ["no hits", "no lit pixels"]  # the masked panel shows what was missed


def red_in_panel(view: EventView) -> int:
    figure = plots.stage_panels(view, detector=DETECTOR)
    image = pixels(figure)
    box = panel(figure, "noised").get_window_extent()
    rows = slice(round(len(image) - box.y1), round(len(image) - box.y0))
    inside = image[rows, round(box.x0) : round(box.x1)]
    return int(np.sum(np.all(inside == np.round(np.multiply(to_rgb(style.SIGNAL), 255)), axis=-1)))


@pytest.mark.backlog("B60")
def test_stage_panels_red_pixels_are_signal():
    view = v_shape()
    assert red_in_panel(view) > 10 * N_SIGNAL
    assert red_in_panel(view._replace(is_signal=np.zeros(230, bool))) == 0


def test_stage_panels_direct_is_counted_against_its_target():
    view = v_shape()._replace(target="signal")
    smeared = len({(x, y) for x, y, _ in view.smeared})
    found = sum(view.direct[y, x] > 0 for x, y in {(x, y) for x, y, _ in view.smeared})
    false = np.count_nonzero(view.direct) - found
    title = panel(plots.stage_panels(view, detector=DETECTOR), "direct").get_title()
    assert title == f"direct\n{found} recovered, {false} false, {smeared - found} missed"


def test_stage_panels_masked_tells_outcomes_apart():
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


def test_stage_panels_direct_is_coloured_by_time():
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


def test_stage_panels_dark_direct_shows_missed_hits():
    view = v_shape()._replace(direct=np.zeros((128, 88)))
    axes = panel(plots.stage_panels(view, detector=DETECTOR), "direct")
    assert axes.get_title() == "direct\n0 recovered, 0 false, 71 missed"
    assert len(offsets(axes, "missed")) == 71
    assert not axes.images


def test_stage_panels_direct_not_finite_is_dark():
    direct = v_shape().direct.copy()
    direct[0, :4] = np.nan, np.inf, -np.inf, -3
    figure = plots.stage_panels(v_shape()._replace(direct=direct), detector=DETECTOR)
    assert np.ma.getmaskarray(panel(figure, "direct").images[0].get_array())[0, :4].all()
    assert len(pixels(figure))


def test_stage_panels_show_the_whole_detector_y_down():
    figure = plots.stage_panels(v_shape(), detector=DETECTOR)
    for axes in figure.axes[:6]:
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 660), (53, 0))
    axes = panel(plots.stage_panels(nothing(SMALL), detector=SMALL, units="pixels"), "noised")
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 8.5), (6.5, -0.5))
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_aspect()) == ("x (pixel)", "y (pixel)", 1)


def test_stage_panels_colour_bar_of_a_single_time():
    figure = plots.stage_panels(single(), detector=DETECTOR, units="pixels")
    pixels(figure)
    bar = figure.axes[6]
    low, high = bar.get_xlim()
    labels = dict(zip(bar.get_xticks(), (label.get_text() for label in bar.get_xticklabels()), strict=True))
    assert {tick: label for tick, label in labels.items() if low <= tick <= high} == {1000: "1000"}
    assert bar.xaxis.get_offset_text().get_text() == ""
