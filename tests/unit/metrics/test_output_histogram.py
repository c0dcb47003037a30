"""Counts of raw outputs about the threshold."""

import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax import metrics as m


@pytest.mark.backlog("B12")
def test_compute_outputs_python_ints_add_up():
    output = jnp.array([[[0.0, 0.019, 0.02, 0.49]], [[0.51, 1.0, 1.7, -3.0]], [[0.9, 0.9, 0.9, 0.9]]])
    sums = m.output_sums(output, output > 0.5, jnp.array([True, True, False]))
    result = m.compute_outputs(m.to_host(sums), 0.5)
    assert (result["threshold"], result["above"], result["below"]) == (0.5, 3, 5)
    assert [i for i, n in enumerate(result["histogram"]) for _ in range(n)] == [0, 0, 0, 1, 24, 25, 49, 49]
    assert all(type(n) is int for n in [result["above"], result["below"], *result["histogram"]])


def test_compute_outputs_nan_is_counted_apart():
    output = jnp.full((70, 1, 2), jnp.nan, jnp.float16)
    result = m.compute_outputs(m.to_host(m.output_sums(output, output > 0.5, jnp.ones(70, bool))), 0.5)
    assert (result["above"], result["below"], result["not_finite"]) == (0, 0, 140)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_output_sums_half_precision_falls_into_right_bins(dtype):
    every = jnp.asarray(np.arange(2**16, dtype=np.uint16)).view(dtype)
    every = every[(every >= 0) & (every <= 1)][None, None]
    sums = m.output_sums(every, every > 0.9, jnp.ones(1, bool))
    expected = np.minimum(np.asarray(every, np.float32).ravel() * np.float32(50), 49).astype(int)
    np.testing.assert_array_equal(sums.histogram, np.bincount(expected, minlength=50))
