"""Sine and cosine of a phase: right at any size that occurs, and differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.core.sincos import sincos


@pytest.mark.parametrize(("largest", "error"), [(1.0, 1e-7), (6000.0, 1e-7), (1e6, 2e-6)])
def test_sincos_any_size_equals_numpy(largest, error):
    phase = np.random.default_rng(0).uniform(-largest, largest, 100_000).astype(np.float32)
    for found, true in zip(jax.jit(sincos)(phase), (np.sin, np.cos), strict=True):
        np.testing.assert_allclose(found, true(phase.astype(float)), rtol=0, atol=error)


@given(st.integers(-4000, 4000), st.floats(-0.01, 0.01))
def test_sincos_quadrants_meet(quarter, beside):
    phase = jnp.asarray(quarter * np.pi / 2 + beside, jnp.float32)
    expected = np.sin(float(phase)), np.cos(float(phase))
    np.testing.assert_allclose(sincos(phase), expected, rtol=0, atol=1e-7)


def test_sincos_zero_and_not_finite_are_defined():
    sine, cosine = sincos(jnp.asarray([0.0, np.nan, np.inf]))
    np.testing.assert_array_equal(sine, [0, np.nan, np.nan])
    np.testing.assert_array_equal(cosine, [1, np.nan, np.nan])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sincos_derivatives_are_right(dtype):
    phase = jnp.asarray(1.25, dtype)
    assert sincos(phase)[0].dtype == dtype
    sine, cosine = (jax.grad(lambda x, i=i: sincos(x)[i])(phase) for i in (0, 1))
    curvature = jax.grad(jax.grad(lambda x: sincos(x)[0]))(phase)
    found = [float(derivative) for derivative in (sine, cosine, curvature)]
    expected = [np.cos(1.25), -np.sin(1.25), -np.sin(1.25)]
    np.testing.assert_allclose(found, expected, rtol=0.01 if dtype == "bfloat16" else 1e-6)
