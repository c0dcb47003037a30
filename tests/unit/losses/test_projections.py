import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tofae_jax import losses


def twin_3d(y, t, threshold, n_bins):
    """The same, hit by hit."""

    def depths(image):
        n_y, n_x = image.shape
        step = (1 - threshold) / n_bins
        ramps = [(0, max(threshold, step)), *((threshold + k * step, step) for k in range(n_bins))]
        xt, yt = np.zeros((n_x, n_bins + 1)), np.zeros((n_y, n_bins + 1))
        for row in range(n_y):
            for column in range(n_x):
                for k, (start, width) in enumerate(ramps):
                    share = min(max((image[row, column] - start) / width, 0), 1)
                    xt[column, k] += share
                    yt[row, k] += share
        return np.log2(1 + xt), np.log2(1 + yt)

    def balanced(p, q):
        error, hit = (p - q) ** 2, q != 0
        return sum(error[member].mean() for member in (hit, ~hit) if member.any())

    pairs = [(y, t), *zip(depths(y), depths(t), strict=True)]
    return np.mean([balanced(p, q) for p, q in pairs])


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("n_bins", [1, 7])
def test_acb_mse_3d_random_images_equal_slow_twin(threshold, n_bins):
    with jax.enable_x64(True):
        y = jax.random.uniform(jax.random.key(0), (1, 4, 5), jnp.float64)
        t = jnp.where(jax.random.uniform(jax.random.key(1), y.shape) < 0.3, threshold + (1 - threshold) * y, 0.0)
        value = losses.acb_mse_3d(y, t, threshold=threshold, n_time_bins=n_bins)
        assert float(value) == pytest.approx(twin_3d(np.asarray(y)[0], np.asarray(t)[0], threshold, n_bins), rel=1e-9)


@pytest.mark.slow
def test_acb_mse_3d_gradient_is_of_lightness_then_time():
    """Through the time projections alone: what is left when the gradient of the (x, y) term is taken away."""
    t = jnp.zeros((1, 3, 3)).at[0, 1, 1].set(0.8)

    def extra(p):
        y = jnp.zeros((1, 3, 3)).at[0, 1, 1].set(p)
        return 3 * losses.acb_mse_3d(y, t, threshold=0.5, n_time_bins=6) - losses.acb_mse(y, t)

    slope = jax.grad(extra)
    assert slope(0.2) < 0  # ought to be lit
    assert slope(0.45) < 0
    assert slope(0.75) < 0  # too early
    assert slope(0.85) > 0  # too late
    assert float(extra(0.8)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_acb_mse_3d_at_the_edges_is_finite(threshold):
    for filling in (0.0, threshold, 1.0):
        y = jnp.full((2, 4, 3), filling)
        for t in (jnp.zeros_like(y), jnp.ones_like(y)):
            value, gradient = jax.value_and_grad(lambda y, t=t: losses.acb_mse_3d(y, t, threshold=threshold))(y)
            assert np.isfinite(value)
            assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("start", [-2.0, 0.3])
def test_acb_mse_3d_descent_learns_a_track(start):
    """Descent on the image itself, from all dark and from all lit, brings the hits to their places and times.

    With hits counted in plain time bins it stayed near its start: pixels get stuck in early bins.
    """
    t = jnp.zeros((1, 16, 16)).at[0, jnp.arange(16), jnp.arange(16)].set(jnp.linspace(0.6, 0.95, 16))
    optimiser = optax.adam(0.05)

    def loss(z):
        return losses.acb_mse_3d(jax.nn.sigmoid(z), t, n_time_bins=8)

    def step(carry, _):
        z, state = carry
        value, gradient = jax.value_and_grad(loss)(z)
        updates, state = optimiser.update(gradient, state)
        return (z + updates, state), value

    z = jnp.full(t.shape, start)
    (z, _), values = jax.jit(lambda carry: jax.lax.scan(step, carry, length=400))((z, optimiser.init(z)))
    y = jax.nn.sigmoid(z)
    lit = (y > 0.5) & (t > 0)
    assert values[-1] < 0.1 * values[0]
    assert not jnp.any((y > 0.5) & (t == 0))
    assert jnp.sum(lit) >= 12
    assert jnp.median(jnp.abs(y - t)[lit]) < 1e-3


def test_acb_mse_3d_impossible_settings_are_refused():
    y = jnp.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="n_time_bins must be at least 1, got 0"):
        losses.acb_mse_3d(y, y, n_time_bins=0)
    with pytest.raises(ValueError, match="threshold"):
        losses.acb_mse_3d(y, y, threshold=1.0)
