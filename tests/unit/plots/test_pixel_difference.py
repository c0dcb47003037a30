"""Outputs against their targets, pixel by pixel."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from plotted import DETECTOR, NO_HITS, VIEWS, centres_mm, occluded, offsets, pixels, single, texts, v_shape

from tofae_jax import plots
from tofae_jax.plots import EventView, style

SHIFTS = np.array([-3.0, 0.0, 1.5, 2.5])


def shifted() -> EventView:
    """Four pixels recovered, their times off by SHIFTS bins, one missed, one false; masked: noise hides a signal."""
    pattern = np.array([[i, 2 * i, 100 + i] for i in range(5)])
    smeared = pattern[:3]
    noise = np.array([[1, 2, 111], [50, 60, 300]])
    direct = np.zeros((128, 88))
    direct[pattern[:4, 1], pattern[:4, 0]] = pattern[:4, 2] + SHIFTS
    direct[127, 87] = 7
    hits = np.concatenate([smeared, noise])
    is_signal, kept = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 1], bool)
    return EventView(pattern, smeared, smeared, hits, is_signal, direct, kept)


def by_row(figure):
    """The panels of the direct and of the masked output: outcomes, times, histogram."""
    return figure.axes[:3], figure.axes[3:6]


def drawn_times(axes) -> list[tuple]:
    """x, y and colour value of what the map of differences shows."""
    [scatter] = axes.collections
    return [
        (*map(float, place), float(value))
        for place, value in zip(scatter.get_offsets(), scatter.get_array(), strict=True)
    ]


def bars(axes) -> tuple[np.ndarray, np.ndarray]:
    counts, edges, _ = axes.patches[0].get_data()
    return counts, edges


def legend_of(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.slow
@pytest.mark.backlog("B16")
@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("name", VIEWS)
def test_pixel_difference_any_event_is_drawn(name, units, has_time):
    view = VIEWS[name]
    view = view if has_time else view._replace(direct=np.sign(view.direct), has_time=False)
    figure = plots.pixel_difference(view, detector=DETECTOR, units=units, title="an event")
    assert len(np.unique(pixels(figure))) > 10
    above = ["no recovered pixels" if has_time else "no times"] * 2
    if name == "empty":
        assert texts(figure) == ["no lit pixels", *above, "no hits", *["no recovered pixels"] * 2]
        assert len(figure.axes) == 6  # nothing to colour: no bar
    else:
        assert texts(figure) == ([] if has_time else above)
        assert len(figure.axes) == 7


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_pixel_difference_pixels_are_sorted_by_outcome(units):
    view = shifted()
    figure = plots.pixel_difference(view, detector=DETECTOR, units=units)
    places = centres_mm if units == "physical" else (lambda hits: hits[:, :2])
    (direct, *_), (masked, *_) = by_row(figure)
    assert direct.get_title() == "direct\n4 recovered, 1 false, 1 missed"
    np.testing.assert_allclose(offsets(direct, "recovered"), places(view.pattern[:4]))
    np.testing.assert_allclose(offsets(direct, "false"), places(np.array([[87, 127, 7]])))
    np.testing.assert_allclose(offsets(direct, "missed"), places(view.pattern[4:]))
    assert masked.get_title() == "masked\n2 recovered, 1 false, 1 missed"  # pixels: the noise at (1, 2) is no false one
    np.testing.assert_allclose(offsets(masked, "recovered"), places(view.pattern[:2]))
    np.testing.assert_allclose(offsets(masked, "false"), places(np.array([[50, 60, 300]])))
    np.testing.assert_allclose(offsets(masked, "missed"), places(view.pattern[2:3]))
    for axes in (direct, masked):
        by_name = {found.get_label(): found for found in axes.collections}
        for name, colour in (("recovered", style.SIGNAL), ("false", style.KEPT_NOISE), ("missed", style.SIGNAL)):
            np.testing.assert_array_equal(by_name[name].get_edgecolors(), [to_rgba(colour)])
        assert len(by_name["missed"].get_facecolors()) == 0  # hollow
    [below] = figure.legends
    assert [text.get_text() for text in below.get_texts()] == ["recovered signal", "missed signal", "false positive"]


@pytest.mark.parametrize(("units", "step", "unit"), [("physical", 0.025, "ns"), ("pixels", 1.0, "bins")])
def test_pixel_difference_times_are_output_minus_target(units, step, unit):
    view = shifted()
    figure = plots.pixel_difference(view, detector=DETECTOR, units=units)
    (_, direct, direct_bars), (_, masked, masked_bars) = by_row(figure)
    places = centres_mm(view.pattern) if units == "physical" else view.pattern[:, :2]
    expected = {(*map(float, place), shift * step) for place, shift in zip(places[:4], SHIFTS, strict=True)}
    np.testing.assert_allclose(sorted(drawn_times(direct)), sorted(expected), atol=1e-12)
    kept = [(*places[0], 0), (*places[1], 10 * step)]  # the noise came 10 bins after the signal that it hides
    np.testing.assert_allclose(sorted(drawn_times(masked)), sorted(kept), atol=1e-12)
    assert direct.get_title() == "direct − pattern\nat recovered pixels"
    assert masked.get_title() == "masked − smeared signal\nat recovered pixels"
    mean, rms = SHIFTS.mean() * step, np.sqrt(np.mean(SHIFTS**2)) * step
    assert legend_of(direct_bars) == [f"mean {mean:+.3g} {unit}", f"RMS {rms:.3g} {unit}"]
    assert legend_of(masked_bars) == [f"mean {5 * step:+.3g} {unit}", f"RMS {50**0.5 * step:.3g} {unit}"]
    np.testing.assert_allclose(direct_bars.lines[0].get_xdata(), mean)
    for axes, shifts in ((direct_bars, SHIFTS), (masked_bars, np.array([0, 10]))):
        counts, edges = bars(axes)
        np.testing.assert_array_equal(counts, np.histogram(shifts * step, edges)[0])
        np.testing.assert_allclose(edges, -edges[::-1], atol=1e-12)
        assert counts.sum() == len(shifts)
        assert axes.get_xlabel() == f"output − target ({unit})"


def test_pixel_difference_colours_are_symmetric():
    figure = plots.pixel_difference(shifted(), detector=DETECTOR)
    (_, direct, _), (_, masked, _) = by_row(figure)
    for axes in (direct, masked):
        low, high = axes.collections[0].get_clim()
        assert low == -high
        assert high == pytest.approx(10 * 0.025)
        middle = np.array(axes.collections[0].get_cmap()(0.5)[:3])
        assert middle.min() > 0.9  # 0 is nearly white, and outlined
    assert figure.axes[6].get_xlabel() == "output − target (ns)"
    purple, orange = (np.array(direct.collections[0].get_cmap()(end)[:3]) for end in (0.1, 0.9))
    assert purple[2] > purple[1] and orange[0] > orange[2]


def test_pixel_difference_negative_mean_has_a_minus_sign():
    view = shifted()
    direct = np.where(view.direct > 20, view.direct - 10, 0)
    figure = plots.pixel_difference(view._replace(direct=direct), detector=DETECTOR, units="pixels")
    assert legend_of(by_row(figure)[0][2])[0] == f"mean −{10 - SHIFTS.mean():.3g} bins"


def test_pixel_difference_far_ones_do_not_flatten_the_rest():
    rng = np.random.default_rng(5)
    pattern = np.stack([np.arange(80), np.arange(80), np.full(80, 500)], axis=1)
    direct = np.zeros((128, 88))
    shifts = np.append(rng.integers(-4, 5, 79), 400)
    direct[pattern[:, 1], pattern[:, 0]] = 500 + shifts
    no = np.zeros(0, bool)
    view = EventView(pattern, NO_HITS, NO_HITS, NO_HITS, no, direct, no)
    figure = plots.pixel_difference(view, detector=DETECTOR, units="pixels")
    (_, times, histogram), _ = by_row(figure)
    assert times.collections[0].get_clim() == (-4, 4)
    counts, edges = bars(histogram)
    assert counts.sum() == 80
    assert counts[-1] == 1
    assert edges[-1] == 12.5
    assert legend_of(histogram)[1:] == [f"RMS {np.sqrt(np.mean(shifts**2.0)):.3g} bins", "1 beyond the edges"]
    assert len(pixels(figure))


def test_pixel_difference_direct_is_compared_with_its_target():
    figure = plots.pixel_difference(shifted()._replace(target="signal"), detector=DETECTOR)
    (outcomes, times, _), _ = by_row(figure)
    assert outcomes.get_title() == "direct\n3 recovered, 2 false, 0 missed"
    assert times.get_title() == "direct − smeared signal\nat recovered pixels"


@pytest.mark.backlog("B16")
def test_pixel_difference_without_times_has_outcomes():
    view = shifted()
    figure = plots.pixel_difference(
        view._replace(direct=np.sign(view.direct), has_time=False), detector=DETECTOR, units="pixels"
    )
    (outcomes, times, histogram), (_, masked, _) = by_row(figure)
    assert outcomes.get_title() == "direct\n4 recovered, 1 false, 1 missed"
    for axes in (times, histogram):
        assert [text.get_text() for text in axes.texts] == ["no times"]
    assert len(drawn_times(masked)) == 2


@pytest.mark.backlog("B16")
def test_pixel_difference_no_common_pixel_says_so():
    view = shifted()
    direct = np.zeros((128, 88))
    direct[127] = 3
    direct[0, 0] = np.nan  # not finite: dark
    figure = plots.pixel_difference(view._replace(direct=direct, kept=np.zeros(5, bool)), detector=DETECTOR)
    assert texts(figure) == ["no recovered pixels"] * 4
    assert by_row(figure)[0][0].get_title() == "direct\n0 recovered, 88 false, 5 missed"
    assert by_row(figure)[1][0].get_title() == "masked\n0 recovered, 0 false, 3 missed"
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
def test_pixel_difference_one_hit_and_all_occluded():
    (_, times, histogram), _ = by_row(plots.pixel_difference(single(), detector=DETECTOR))
    np.testing.assert_allclose(drawn_times(times), [(87.5 * 7.5, 127.5 * 53 / 128, 0)])
    assert legend_of(histogram) == ["mean 0 ns", "RMS 0 ns"]
    assert bars(histogram)[0].tolist() == [0, 1, 0]
    (_, _, direct), (_, _, masked) = by_row(plots.pixel_difference(occluded(), detector=DETECTOR, units="pixels"))
    assert legend_of(direct) == ["mean 0 bins", "RMS 0 bins"]  # the pattern's latest hit, at bin 12
    assert legend_of(masked) == ["mean +3 bins", "RMS 3 bins"]  # the signal's latest, at 9, is hidden by noise


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": np.ones(4, bool)}, r"kept has shape \(4,\), but hits has shape \(5, 3\)"),
        ({"direct": np.zeros((88, 128))}, r"direct has shape \(88, 128\)"),
        ({"pattern": np.array([[88, 0, 1]])}, "pattern: hit 0 has x = 88"),
        ({"target": "x"}, "target is 'x', allowed are 'pattern', 'signal'"),
    ],
)
def test_pixel_difference_mismatched_views_raise(change, message):
    with pytest.raises(ValueError, match=message):
        plots.pixel_difference(shifted()._replace(**change), detector=DETECTOR)


def test_pixel_difference_unknown_units_raise():
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        plots.pixel_difference(shifted(), detector=DETECTOR, units="inches")


@pytest.mark.slow
@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_pixel_difference_nothing_overlaps_or_is_cut(units):
    figure = plots.pixel_difference(v_shape(), detector=DETECTOR, units=units, title="an event")
    pixels(figure)
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [figure.legends[0].get_window_extent(), figure.texts[0].get_window_extent()]
    assert len(boxes) == 9
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes)  # with itself
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)
