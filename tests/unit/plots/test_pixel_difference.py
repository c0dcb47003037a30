"""Figures of what differs: outputs from their targets, and occlusion from what uniform hits would give."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from plotted import (  # noqa: F401
    DETECTOR,
    NO_HITS,
    SMALL,
    VIEWS,
    centres_mm,
    nothing_left_behind,
    occluded,
    offsets,
    pixels,
    single,
    texts,
    v_shape,
)

from tofae_jax import plots
from tofae_jax.core.detector import Detector
from tofae_jax.plots import EventView, style
from tofae_jax.plots.occlusion import uniform_occlusion

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


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("name", VIEWS)
def test_differences_are_drawn_for_any_event(name, units, has_time):
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
def test_pixels_are_sorted_by_outcome(units):
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
def test_times_are_output_minus_target(units, step, unit):
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
    assert legend(direct_bars) == [f"mean {mean:+.3g} {unit}", f"RMS {rms:.3g} {unit}"]
    assert legend(masked_bars) == [f"mean {5 * step:+.3g} {unit}", f"RMS {50**0.5 * step:.3g} {unit}"]
    np.testing.assert_allclose(direct_bars.lines[0].get_xdata(), mean)
    for axes, shifts in ((direct_bars, SHIFTS), (masked_bars, np.array([0, 10]))):
        counts, edges = bars(axes)
        np.testing.assert_array_equal(counts, np.histogram(shifts * step, edges)[0])
        np.testing.assert_allclose(edges, -edges[::-1], atol=1e-12)
        assert counts.sum() == len(shifts)
        assert axes.get_xlabel() == f"output − target ({unit})"


def test_colours_are_symmetric_and_the_same_in_both_rows():
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


def test_a_negative_mean_has_a_minus_sign():
    view = shifted()
    direct = np.where(view.direct > 20, view.direct - 10, 0)
    figure = plots.pixel_difference(view._replace(direct=direct), detector=DETECTOR, units="pixels")
    assert legend(by_row(figure)[0][2])[0] == f"mean −{10 - SHIFTS.mean():.3g} bins"


def test_far_differences_do_not_flatten_the_rest():
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
    assert legend(histogram)[1:] == [f"RMS {np.sqrt(np.mean(shifts**2.0)):.3g} bins", "1 beyond the edges"]
    assert len(pixels(figure))


def test_the_direct_output_is_compared_with_its_target():
    figure = plots.pixel_difference(shifted()._replace(target="signal"), detector=DETECTOR)
    (outcomes, times, _), _ = by_row(figure)
    assert outcomes.get_title() == "direct\n3 recovered, 2 false, 0 missed"
    assert times.get_title() == "direct − smeared signal\nat recovered pixels"


@pytest.mark.backlog("B16")
def test_a_direct_output_without_times_has_no_differences_but_outcomes():
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
def test_no_pixel_in_common_is_said():
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
def test_one_hit_and_all_occluded():
    (_, times, histogram), _ = by_row(plots.pixel_difference(single(), detector=DETECTOR))
    np.testing.assert_allclose(drawn_times(times), [(87.5 * 7.5, 127.5 * 53 / 128, 0)])
    assert legend(histogram) == ["mean 0 ns", "RMS 0 ns"]
    assert bars(histogram)[0].tolist() == [0, 1, 0]
    (_, _, direct), (_, _, masked) = by_row(plots.pixel_difference(occluded(), detector=DETECTOR, units="pixels"))
    assert legend(direct) == ["mean 0 bins", "RMS 0 bins"]  # the pattern's latest hit, at bin 12
    assert legend(masked) == ["mean +3 bins", "RMS 3 bins"]  # the signal's latest, at 9, is hidden by noise


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
def test_mismatched_views_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        plots.pixel_difference(shifted()._replace(**change), detector=DETECTOR)


def test_unknown_units_are_refused():
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        plots.pixel_difference(shifted(), detector=DETECTOR, units="inches")


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_nothing_overlaps_or_is_cut(units):
    figure = plots.pixel_difference(v_shape(), detector=DETECTOR, units=units, title="an event")
    pixels(figure)
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [figure.legends[0].get_window_extent(), figure.texts[0].get_window_extent()]
    assert len(boxes) == 9
    assert sum(box.count_overlaps(boxes) for box in boxes) == len(boxes)  # with itself
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)


@pytest.mark.parametrize("n_pixels", [1, 2, 63, 11264])
def test_expected_occlusion_is_that_of_random_hits(n_pixels):
    rng = np.random.default_rng(2)
    n_hits = np.array([1, 2, 7, 300])
    expected = uniform_occlusion(n_hits, n_pixels=n_pixels)
    assert expected[0] == 0
    np.testing.assert_allclose(expected[1], 1 / n_pixels / 2, atol=1e-9)  # the second hits the first's pixel
    for n, share in zip(n_hits, expected, strict=True):
        lit = [len(np.unique(rng.integers(0, n_pixels, n))) for _ in range(4000)]
        sampled = 1 - np.array(lit) / n
        assert abs(sampled.mean() - share) <= 4 * sampled.std() / 4000**0.5 + 1e-9


def test_occlusion_points_are_means_with_standard_errors():
    n_hits, n_occluded = np.array([4, 0, 4, 4, 10, 8, 8]), np.array([1, 0, 3, 2, 9, 1, 1])
    [axes] = plots.occlusion_by_hits(n_hits, n_occluded, detector=SMALL, title="a dataset").axes
    points, expected, whole = (line for line in axes.lines if not line.get_label().startswith("_"))
    np.testing.assert_allclose(points.get_xydata(), [[4, 50], [8, 12.5], [10, 90]])
    [errors] = [found for found in axes.collections if len(found.get_segments()) == 3]
    lengths = [np.ptp(segment[:, 1]) / 2 if len(segment) else np.nan for segment in errors.get_segments()]
    shares = 100 * np.array([1, 3, 2]) / 4
    np.testing.assert_allclose(lengths[:2], [shares.std(ddof=1) / 3**0.5, 0], atol=1e-6)
    assert not np.isfinite(lengths[2])  # a single event has none
    n, share = expected.get_xydata().T
    assert (n[0], n[-1]) == (4, 10)
    np.testing.assert_allclose(share, 100 * (1 - 63 * (1 - (1 - 1 / 63) ** n) / n), rtol=1e-9)
    assert whole.get_label() == "all hits 45 %"
    np.testing.assert_allclose(whole.get_ydata(), 100 * 17 / 38)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hits per event", "occluded hits (%)")


def test_many_numbers_of_hits_share_points():
    rng = np.random.default_rng(4)
    n_hits = rng.integers(100, 900, 5000)
    n_occluded = rng.binomial(n_hits, 0.1)
    figure = plots.occlusion_by_hits(n_hits, n_occluded, detector=DETECTOR)
    x, share = figure.axes[0].lines[0].get_xydata().T
    assert 40 <= len(x) <= 60
    size = 14  # 800 numbers in at most 60 groups
    first = n_hits < n_hits.min() + size
    np.testing.assert_allclose(
        [x[0], share[0]], [n_hits[first].mean(), 100 * n_occluded[first].sum() / n_hits[first].sum()]
    )
    assert abs(share - 10).max() < 1
    [errors] = [found for found in figure.axes[0].collections if len(found.get_segments()) == len(x)]
    lengths = np.array([np.ptp(segment[:, 1]) / 2 for segment in errors.get_segments()])
    expected = 100 * np.sqrt(0.09 / (x * 5000 / len(x)))
    assert abs(np.median(lengths / expected) - 1) < 0.1
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(("n_hits", "message"), [([], "no events"), ([0, 0], "no hits")])
def test_occlusion_of_nothing_says_so(n_hits, message):
    counts = np.array(n_hits, int)
    figure = plots.occlusion_by_hits(counts, counts, detector=DETECTOR)
    assert texts(figure) == [message]
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(("n_hits", "n_occluded", "share"), [(1, 0, 0), (230, 229, 22900 / 230), (5, 5, 100)])
def test_occlusion_of_one_event(n_hits, n_occluded, share):
    figure = plots.occlusion_by_hits(np.array([n_hits]), np.array([n_occluded]), detector=DETECTOR)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[n_hits, share]])
    low, high = figure.axes[0].get_ylim()
    assert low < share < high
    assert [tick for tick in figure.axes[0].get_xticks() if abs(tick - n_hits) < 0.6] == [n_hits]
    assert len(pixels(figure))


def test_occlusion_on_a_single_pixel_is_what_is_expected():
    detector = Detector(n_x=1, n_y=1)
    figure = plots.occlusion_by_hits(np.array([2, 4]), np.array([1, 3]), detector=detector)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    points, expected = lines["events"], lines["uniformly spread hits"]
    np.testing.assert_allclose(points.get_ydata(), [50, 75])
    np.testing.assert_allclose(expected.get_ydata()[[0, -1]], [50, 75])


@pytest.mark.backlog("B16")
@pytest.mark.parametrize(
    ("n_hits", "n_occluded", "message"),
    [
        ([3, 4], [1], r"n_hits has shape \(2,\), but n_occluded has shape \(1,\)"),
        ([[3]], [[1]], r"n_hits has shape \(1, 1\), expected \(n,\)"),
        ([3, -4], [1, 0], "n_hits: event 1 has -4, allowed is 0 or more"),
        ([3, 4], [-1, 0], "n_occluded: event 0 has -1, allowed is 0 or more"),
        ([3, 4], [1, 5], "event 1 has 5 occluded hits, but only 4 hits"),
        ([3.5], [1], "n_hits has type float64, expected integers"),
    ],
)
def test_impossible_occlusion_is_refused(n_hits, n_occluded, message):
    with pytest.raises(ValueError, match=message):
        plots.occlusion_by_hits(np.array(n_hits), np.array(n_occluded), detector=DETECTOR)
