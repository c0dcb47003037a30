"""Metrics of images: against the reference, scikit-image and NumPy, also for degenerate images."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_images import assert_same, images, in_bins
from skimage.metrics import peak_signal_noise_ratio

from tofae_jax import metrics as m
from tofae_jax.core import hits


def test_compute_images_equals_the_reference(reference):
    data = reference("metrics")
    y, t = data["prediction"][:, 0], data["target"][:, 0]
    result = in_bins(y, t)
    names = {
        "mse": "MSE",
        "mae": "MAE",
        "psnr_db": "PSNR_range1",
        "power_snr_db": "SNR_power_db",
        "correlation": "CC",
        "ssim": "SSIM_range1",
        "nmi": "NMI_minus_1",
        "true_positive_xy_percent": "true_positive_xy_percent",
        "true_positive_tof_percent": "true_positive_tof_percent",
        "true_positives_xy": "true_positives_xy",
        "true_positives_tof": "true_positives_tof",
    }
    for ours, theirs in names.items():
        assert result[ours] == pytest.approx(float(data[f"unit|{theirs}"]), rel=1e-4), ours
    right = in_bins(t, t)
    assert [right[f"true_positive_{name}_percent"] for name in ("xy", "tof", "tof_near")] == [100, 100, 100]
    assert right["correlation"] == pytest.approx(1)
    assert right["nmi"] == pytest.approx(1)


@pytest.mark.slow
def test_compute_images_psnr_agrees_with_scikit_image():
    y, t = images(3, 1), images(4, 1)
    assert in_bins(y * 10, t * 10, n_t=10)["psnr_db"] == pytest.approx(
        peak_signal_noise_ratio(t, y, data_range=1), rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("level", [300.0, 1000 / 3, 700.0])
def test_compute_images_correlation_of_flat_images(level):
    rng = np.random.default_rng(0)
    flat = np.full((8, 128, 88), level)
    sparse = np.where(rng.random(flat.shape) < 0.01, 500.0, 0)
    for y, t in ((flat, flat), (flat, sparse), (sparse, flat)):
        assert in_bins(y, t)["correlation"] == 0
    grainy = (flat + 0.05 * rng.standard_normal(flat.shape)).astype(np.float32)
    assert in_bins(grainy, grainy)["correlation"] == pytest.approx(1)
    expected = np.corrcoef(grainy.ravel().astype(np.float64), sparse.ravel())[0, 1]
    assert in_bins(grainy, sparse)["correlation"] == pytest.approx(expected, rel=0.01)
    steps = flat * np.arange(1, 9)[:, None, None] / 8  # each event flat, but not the same
    assert in_bins(steps, steps)["correlation"] == pytest.approx(1)
    assert in_bins(steps, steps[::-1])["correlation"] == pytest.approx(-1)


def test_compute_images_times_are_right_near_or_wrong():
    t = [[[5.0, 5.0, 5.0, 0.0, 5.0, 5.0]]]
    y = [[[5.4, 5.6, 0.0, 5.0, 4.6, 9.0]]]
    result = in_bins(y, t, n_t=100, tolerance_bins=3.0)
    assert [result[f"true_positives_{name}"] for name in ("xy", "tof", "tof_near")] == [4, 2, 3]
    assert result["true_positive_tof_near_percent"] == pytest.approx(60)
    assert in_bins(y, t, n_t=100, tolerance_bins=4.0)["true_positives_tof_near"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_compute_images_empty_and_flat_are_finite(level):
    flat = np.full((2, 4, 4), 10 * level)
    result = in_bins(flat, flat, n_t=10)
    assert result["psnr_db"] == pytest.approx(100, rel=1e-4)
    assert (result["correlation"], result["nmi"], result["true_positive_xy_percent"]) == (0, 1, 100)
    assert result["power_snr_db"] == pytest.approx(0 if level == 0 else 94, abs=0.1)
    assert all(np.isfinite(value) for value in result.values())


def test_compute_images_no_prediction_or_target_is_defined():
    lit, dark = np.full((1, 3, 3), 4.0), np.zeros((1, 3, 3))
    missed, invented = in_bins(dark, lit), in_bins(lit, dark)
    assert (missed["true_positive_xy_percent"], missed["true_positive_tof_percent"]) == (0, 0)
    assert (invented["true_positive_xy_percent"], invented["true_positives_xy"]) == (100, 0)  # nothing was missed
    for result in (missed, invented):
        assert all(np.isfinite(value) for value in result.values())


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0, 3, 40]))
def test_pixel_sums_of_hits_equal_those_of_images(seed, k):
    rng = np.random.default_rng([seed, 3])
    event = jnp.asarray(rng.integers(0, [6, 5, 9], (2, k, 3)))  # empty slots, shared pixels, equal hits
    image = hits.embed(event, n_x=6, n_y=5)
    output = hits.mask(image, jnp.asarray(rng.integers(0, 2, image.shape)))
    is_event = jnp.asarray(rng.random(2) < 0.8)
    sums = m.pixel_sums(
        hits.at_hits(output, event),
        hits.at_hits(image, event),
        is_event,
        counts=hits.is_one_at_pixel(event, image),
        n_t=9,
        n_pixels=30,
    )
    batch_metrics = m.image_sums(output, image, is_event, n_t=9)._replace(ssim=None)
    n = int(is_event.sum())
    assert_same(m.compute_images(m.to_host(sums), n), m.compute_images(m.to_host(batch_metrics), n))
