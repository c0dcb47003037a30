"""The simulated TORCH module of LHCb against its physics: formulas, a slow ray tracer, stated statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.core.detector import Detector
from tofae_jax.lhcb_torch import optics, simulation
from tofae_jax.lhcb_torch.simulation import ModuleSettings, Slots, Track, event, tracks, transport

DETECTOR = Detector()
SHAPE, BIN_NS = DETECTOR.shape, DETECTOR.bin_ns
SETTINGS = ModuleSettings()
KNOTS = SETTINGS.energy_knots_ev
REAL, DENSE = Slots(150, 90), Slots(6000, 3200)
WIDE = SETTINGS._replace(theta_z_rad=(0.0, np.pi / 2))
LONG_BIN_NS = 100.0  # the window then holds the photons that are next to horizontal

simulate_real = jax.jit(
    lambda keys, track, settings, start, bin_ns, scale: jax.vmap(
        partial(simulation.simulate_track, shape_xyt=SHAPE, slots=REAL, settings=settings, scale=scale, bin_ns=bin_ns)
    )(keys, track, window_start_ns=start)
)
simulate_dense = jax.jit(
    lambda keys, track, settings, start, bin_ns, scale: jax.vmap(
        partial(simulation.simulate_track, shape_xyt=SHAPE, slots=DENSE, settings=settings, scale=scale, bin_ns=bin_ns)
    )(keys, track, window_start_ns=start)
)
N_DRAWN, N_EVENTS = 20_000, 3000
draw_all = jax.jit(lambda seed, settings: simulation.draw_tracks(jax.random.key(seed), N_DRAWN, settings))
expected = jax.jit(jax.vmap(transport.expected_photons, (0, None)))
candidate_means = jax.jit(jax.vmap(transport.candidate_mean, (0, None)))
window_starts = jax.jit(
    jax.vmap(partial(simulation.draw_window_start, shape_xyt=SHAPE, bin_ns=BIN_NS), in_axes=(0, 0, None))
)
carry = jax.jit(transport.carry)


def track_at(x=0.0, y=0.0, slope_x=0.0, slope_y=0.0, momentum=10.0, particle=0, arrival=32.0, n=None):
    """One track, or `n` equal ones."""
    numbers = [jnp.asarray(v, jnp.float32) for v in (x, y, slope_x, slope_y, momentum)]
    track = Track(*numbers, jnp.asarray(particle, jnp.int32), jnp.asarray(arrival, jnp.float32))
    return track if n is None else jax.tree.map(lambda v: jnp.broadcast_to(v, (n,)), track)


def drawn(seed, n, settings=SETTINGS):
    """The first `n` of many drawn tracks: one program for all tests."""
    return jax.tree.map(lambda v: v[:n], draw_all(seed, settings))


def photons_of(track, n, settings=SETTINGS, seed=0, scale=1.0, run=simulate_real, start=31.0, bin_ns=BIN_NS):
    """Photons of `n` equal tracks."""
    keys = jax.random.split(jax.random.key(seed), n)
    many = jax.tree.map(lambda v: jnp.broadcast_to(v, (n,)), track)
    starts = jnp.full(n, start, jnp.float32)
    return jax.device_get(run(keys, many, settings, starts, jnp.float32(bin_ns), jnp.float32(scale)))


def malitson(nm):
    """Refractive and group index in double precision, as functions of the wavelength."""

    def n_of(um):
        terms = zip((0.6961663, 0.4079426, 0.8974794), (0.0684043, 0.1162414, 9.896161), strict=True)
        return np.sqrt(1 + sum(b * um**2 / (um**2 - c**2) for b, c in terms))

    um, step = np.asarray(nm, float) / 1000, 1e-6
    slope = (n_of(um + step) - n_of(um - step)) / (2 * step)
    return n_of(um), n_of(um) - um * slope


def spectrum(speed, n=4001):
    """Energies, and photons per eV and mm times quantum efficiency, in double precision."""
    energy = np.linspace(KNOTS[0], KNOTS[3], n)
    index, group = malitson(1239.841984 / energy)
    sin2 = np.maximum(1 - 1 / (index * speed) ** 2, 0)
    return energy, 36.9809 * sin2 * np.interp(energy, KNOTS, (0, 0.25, 0.25, 0)), index, group


# optics


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


def test_constants():
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
def test_speed_and_cherenkov_angle(mass):
    momentum, energy = np.array([2.0, 5.0, 10.0]), 4.0
    speed = momentum / np.sqrt(momentum**2 + mass**2)
    np.testing.assert_allclose(optics.beta(jnp.asarray(momentum), mass), speed, rtol=2e-7)
    n = malitson(1239.841984 / energy)[0]
    given = jnp.asarray(speed)
    np.testing.assert_allclose(optics.cherenkov_angle(energy, given), np.arccos(1 / (n * speed)), rtol=1e-6)
    np.testing.assert_allclose(optics.cherenkov_sin2(energy, given), 1 - 1 / (n * speed) ** 2, rtol=1e-6)


def test_at_and_below_threshold_there_is_no_light():
    n = float(optics.refractive_index(4.0))
    speed = jnp.array([0.0, 0.3, 1 / n * (1 - 1e-6)])
    for value in (optics.cherenkov_angle, optics.cherenkov_sin2, optics.photon_yield_per_ev_mm):
        np.testing.assert_array_equal(value(4.0, speed), 0)
    assert optics.photon_yield_per_ev_mm(4.0, 1 / n + 1e-4) > 0
    assert optics.beta(0.0, 0.1) == 0


def test_quantum_efficiency_and_its_inverse():
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


# transport


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


def test_transport_agrees_with_tracing_from_wall_to_wall():
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


def test_directions_lie_on_the_cone_and_the_trapping_condition_holds():
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
def test_the_mirror_image_is_late_by_twice_the_way_to_the_mirror(y):
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


def test_left_and_right_are_alike():
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


# photons of a track


def test_yield_is_that_of_frank_and_tamm():
    """With all angles accepted and a track along z, every photon of a fast particle is trapped and seen."""
    speed = float(tracks.track_speed(track_at()))
    energy, density, *_ = spectrum(speed)
    mean = np.trapezoid(density, energy) * 10 * SETTINGS.collection
    assert float(expected(track_at(n=1000), WIDE)[0]) == pytest.approx(mean, rel=2e-3)
    photons = photons_of(track_at(), 16, WIDE, scale=30.0, run=simulate_dense, bin_ns=LONG_BIN_NS)
    n = photons.is_photon.sum() + photons.n_outside_window.sum()
    assert n == pytest.approx(16 * 30 * mean, abs=4 * np.sqrt(16 * 30 * mean))
    assert photons.n_dropped.sum() == 0
    # and the energies have the spectrum's shape: chi squared over 20 bins of equal content, 19 degrees of freedom
    share = np.cumsum(density) / density.sum()
    edges = np.interp(np.linspace(0, 1, 21), share, energy)
    counts = np.histogram(photons.energy_ev[photons.is_photon], edges)[0]
    mean_count = counts.sum() / 20
    assert np.sum((counts - mean_count) ** 2) / mean_count < 19 + 4 * np.sqrt(2 * 19)


def test_counts_are_poisson_with_the_integrated_mean():
    n = N_EVENTS
    for seed, track in enumerate([track_at(), track_at(100.0, -200.0, 0.2, -0.15, momentum=2.5, particle=2)]):
        photons = photons_of(track, n, seed=seed, bin_ns=1.0)
        counts = photons.is_photon.sum(axis=1) + photons.n_outside_window
        mean = float(expected(jax.tree.map(lambda v: jnp.broadcast_to(v, (1000,)), track), SETTINGS)[0])
        # the integral's grid is good to 1 %
        assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n) + 0.01 * mean)
        assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / n))
        assert photons.n_dropped.sum() == 0


def test_time_is_path_times_group_index_and_disperses_with_the_energies():
    track = track_at(0.0, -300.0)
    photons = photons_of(track, 16, scale=60.0, run=simulate_dense)
    ok = photons.is_photon
    energy, path = photons.energy_ev[ok].astype(float), photons.path_mm[ok].astype(float)
    group = malitson(1239.841984 / energy)[1]
    emitted = photons.true_time_ns[ok] - 32 - path * group / 299.792458
    # what is left is the emission's time: uniform over 10 mm of a fast track, 33 ps
    assert emitted.min() > -2e-4
    assert emitted.max() < 10 / 299.792458 + 2e-4
    assert emitted.mean() == pytest.approx(10 / 2 / 299.792458, abs=4 * 0.0334 / np.sqrt(12 * ok.sum()) + 1e-5)
    # spread of the group index, hence of times over path, as the spectrum has it (all angles: no cut on the energies)
    photons = photons_of(track, 16, WIDE, scale=30.0, run=simulate_dense, bin_ns=LONG_BIN_NS)
    ok = photons.is_photon & (photons.path_mm > 500) & (photons.path_mm < 2e5)
    per_path = (photons.true_time_ns[ok].astype(float) - 32 - 10 / 2 / 299.792458) / photons.path_mm[ok] * 299.792458
    _, density, _, n_group = spectrum(float(tracks.track_speed(track)))
    mean = np.average(n_group, weights=density)
    width = np.sqrt(np.average((n_group - mean) ** 2, weights=density))
    assert 0.03 < width < 0.08
    assert per_path.mean() == pytest.approx(mean, abs=4 * width / np.sqrt(ok.sum()))
    kurtosis = np.average((n_group - mean) ** 4, weights=density) / width**4
    assert per_path.std() == pytest.approx(width, abs=4 * width * np.sqrt((kurtosis - 1) / ok.sum()) / 2)


def test_times_are_smeared_and_binned():
    track = track_at(0.0, -300.0)
    photons = photons_of(track, 16, scale=60.0, run=simulate_dense)
    ok = photons.is_photon
    moved = (photons.hits[ok][:, 2] - 0.5) * BIN_NS + 31.0 - photons.true_time_ns[ok]
    sigma = np.hypot(0.070, BIN_NS / np.sqrt(12))
    assert moved.mean() == pytest.approx(0, abs=4 * sigma / np.sqrt(ok.sum()))
    assert moved.std() == pytest.approx(sigma, abs=4 * sigma / np.sqrt(2 * ok.sum()))
    still = photons_of(track, 16, SETTINGS._replace(time_sigma_ns=0.0), scale=60.0, run=simulate_dense)
    ok = still.is_photon
    moved = (still.hits[ok][:, 2] - 0.5) * BIN_NS + 31.0 - still.true_time_ns[ok]
    assert np.abs(moved).max() < BIN_NS / 2 + 1e-4


def test_patterns_of_mirrored_tracks_are_mirror_images():
    """Columns of the direct photons of the two, chi squared over 88 columns."""
    both = [
        photons_of(track_at(s * 200.0, 400.0, s * 0.15, 0.05), 16, scale=60.0, run=simulate_dense, seed=s + 1)
        for s in (-1, 1)
    ]
    direct = [p.hits[p.is_photon & ~p.is_reflected] for p in both]
    left, right = (np.bincount(hits[:, 0], minlength=88).astype(float) for hits in direct)
    assert left.sum() > 5_000
    right = right[::-1]
    assert np.sum((left - right) ** 2 / np.maximum(left + right, 1)) < 88 + 4 * np.sqrt(2 * 88)
    # and it could have failed
    right = right[::-1]
    assert np.sum((left - right) ** 2 / np.maximum(left + right, 1)) > 88 + 10 * np.sqrt(2 * 88)


def test_reflected_photons_come_later_in_two_bands():
    photons = photons_of(track_at(), 16, scale=60.0, run=simulate_dense)
    ok = photons.is_photon
    direct, reflected = (photons.hits[ok & (photons.is_reflected == r)] for r in (False, True))
    assert len(direct) == pytest.approx(len(reflected), abs=4 * np.sqrt(len(direct) + len(reflected)))
    assert direct[:, 2].max() < reflected[:, 2].min()
    assert reflected[:, 2].mean() > 2.5 * direct[:, 2].mean()


@pytest.mark.parametrize("track", [{"momentum": 0.0}, {"momentum": 0.11}, {"momentum": 0.6, "particle": 2}])
def test_no_photons_below_threshold(track):
    photons = photons_of(track_at(**track), 16, WIDE, scale=60.0, run=simulate_dense)
    assert not photons.hits.any()
    assert not photons.is_photon.any()
    assert (photons.track == -1).all()
    assert not (photons.n_outside_window.any() or photons.n_dropped.any())


def test_at_threshold_only_the_blue_light_is_there():
    n = malitson(1239.841984 / 4.5)[0]
    speed = 1 / n
    momentum = 0.13957039 * speed / np.sqrt(1 - speed**2)
    photons = photons_of(track_at(slope_y=1.0, momentum=momentum), 16, scale=3000.0, run=simulate_dense)
    assert photons.is_photon.sum() > 50
    assert photons.energy_ev[photons.is_photon].min() > 4.5 - 1e-2


@pytest.mark.parametrize("place", [{"x": 400.0}, {"y": -700.0}, {"x": 331.0, "slope_x": 0.2}])
def test_tracks_outside_the_plate_make_no_photons(place):
    photons = photons_of(track_at(**place), 16, scale=60.0, run=simulate_dense)
    assert not photons.is_photon.any()


def test_a_track_that_leaves_through_the_side_makes_light_only_inside():
    inside = photons_of(track_at(0.0, slope_x=0.5), 16, scale=60.0, run=simulate_dense)
    partly = photons_of(track_at(327.5, slope_x=0.5), 16, scale=60.0, run=simulate_dense)
    assert 0.3 < partly.is_photon.sum() / inside.is_photon.sum() < 0.7


def test_no_scale_no_photons_and_a_tiny_detector_keeps_them_all():
    assert not photons_of(track_at(), 16, scale=0.0, run=simulate_dense).is_photon.any()
    one = partial(simulation.simulate_track, shape_xyt=(1, 1, 1), bin_ns=100.0, slots=REAL, window_start_ns=31.0)
    photons = jax.jit(one)(jax.random.key(0), track_at(), SETTINGS)
    assert photons.is_photon.sum() > 10
    assert {tuple(hit) for hit in photons.hits.tolist()} == {(0, 0, 1), (0, 0, 0)}


def test_missing_slots_are_counted():
    small = partial(simulation.simulate_track, shape_xyt=SHAPE, bin_ns=BIN_NS, window_start_ns=31.0)
    for slots, least in ((Slots(150, 5), 10), (Slots(10, 90), 40)):
        photons = jax.jit(partial(small, slots=slots))(jax.random.key(0), track_at(), SETTINGS)
        assert photons.hits.shape == (slots.n_photons, 3)
        assert photons.n_dropped >= least
        assert photons.is_photon.sum() <= min(slots)


# what the defaults give


def test_mean_numbers_and_acceptance_are_those_stated():
    settings = SETTINGS._replace(momentum_gev=(6.0, 6.0))
    many = drawn(3, 1000, settings)
    assert float(expected(many, settings).mean()) == pytest.approx(30, rel=0.02)
    fast = many._replace(momentum_gev=jnp.full(1000, 10.0), particle=jnp.zeros(1000, jnp.int32))
    for some, acceptance in ((fast, 0.42), (track_at(n=1000), 0.52)):
        share = expected(some, SETTINGS).sum() / candidate_means(some, SETTINGS).sum()
        assert float(share) == pytest.approx(acceptance, abs=0.01)


def test_drawn_tracks_fill_their_ranges():
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


def test_the_window_holds_the_primarys_photons_where_it_can():
    n = N_EVENTS
    for y, most in (((-625.0, 0.0), 0.0), ((500.0, 625.0), 0.1)):
        settings = SETTINGS._replace(y_mm=y)
        many = drawn(5, n, settings)
        starts = window_starts(jax.random.split(jax.random.key(6), n), many, settings)
        keys = jax.random.split(jax.random.key(7), n)
        photons = jax.device_get(simulate_real(keys, many, settings, starts, jnp.float32(BIN_NS), jnp.float32(1.0)))
        seen = photons.is_photon.sum()
        assert photons.n_outside_window.sum() <= most * seen
        first = np.where(photons.is_photon, photons.true_time_ns, np.inf).min(axis=1)
        lead = (first - starts)[np.isfinite(first)]
        # real tracks have 30 photons: the first comes a bit after the first that could
        assert np.quantile(lead, 0.01) > SETTINGS.window_margin_ns - 0.05
        assert lead.min() > 0
        assert np.median(lead) < SETTINGS.window_margin_ns + SETTINGS.window_jitter_ns
    blind = window_starts(jax.random.split(jax.random.key(0), n), track_at(momentum=0.0, n=n), SETTINGS)
    assert 32 - 0.25 - 2.0 <= float(blind[0]) <= 32 - 0.25


def test_slots_are_enough_for_what_the_settings_draw():
    slots = simulation.choose_slots(SETTINGS)
    assert slots.n_photons < slots.n_candidates <= REAL.n_candidates
    assert slots.n_photons <= REAL.n_photons
    dense = simulation.choose_slots(SETTINGS, scale=SETTINGS.dense_factor)
    assert dense.n_candidates <= DENSE.n_candidates
    assert dense.n_photons <= DENSE.n_photons
    means = expected(drawn(8, 1000), SETTINGS)
    assert dense.n_photons > 6 * np.sqrt(float(means.max()) * SETTINGS.dense_factor) + float(
        means.max() * SETTINGS.dense_factor
    )
    assert simulation.choose_slots(SETTINGS, scale=0.0) == Slots(6, 6)


# events


batch = partial(simulation.simulate_batch, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=REAL, max_tracks=3)
SEVERAL = SETTINGS._replace(n_tracks=(1, 3))


def test_events_depend_on_key_and_number_only():
    key = jax.random.key(9)
    # compiled as users have it: without the fusions that `conftest` leaves out, sizes round differently
    options = {"xla_cpu_use_fusion_emitters": True} if jax.default_backend() == "cpu" else None
    drawn = jax.jit(partial(batch, settings=SEVERAL), static_argnames=("n_events",), compiler_options=options)
    whole = jax.device_get(drawn(key, n_events=6))
    parts = [jax.device_get(drawn(key, n_events=3, first_event=first)) for first in (0, 3)]
    for got, *expect in zip(*(jax.tree.leaves(p) for p in (whole, *parts)), strict=True):
        np.testing.assert_array_equal(got, np.concatenate(expect))
    other = jax.device_get(drawn(jax.random.key(10), n_events=6))
    assert not np.array_equal(other.photons.hits, whole.photons.hits)


def test_every_hit_knows_its_track():
    events = jax.device_get(batch(jax.random.key(9), SEVERAL, n_events=6))
    photons = events.photons
    assert photons.hits.shape == (6, 3 * REAL.n_photons, 3)
    assert set(events.n_tracks) <= {1, 2, 3}
    assert len(set(events.n_tracks)) > 1
    np.testing.assert_array_equal(photons.track == -1, ~photons.is_photon)
    assert (photons.track < events.n_tracks[:, None]).all()
    number = np.maximum(photons.track, 0)
    row = np.arange(6)[:, None]
    later = photons.true_time_ns - events.tracks.arrival_ns[row, number]
    assert later[photons.is_photon].min() > 0
    n = SHAPE
    for axis, (low, high) in enumerate([(0, n[0] - 1), (0, n[1] - 1), (1, n[2])]):
        values = photons.hits[..., axis][photons.is_photon]
        assert low <= values.min() <= values.max() <= high


def test_settings_change_without_compiling_again():
    batch(jax.random.key(9), SEVERAL, n_events=6)
    before = event._simulate_keys._cache_size()
    batch(jax.random.key(9), SEVERAL._replace(collection=0.3, momentum_gev=(3.0, 4.0)), n_events=6, first_event=77)
    assert event._simulate_keys._cache_size() == before


def test_thinning_gives_a_real_track_within_its_pattern():
    dense = photons_of(track_at(), 16, scale=SETTINGS.dense_factor, run=simulate_dense)
    thin = jax.jit(jax.vmap(partial(simulation.thinned, n_slots=90), in_axes=(0, 0, None)))
    counts = []
    for seed in range(40):
        few = jax.device_get(thin(jax.random.split(jax.random.key(seed), 16), dense, SETTINGS))
        counts.append(few.is_photon.sum(axis=1))
        assert few.n_dropped.sum() == 0
    for i in range(16):
        hits = {tuple(hit) for hit in few.hits[i][few.is_photon[i]].tolist()}
        assert hits <= {tuple(hit) for hit in dense.hits[i].tolist()}
    assert ((few.track == 0) == few.is_photon).all()
    counts = np.concatenate(counts)
    mean = dense.is_photon.sum() / 16 / SETTINGS.dense_factor
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / len(counts)))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / len(counts)))
    cut = jax.vmap(partial(simulation.thinned, n_slots=4), in_axes=(0, 0, None))(
        jax.random.split(jax.random.key(39), 16), dense, SETTINGS
    )
    np.testing.assert_array_equal(cut.n_dropped + 4, few.is_photon.sum(axis=1))


def test_float32_without_silent_promotion(strict):
    one = partial(simulation.simulate_event, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=Slots(40, 20))
    event = jax.eval_shape(one, jax.random.key(0), SETTINGS)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(event)}
    assert kinds == {jnp.dtype(kind) for kind in ("float32", "int32", "bool")}
    thin = jax.eval_shape(partial(simulation.thinned, n_slots=5), jax.random.key(0), event.photons, SETTINGS)
    assert thin.hits.shape == (5, 3)
    with jax.enable_x64(True):
        wide = jax.eval_shape(one, jax.random.key(0), SETTINGS)
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == kinds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width_mm", 0.0),
        ("height_mm", -1.0),
        ("thickness_mm", float("nan")),
        ("energy_knots_ev", (2.0, 1.0, 5.0, 6.2)),
        ("energy_knots_ev", (2.0, 3.5, 5.0, 11.0)),
        ("peak_efficiency", 1.5),
        ("collection", -0.1),
        ("dense_factor", 0.5),
        ("theta_z_rad", (0.95, 0.45)),
        ("theta_z_rad", (0.5, 0.5)),
        ("time_sigma_ns", -0.07),
        ("momentum_gev", (10.0, 2.0)),
        ("momentum_gev", (-1.0, 2.0)),
        ("particle_weights", (0.0, 0.0, 0.0)),
        ("particle_weights", (1.0, -1.0, 1.0)),
        ("n_tracks", (2, 1)),
        ("n_tracks", (1, 4)),
        ("window_jitter_ns", float("inf")),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*allowed"):
        batch(jax.random.key(0), SETTINGS._replace(**{name: value}), n_events=2)


@pytest.mark.parametrize(
    "change",
    [
        {"n_events": 0},
        {"first_event": -1},
        {"scale": -1.0},
        {"scale": float("nan")},
        {"bin_ns": 0.0},
        {"shape_xyt": (88, 0, 10)},
        {"max_tracks": 0},
        {"slots": Slots(0, 5)},
        {"slots": Slots(5, 0)},
    ],
)
def test_bad_arguments_are_named(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{'n_candidates|n_photons' if name == 'slots' else name}.*allowed"):
        batch(jax.random.key(0), SETTINGS, **{"n_events": 2, **change})


def test_bad_arguments_of_single_functions_are_named():
    with pytest.raises(ValueError, match="n is -1"):
        simulation.draw_tracks(jax.random.key(0), -1, SETTINGS)
    with pytest.raises(ValueError, match="scale is -1"):
        simulation.choose_slots(SETTINGS, scale=-1.0)
    shapes = jax.eval_shape(
        partial(simulation.simulate_track, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=Slots(9, 3), window_start_ns=0.0),
        jax.random.key(0),
        track_at(),
        SETTINGS,
    )
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    with pytest.raises(ValueError, match="n_slots is 0"):
        simulation.thinned(jax.random.key(0), empty, SETTINGS, n_slots=0)
    assert not simulation.thinned(jax.random.key(0), empty, SETTINGS, n_slots=2).is_photon.any()
