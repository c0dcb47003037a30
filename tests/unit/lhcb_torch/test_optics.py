"""Optics of the module: formulas against tables and NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_tracks import DETECTOR, KNOTS, SETTINGS, malitson

from tofae_jax.lhcb_torch import optics


def test_refractive_index_has_malitsons_values():
    """Computed values of his table, at the spectral lines (the 587.6 nm of helium has 1.45846, sodium 1.45840)."""
    nm = np.array([213.856, 404.656, 546.074, 587.561, 589.3, 656.272])
    table = [1.53430, 1.46961, 1.46008, 1.45846, 1.45840, 1.45637]
    np.testing.assert_allclose(optics.refractive_index(jnp.asarray(1239.841984 / nm)), table, atol=1.2e-5)


def test_group_index_is_the_derivative():
    energy = np.linspace(2.0, 6.2, 50)
    n, group = malitson(1239.841984 / energy)
    np.testing.assert_allclose(optics.refractive_index(jnp.asarray(energy)), n, rtol=3e-7)
    np.testing.assert_allclose(optics.group_index(jnp.asarray(energy)), group, rtol=1e-6)
    assert np.all(np.diff(group) > 0)  # blue light is slower everywhere
    slope = jax.vmap(jax.grad(optics.refractive_index))(jnp.asarray(energy, jnp.float32))
    np.testing.assert_allclose(n + energy * slope, group, rtol=1e-6)


def test_optics_constants_are_those_published():
    assert pytest.approx(36.98, abs=0.005) == optics.FRANK_TAMM_PER_EV_MM  # 370 per eV and cm, PDG
    assert pytest.approx(2 * np.pi * optics.HBAR_C_EV_MM * 1e6, rel=1e-8) == optics.HC_EV_NM
    assert optics.LIGHT_MM_PER_NS == 299.792458
    assert pytest.approx((0.139570, 0.493677, 0.938272), abs=1e-6) == optics.MASSES_GEV
    assert dict(zip(optics.PARTICLES, optics.MASSES_GEV, strict=True)).keys() == {"pion", "kaon", "proton"}
    assert SETTINGS.bunch_sigma_ns == pytest.approx(75.5 / np.sqrt(2) / optics.LIGHT_MM_PER_NS, abs=0.005)
    plate = SETTINGS.width_mm, SETTINGS.height_mm, SETTINGS.thickness_mm
    assert plate == (660, 1250, 10)
    assert DETECTOR.width_mm == SETTINGS.width_mm
    assert SETTINGS.time_sigma_ns == 0.070
    assert SETTINGS.dense_factor * 30 == pytest.approx(2000)


@pytest.mark.parametrize("mass", optics.MASSES_GEV)
def test_cherenkov_sin2_equals_the_formula(mass):
    momentum, energy = np.array([2.0, 5.0, 10.0]), 4.0
    speed = momentum / np.sqrt(momentum**2 + mass**2)
    np.testing.assert_allclose(optics.beta(jnp.asarray(momentum), mass), speed, rtol=2e-7)
    n = malitson(1239.841984 / energy)[0]
    given = jnp.asarray(speed)
    np.testing.assert_allclose(optics.cherenkov_sin2(energy, given), 1 - 1 / (n * speed) ** 2, rtol=1e-6)


def test_cherenkov_at_and_below_threshold_gives_no_light():
    n = float(optics.refractive_index(4.0))
    speed = jnp.array([0.0, 0.3, 1 / n * (1 - 1e-6)])
    for value in (optics.cherenkov_sin2, optics.photon_yield_per_ev_mm):
        np.testing.assert_array_equal(value(4.0, speed), 0)
    assert optics.photon_yield_per_ev_mm(4.0, 1 / n + 1e-4) > 0
    assert optics.beta(0.0, 0.1) == 0


def test_quantum_efficiency_and_its_inverse_agree():
    energy, u = np.linspace(1.5, 6.8, 200), np.linspace(0, 1, 101)
    curve = np.interp(energy, KNOTS, (0, 0.25, 0.25, 0))
    given = optics.quantum_efficiency(jnp.asarray(energy), knots_ev=KNOTS, peak=0.25)
    np.testing.assert_allclose(given, curve, atol=1e-6)
    fine = np.linspace(2.0, 6.2, 200_001)
    area = np.cumsum(np.interp(fine, KNOTS, (0, 1, 1, 0))) * (fine[1] - fine[0])
    assert optics.efficiency_width_ev(KNOTS) == pytest.approx(area[-1], rel=1e-5)
    quantile = optics.energy_at_quantile(jnp.asarray(u, jnp.float32), knots_ev=KNOTS)
    np.testing.assert_allclose(np.interp(quantile, fine, area / area[-1]), u, atol=1e-5)
    assert float(quantile[0]) == 2.0
    assert float(quantile[-1]) == pytest.approx(6.2, abs=1e-3)
