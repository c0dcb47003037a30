"""Random tracks fill their ranges."""

import jax
import numpy as np
import pytest
from module_tracks import N_DRAWN, SETTINGS, drawn

from tofae_jax.lhcb_torch import optics, simulation


@pytest.mark.slow
def test_draw_tracks_fill_their_ranges():
    many = jax.device_get(drawn(4, N_DRAWN))
    for name in ("x_mm", "y_mm", "slope_x", "slope_y", "momentum_gev"):
        low, high = getattr(SETTINGS, name)
        values = getattr(many, name)
        assert values.min() >= low
        assert values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / np.sqrt(12 * 20_000))
    assert np.bincount(many.particle) == pytest.approx(20_000 / 3, abs=4 * np.sqrt(20_000 * 2 / 9))
    mass = np.array(optics.MASSES_GEV)[many.particle]
    flight = 9500 * np.sqrt(1 + many.slope_x**2 + many.slope_y**2) * np.hypot(1, mass / many.momentum_gev) / 299.792458
    collision = many.arrival_ns - flight
    assert collision.mean() == pytest.approx(0, abs=4 * 0.18 / np.sqrt(20_000))
    assert collision.std() == pytest.approx(0.18, abs=4 * 0.18 / np.sqrt(40_000))
    fewer = simulation.draw_tracks(jax.random.key(4), 10, SETTINGS)
    np.testing.assert_array_equal(fewer.x_mm, many.x_mm[:10])
    only = drawn(4, 100, SETTINGS._replace(particle_weights=(0.0, 2.0, 0.0)))
    assert (only.particle == 1).all()
