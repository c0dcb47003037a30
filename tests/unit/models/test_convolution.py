import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.models import convolution as c

CONVOLUTIONS = [
    (lambda x, k: c.downsample(x, k), lambda x, k: c._down_by_convolution(x, k), (2, 9, 12, 3)),
    (lambda x, k: c.upsample(x, k, (19, 13)), lambda x, k: c._up_by_convolution(x, k, (19, 13)), (2, 9, 6, 3)),
    (lambda x, k: c.upsample(x, k, (20, 14)), lambda x, k: c._up_by_convolution(x, k, (20, 14)), (2, 9, 6, 3)),
]


@pytest.mark.parametrize(("ours", "plain", "shape"), CONVOLUTIONS)
def test_downsample_and_upsample_equal_plain_convolutions(ours, plain, shape):
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), shape, jnp.float64)
        kernel = jax.random.normal(jax.random.key(1), (3, 3, shape[-1], 4), jnp.float64)
        wave = jax.random.normal(jax.random.key(2), plain(x, kernel).shape, jnp.float64)
        for form in (ours, jax.jit(ours)):
            np.testing.assert_allclose(form(x, kernel), plain(x, kernel), rtol=1e-12, atol=1e-12)
            got = jax.grad(lambda x, k, form=form: jnp.sum(form(x, k) * wave), (0, 1))(x, kernel)
            want = jax.grad(lambda x, k: jnp.sum(plain(x, k) * wave), (0, 1))(x, kernel)
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12)


def test_kernel_gradient_of_either_platform_agrees():
    with jax.enable_x64(True):
        large = jax.random.normal(jax.random.key(0), (2, 9, 12, 3), jnp.float64)
        small = jax.random.normal(jax.random.key(1), (2, 4, 5, 4), jnp.float64)
        np.testing.assert_allclose(
            c._kernel_gradient(large, small), c._kernel_gradient_by_convolution(large, small), rtol=1e-12, atol=1e-12
        )
