import jax.numpy as jnp
import numpy as np

from tofae_jax.steps.state import build_optimiser


def test_build_optimiser_clip_norm_shortens_long_gradients():
    gradients = [{"w": jnp.array([30.0, 40.0])}, {"w": jnp.array([0.3, -0.4])}]
    shortened = [{"w": jnp.array([0.6, 0.8])}, gradients[1]]
    params = {"w": jnp.ones(2)}

    def updates(optimiser, gradients):
        state, found = optimiser.init(params), []
        for gradient in gradients:
            update, state = optimiser.update(gradient, state, params)
            found.append(update["w"])
        return np.stack(found)

    clipped = updates(build_optimiser(weight_decay=0.1, clip_norm=1.0), gradients)
    plain = build_optimiser(weight_decay=0.1)
    np.testing.assert_allclose(clipped, updates(plain, shortened), rtol=1e-5)
    assert np.abs(clipped - updates(plain, gradients)).max() > 0.1
