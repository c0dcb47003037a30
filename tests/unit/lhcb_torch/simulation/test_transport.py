"""Photons on their way: against a slow ray tracer, mirror images and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_tracks import SETTINGS, WIDE, malitson, track_at

from tofae_jax.lhcb_torch.simulation import tracks, transport

carry = jax.jit(transport.carry)


def traced(x, y, z, direction, settings):
    """A photon followed from wall to wall in double precision: x at the top, path, met the mirror, normals' cosines."""
    position, d = np.array([x, y, z], float), np.array(direction, float)
    half = np.array([settings.width_mm / 2, settings.height_mm / 2, settings.thickness_mm / 2])
    centre, path, mirrored, cosines = np.array([0, 0, half[2]]), 0.0, False, []
    while True:
        far = np.where(d > 0, centre + half, centre - half)
        steps = np.where(d != 0, (far - position) / np.where(d != 0, d, 1), np.inf)
        axis = int(np.argmin(steps))
        position, path = position + steps[axis] * d, path + steps[axis]
        if axis == 1 and d[1] > 0:
            return position[0], path, mirrored, cosines
        mirrored |= axis == 1
        cosines += [abs(d[axis])] * (axis != 1)
        d[axis] *= -1


def test_carry_agrees_with_tracing_from_wall_to_wall():
    rng, n = np.random.default_rng(0), 60
    settings = SETTINGS._replace(height_mm=400.0)
    seen = {"direct": 0, "reflected": 0, "lost": 0}
    for x, y, slope_x, slope_y in ((0, 0, 0, 0), (250, -150, 0.2, -0.1), (-329, 150, -0.2, 0.25)):
        track = track_at(x, y, slope_x, slope_y, momentum=3.0, particle=2)
        energy, azimuth, depth = rng.uniform(2, 6.2, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 1, n)
        # almost horizontal photons meet thousands of walls: not these
        photons = carry(track, *(jnp.asarray(v, jnp.float32) for v in (energy, azimuth, depth)), settings)
        index, group = malitson(1239.841984 / energy)
        for i in np.flatnonzero(np.abs(photons.direction[:, 1]) > 0.1):
            z = 10 * depth[i]
            start = (x + slope_x * z, y + slope_y * z, z)
            inside = abs(start[0]) < 330 and abs(start[1]) < 200
            if not inside:
                assert not photons.is_trapped[i]
                continue
            x_top, path, mirrored, cosines = traced(*start, np.asarray(photons.direction[i]), settings)
            trapped = all(index[i] ** 2 * (1 - c**2) >= 1 for c in cosines)
            assert bool(photons.is_reflected[i]) == mirrored
            assert bool(photons.is_trapped[i]) == trapped
            assert float(photons.x_mm[i]) == pytest.approx(x_top, abs=0.05)
            assert float(photons.path_mm[i]) == pytest.approx(path, rel=1e-4)
            flown = z * np.hypot(1, np.hypot(slope_x, slope_y)) / (float(tracks.track_speed(track)) * 299.792458)
            assert float(photons.time_ns[i]) == pytest.approx(32 + flown + path * group[i] / 299.792458, rel=1e-5)
            seen["lost" if not trapped else "reflected" if mirrored else "direct"] += 1
    assert min(seen.values()) > 10


def test_carry_directions_lie_on_the_cone_and_are_trapped():
    rng, n = np.random.default_rng(1), 2000
    for i in range(5):
        slopes = rng.uniform(-0.3, 0.3, 2)
        track = track_at(*rng.uniform(-300, 300, 2), *slopes, momentum=rng.uniform(2, 10), particle=i % 3)
        energy, azimuth = rng.uniform(2, 6.2, n), rng.uniform(0, 2 * np.pi, n)
        photons = carry(track, *(jnp.asarray(v, jnp.float32) for v in (energy, azimuth, rng.uniform(0, 1, n))), WIDE)
        p, index = np.asarray(photons.direction, float), malitson(1239.841984 / energy)[0]
        np.testing.assert_allclose(np.linalg.norm(p, axis=1), 1, atol=1e-6)
        along = p @ np.array([*slopes, 1]) / np.sqrt(1 + slopes @ slopes)
        np.testing.assert_allclose(along, 1 / (index * float(tracks.track_speed(track))), atol=1e-6)
        kept = np.asarray(photons.is_accepted)
        assert 0 < kept.sum() < n
        assert np.all(index[kept] * np.sqrt(1 - p[kept, 2] ** 2) > 1 - 1e-6)
        x = float(track.x_mm) + p[:, 0] * np.asarray(photons.path_mm, float)
        sides = kept & (np.abs(x) > 340)
        assert np.all(index[sides] * np.sqrt(1 - p[sides, 0] ** 2) > 1 - 1e-6)
        assert np.all(np.abs(np.asarray(photons.x_mm)) <= 330.001)


@pytest.mark.parametrize("y", [-600.0, 0.0, 500.0])
def test_carry_reflected_is_late_by_twice_the_way(y):
    azimuth = jnp.array([0.9, 1.5, 2.0], jnp.float32)
    energy, depth = jnp.full(3, 3.5, jnp.float32), jnp.full(3, 0.5, jnp.float32)
    up, down = (carry(track_at(50.0, y), energy, sign * azimuth, depth, SETTINGS) for sign in (1, -1))
    assert not up.is_reflected.any()
    assert down.is_reflected.all()
    sin = np.sqrt(1 - 1 / (malitson(1239.841984 / 3.5)[0] * float(tracks.track_speed(track_at()))) ** 2)
    p_y = sin * np.sin(np.asarray(azimuth))
    delay = 2 * (y + 625) / p_y * malitson(1239.841984 / 3.5)[1] / 299.792458
    np.testing.assert_allclose(down.time_ns - up.time_ns, delay, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(down.theta_z_rad, up.theta_z_rad, atol=1e-6)


def test_carry_left_and_right_are_alike():
    """Exactly, photon by photon: mirrored track, azimuth pi - azimuth."""
    rng, n = np.random.default_rng(2), 500
    energy, azimuth, depth = (jnp.asarray(rng.uniform(*r, n), jnp.float32) for r in ((2, 6.2), (0, 6.28), (0, 1)))
    right = carry(track_at(120.0, -80.0, 0.2, 0.1), energy, azimuth, depth, SETTINGS)
    left = carry(track_at(-120.0, -80.0, -0.2, 0.1), energy, jnp.pi - azimuth, depth, SETTINGS)
    near = np.asarray(right.path_mm) < 1e4  # beyond, float32 azimuths move the end by millimetres
    np.testing.assert_allclose(left.x_mm[near], -right.x_mm[near], atol=0.1)
    np.testing.assert_allclose(left.time_ns[near], right.time_ns[near], rtol=1e-4)
    assert np.mean(np.asarray(left.is_accepted) == np.asarray(right.is_accepted)) > 0.99


def test_fold_is_the_reflection_at_the_sides():
    x = jnp.array([0.0, 330.0, 331.0, 660.0, 990.0, 1320.0, -331.0, -1000.0])
    np.testing.assert_allclose(transport.fold(x, 660.0), [0, 330, 329, 0, -330, 0, -329, 320], atol=1e-3)
