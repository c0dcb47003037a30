"""Figures of a latent space: what they draw, for ordinary and degenerate data."""

import math
import sys
from functools import partial

import numpy as np
import plotted
import pytest
from detectors import SMALL as DETECTOR
from matplotlib.colors import to_rgba
from plotted import legend, notes, texts

from tofae_jax.plots import style
from tofae_jax.plots.latents import latent_projection, latent_samples

small_png = partial(plotted.png, dpi=60)  # coarse is enough


def images(n: int) -> np.ndarray:
    """Image `i` has `i` lit pixels, of times 1, 2, ..."""
    found = np.zeros((n, 7 * 9), np.float32)
    for index in range(n):
        found[index, :index] = 1 + np.arange(index)
    return found.reshape(n, 7, 9)


def vectors(n: int = 60, d: int = 6) -> np.ndarray:
    """Spread 3, 2, 1, ... and the last two numbers are dead."""
    spread = np.array([3.0, 2.0, *[1.0] * (d - 4), 0.001, 0.0])
    return np.random.default_rng(5).normal(size=(n, d)) * spread + 7


def places(figure) -> np.ndarray:
    """Of all points of the projection, [n, 2], group by group."""
    return np.concatenate([np.asarray(found.get_offsets()) for found in figure.axes[0].collections])


@pytest.mark.slow
@pytest.mark.parametrize("units", ["physical", "pixels"])
@pytest.mark.parametrize("has_time", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_latent_samples_any_number_can_be_drawn(n, has_time, units):
    figure = latent_samples(images(n), detector=DETECTOR, units=units, has_time=has_time, title="draws")
    assert len(figure.axes) == max(1, n) + int(has_time and n > 1)  # a colour bar where there are colours
    titles = [axes.get_title() for axes in figure.axes[:n]]
    assert titles == [f"{index} lit {'pixel' if index == 1 else 'pixels'}" for index in range(n)]
    assert texts(figure) == (["no lit pixels"] if n else ["no draws"])  # the first of them is dark
    assert notes(figure) == ""
    small_png(figure)


@pytest.mark.slow
def test_latent_samples_many_are_cut_and_counted():
    figure = latent_samples(images(40), detector=DETECTOR)
    assert [axes.get_title() for axes in figure.axes[:36]][-1] == "35 lit pixels"
    assert len(figure.axes) == 36 + 1
    assert notes(figure) == "the first 36 of 40 draws"
    small_png(figure)


@pytest.mark.slow
def test_latent_samples_same_draws_look_the_same():
    first = small_png(latent_samples(images(4), detector=DETECTOR))
    assert small_png(latent_samples(images(4), detector=DETECTOR)) == first
    assert small_png(latent_samples(images(4)[::-1], detector=DETECTOR)) != first


def test_latent_samples_share_one_time_scale():
    figure = latent_samples(images(4), detector=DETECTOR)
    shown = [axes.images[0] for axes in figure.axes[:4]]
    assert {image.get_clim() for image in shown} == {(0.5 * 0.05, 2.5 * 0.05)}  # centres of bins 1 to 3
    assert {image.get_cmap().name for image in shown} == {"time"}
    for image, expected in zip(shown, images(4), strict=True):
        np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), expected == 0)
        np.testing.assert_allclose(image.get_array().compressed(), (expected[expected > 0] - 0.5) * 0.05)
        assert image.get_extent() == [0, 18, 3.5, 0]
    assert figure.axes[4].get_ylabel() == "time (ns)"
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((0, 18), (3.5, 0))


def test_latent_samples_without_times_have_one_colour():
    figure = latent_samples(np.sign(images(3)), detector=DETECTOR, has_time=False)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        np.testing.assert_allclose(axes.images[0].get_cmap()(0.5), to_rgba(style.LIT))


def test_latent_samples_single_time_has_a_scale():
    figure = latent_samples(np.where(images(2) > 0, 11, 0), detector=DETECTOR, units="pixels")
    assert figure.axes[0].images[0].get_clim() == (10.5, 11.5)
    small_png(figure)


def test_latent_samples_not_finite_is_dark():
    strange = images(3)
    strange[2, 0, :5] = math.nan, math.inf, -math.inf, -3, 2
    figure = latent_samples(strange, detector=DETECTOR)
    assert figure.axes[2].get_title() == "1 lit pixel"
    small_png(figure)
    small_png(latent_samples(np.full((2, 7, 9), math.nan), detector=DETECTOR))


@pytest.mark.parametrize("shape", [(4, 9, 7), (7, 9), (0, 9, 7), (1, 4, 7, 9), ()])
def test_latent_samples_other_detector_raises(shape):
    with pytest.raises(ValueError, match=r"images have shape \(.*\), but the detector's have shape \(n, 7, 9\)"):
        latent_samples(np.zeros(shape), detector=DETECTOR)
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        latent_samples(images(1), detector=DETECTOR, units="inches")


def test_latent_samples_empty_list_says_so():
    assert texts(latent_samples([], detector=DETECTOR)) == ["no draws"]


@pytest.mark.slow
def test_latent_projection_has_the_greatest_variance():
    data = vectors()
    figure = latent_projection(data, title="latents")
    centred = data - data.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    largest = np.argmax(np.abs(right[:2]), axis=1)
    signs = np.sign(right[[0, 1], largest])
    np.testing.assert_allclose(places(figure), left[:, :2] * singular[:2] * signs, atol=1e-9)
    shares = 100 * singular**2 / np.sum(singular**2)
    plane, spread = figure.axes
    assert plane.get_xlabel() == f"first component ({shares[0]:.1f} % of the variance)"
    assert plane.get_ylabel() == f"second component ({shares[1]:.1f} %)"
    np.testing.assert_allclose(
        spread.patches[0].get_data().values, np.sort(data.std(axis=0))[::-1], rtol=1e-6, atol=1e-12
    )
    assert [text.get_text() for text in spread.get_legend().get_texts()] == ["2 of 6 dead (below 1 % of the largest)"]
    assert small_png(latent_projection(data, title="latents")) == small_png(figure)
    assert notes(figure) == ""


@pytest.mark.parametrize("shape", [(5, 40), (2, 2), (300, 3)])
def test_latent_projection_signs_are_fixed(shape):
    """The same data with rows in another order, or upside down, has the same axes."""
    data = np.random.default_rng(2).normal(size=shape) * np.arange(1, shape[1] + 1)
    expected = places(latent_projection(data))
    np.testing.assert_allclose(places(latent_projection(data[::-1]))[::-1], expected, atol=1e-7)
    np.testing.assert_allclose(places(latent_projection(-data)), -expected, atol=1e-7)


def test_latent_projection_points_are_coloured_by_label():
    labels = ["b $x_{"] * 10 + ["a\n"] * 30 + ["c"] * 20
    figure = latent_projection(vectors(), labels)
    assert legend(figure) == ["a (30)", "c (20)", "b $x_{ (10)"]
    groups = figure.axes[0].collections
    assert [len(found.get_offsets()) for found in groups] == [30, 20, 10]
    assert len({tuple(found.get_facecolor()[0][:3]) for found in groups}) == 3
    whole = places(latent_projection(vectors()))
    np.testing.assert_allclose(np.asarray(groups[0].get_offsets()), whole[10:40])
    small_png(figure)


@pytest.mark.parametrize("n", [1, 7, 8, 20])
def test_latent_projection_rarest_labels_are_grouped(n):
    labels = [f"kind {index % n}" if index < 50 else "kind 0" for index in range(60)]
    figure = latent_projection(vectors(), labels)
    names = legend(figure)
    assert len(names) == min(n, 8)
    assert names[0].startswith("kind 0 (")
    assert sum(len(found.get_offsets()) for found in figure.axes[0].collections) == 60
    if n > 7:
        assert names[-1].startswith(f"other, {n - 7} labels (")
        np.testing.assert_allclose(figure.axes[0].collections[-1].get_facecolor()[0][:3], to_rgba(style.NOISE)[:3])


@pytest.mark.slow
def test_latent_projection_rows_not_finite_are_left_out():
    data = vectors()
    labels = ["a"] * 30 + ["b"] * 30
    expected = places(latent_projection(data[3:]))
    data[:3, 0] = math.nan, math.inf, 1e300
    figure = latent_projection(data, labels)
    np.testing.assert_allclose(places(figure), np.roll(expected, 30, axis=0))  # b comes first: it is more frequent
    assert legend(figure) == ["b (30)", "a (27)"]
    assert notes(figure) == "3 of 60 vectors left out: not finite"
    small_png(figure)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "messages"),
    [
        ([], ["fewer than two vectors"] * 2),
        (np.zeros((0, 5)), ["fewer than two vectors"] * 2),
        (np.ones((1, 5)), ["fewer than two vectors"] * 2),
        (np.full((9, 5), math.nan), ["fewer than two vectors"] * 2),
        (np.zeros((4, 0)), ["no latent numbers"] * 2),
        (np.full((4, 3), 0.1), ["all vectors are the same"] * 2),
        ([[1.0], [2.0], [4.0]], ["only one latent number"]),
    ],
)
def test_latent_projection_without_a_plane_says_so(data, messages):
    for labels in (None, ["a"] * len(data)):
        figure = latent_projection(data, labels)
        assert texts(figure) == messages
        assert legend(figure) == []
        small_png(figure)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e90])
def test_latent_projection_scale_does_not_matter(scale):
    figure = latent_projection(vectors() * scale)
    np.testing.assert_allclose(places(figure) / scale, places(latent_projection(vectors())), atol=1e-6)
    small_png(figure)


def test_latent_projection_mismatched_labels_raise():
    with pytest.raises(ValueError, match="59 labels for 60 vectors: expected one label per vector"):
        latent_projection(vectors(), ["a"] * 59)
    for shape in ((), (3,), (3, 2, 2)):
        with pytest.raises(ValueError, match=r"vectors have shape \(.*\), expected \(n, d\)"):
            latent_projection(np.zeros(shape))


def test_latent_projection_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ModuleNotFoundError) as error:
        latent_projection(vectors())
    assert str(error.value) == "latent projection needs scikit-learn: pip install 'tofae-jax[report]'"


def test_latent_figures_have_distinct_labels():
    figures = [latent_samples([], detector=DETECTOR), latent_projection([])]
    assert len({figure.get_label() for figure in figures} - {""}) == 2
