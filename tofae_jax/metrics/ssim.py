"""Structural similarity of images (Wang, Bovik, Sheikh and Simoncelli 2004)."""

from __future__ import annotations

from functools import cache, partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tofae_jax.core.chunking import by_events
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.static_checks import check_same_shape

SSIM_SIGMA_PIXELS = 1.5
SSIM_RADIUS_PIXELS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
_BLOCK = 32  # rows smoothed by one matrix product; the window reaches few more, so most of a whole matrix is 0
_EVENTS_AT_A_TIME = 25


@cache
def _gaussian_window(n: int) -> np.ndarray:
    """Gaussian smoothing along an axis of length n, mirrored at its ends, as a matrix [n, n]."""
    reach = np.arange(-SSIM_RADIUS_PIXELS, SSIM_RADIUS_PIXELS + 1)
    weight = np.exp(-0.5 * (reach / SSIM_SIGMA_PIXELS) ** 2)
    weight /= weight.sum()
    period = max(2 * (n - 1), 1)
    source = (
        np.abs((np.arange(n)[:, None] + reach + n - 1) % period - (n - 1)) if n > 1 else np.zeros((1, len(reach)), int)
    )
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], source), weight)
    return matrix.astype(np.float32)


def _smooth(image: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """As matrix products: the mirrored edges cost nothing, and every device is quick at it."""
    n_y, n_x = image.shape
    rows, columns = _gaussian_window(n_y), jnp.asarray(_gaussian_window(n_x), image.dtype)
    blocks = []
    for start in range(0, n_y, _BLOCK):
        stop = min(start + _BLOCK, n_y)
        low, high = max(0, start - SSIM_RADIUS_PIXELS), min(n_y, stop + SSIM_RADIUS_PIXELS)
        window = jnp.asarray(rows[start:stop, low:high], image.dtype)
        blocks.append(jnp.matmul(window, image[low:high], precision="highest"))
    return jnp.matmul(jnp.concatenate(blocks), columns.T, precision="highest")


def _ssim(a: Float[Array, "y x"], b: Float[Array, "y x"], data_range: float) -> Float[Array, ""]:
    mean_a, mean_b = _smooth(a), _smooth(b)
    product, squares = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _smooth(a * b) - product
    variances = _smooth(a * a + b * b) - squares  # only their sum is needed
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    ratio = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return jnp.mean(ratio)


def ssim(
    prediction: Float[Array, "*batch y x"], target: Float[Array, "*batch y x"], *, data_range: float = 1.0
) -> Float[Array, "*batch"]:
    """Compute the mean structural similarity of each image.

    Gaussian window of 11 pixels with sigma 1.5, population covariances, mean over the whole image with the edges
    mirrored. (scikit-image leaves out a border of 5 pixels; its `full` map agrees inside.)

    Args:
        prediction: float[..., y, x].
        target: float[..., y, x]; equal shapes are not checked.
        data_range: difference between the largest and the smallest value that an image can have, above 0; in the unit
            of the images.

    Returns:
        float32 (or wider) [...], in [-1, 1]; 1 for two empty images.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004.
    """
    check_same_shape(prediction=prediction, target=target)
    *batch, n_y, n_x = target.shape
    images = (at_least_float32(image).reshape(-1, n_y, n_x) for image in (prediction, target))
    similarity = by_events(partial(_ssim, data_range=data_range), *images, at_a_time=_EVENTS_AT_A_TIME)
    return similarity.reshape(batch)
