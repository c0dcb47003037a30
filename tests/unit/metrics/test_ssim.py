"""Structural similarity against scikit-image and the reference."""

import jax.numpy as jnp
import numpy as np
import pytest
from metric_images import images
from skimage.metrics import structural_similarity

from tofae_jax import metrics as m


def test_ssim_equals_the_reference(reference):
    data = reference("metrics")
    y, t = data["prediction"][:, 0], data["target"][:, 0]
    ours = m.ssim(jnp.asarray(y / 1000), jnp.asarray(t / 1000))
    np.testing.assert_allclose(np.mean(ours), data["unit|SSIM_range1"], rtol=1e-5)
    in_bins = m.ssim(jnp.asarray(y), jnp.asarray(t), data_range=1.0)
    np.testing.assert_allclose(np.mean(in_bins), data["tof|SSIM_range1"], rtol=2e-3)


def test_ssim_agrees_with_scikit_image_inside():
    y, t = images(0, 1)[0], images(1, 1)[0]
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, full = structural_similarity(y.astype(float), t.astype(float), full=True, **options)
    pad = m.SSIM_RADIUS_PIXELS  # their edges repeat the outermost pixel, ours mirror about it
    padded = [np.pad(a, pad, mode="reflect") for a in (y, t)]
    _, theirs = structural_similarity(*(a.astype(float) for a in padded), full=True, **options)
    np.testing.assert_allclose(m.ssim(jnp.asarray(y), jnp.asarray(t)), theirs[pad:-pad, pad:-pad].mean(), rtol=1e-5)
    assert not np.isclose(full.mean(), theirs[pad:-pad, pad:-pad].mean(), rtol=1e-5)  # the check can fail


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (12, 4)])
def test_ssim_equal_images_of_any_size_give_1(shape):
    image = jnp.asarray(images(0, 2, shape, 0.5))
    np.testing.assert_allclose(m.ssim(image, image), 1, rtol=1e-6)
    np.testing.assert_allclose(m.ssim(jnp.zeros((1, *shape)), jnp.zeros((1, *shape))), 1)


@pytest.mark.usefixtures("untyped")
def test_ssim_other_shapes_are_refused():
    with pytest.raises(ValueError, match="prediction and target must have the same shape"):
        m.ssim(jnp.zeros((2, 3, 4)), jnp.zeros((2, 4, 3)))
