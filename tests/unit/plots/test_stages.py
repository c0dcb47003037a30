"""What all figures of an event's stages have in common."""

import numpy as np
import pytest
from event_figures import EVENT_FIGURES, column
from matplotlib.colors import to_rgb, to_rgba
from plotted import DETECTOR, N_SIGNAL, VIEWS, centres_mm, nothing, panel, pixels, texts, v_shape

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.plots import EventView, style


@pytest.mark.slow
@pytest.mark.backlog("B16")
@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_event_figures_any_event_is_drawn(draw, name, units, has_time):
    view = VIEWS[name]
    view = view if has_time else view._replace(direct=np.sign(view.direct), has_time=False)
    figure = draw(view, detector=DETECTOR, units=units, title="an event")
    assert len(np.unique(pixels(figure))) > 10
    annotations = [text for text in texts(figure) if text.startswith("no ")]
    expected = {plots.stage_panels: 6, plots.event_3d: 24}[draw] if name == "empty" else 0
    timeless = 3 if draw is plots.event_3d and not has_time else 0
    assert annotations.count("no times") == timeless
    assert len(annotations) == max(expected, timeless)


@pytest.mark.backlog("B60")
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_event_figures_signal_is_red_in_noise(draw):
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


@pytest.mark.slow
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_event_figures_long_headings_stay_apart(draw, units):
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


@pytest.mark.slow
def test_event_figures_headings_count_what_is_drawn():
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


@pytest.mark.slow
def test_event_figures_oblong_detector_gets_no_sliver():
    detector = Detector(n_x=200, n_y=2)
    for draw in EVENT_FIGURES:
        figure = draw(nothing(detector), detector=detector, units="pixels")
        assert figure.axes[1].get_aspect() == "auto"
        assert len(pixels(figure))
