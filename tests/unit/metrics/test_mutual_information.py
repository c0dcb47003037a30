"""Normalised mutual information of times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metric_images import images, in_bins
from skimage.metrics import normalized_mutual_information

from tofae_jax import metrics as m


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_agrees_with_scikit_image(seed):
    rng = np.random.default_rng(seed)
    t = np.round(images(seed, 3) * 1000)
    y = np.where(rng.random(t.shape) < 0.5, t, np.round(images(seed + 9, 3) * 1000))
    for image in (y, t):
        image.flat[:2] = 0, 1000  # their bins are as wide as the data, ours as the time range
    assert in_bins(y, t)["nmi"] == pytest.approx(normalized_mutual_information(y, t) - 1, rel=1e-5)


@pytest.mark.parametrize("n_t", [7, 115, 230, 700, 1000])
def test_time_cells_whole_bins_fall_where_they_belong(n_t):
    times = np.arange(n_t + 1)
    cells = jax.jit(lambda t: m.time_cells(t, jnp.zeros_like(t), t >= 0, n_t=n_t))(times.astype(np.float32))
    np.testing.assert_array_equal(cells // 100, np.minimum(times * 100 // n_t, 99))


def test_mutual_information_independent_constant_and_equal():
    assert m.normalised_mutual_information(np.full((4, 4), 7)) == pytest.approx(0)
    assert m.normalised_mutual_information(np.diag([3, 4, 5])) == pytest.approx(1)
    one_cell = np.zeros((3, 3))
    assert m.normalised_mutual_information(one_cell) == 1  # nothing at all
    one_cell[1, 2] = 5
    assert m.normalised_mutual_information(one_cell) == 1
