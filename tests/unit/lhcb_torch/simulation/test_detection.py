"""Photons of a track: numbers, energies, times and acceptance, at stated sigmas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_tracks import BIN_NS, DENSE, KNOTS, N_EVENTS, REAL, SETTINGS, SHAPE, WIDE, drawn, malitson, track_at

from tofae_jax.lhcb_torch import simulation
from tofae_jax.lhcb_torch.simulation import Slots, tracks, transport

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


expected = jax.jit(jax.vmap(transport.expected_photons, (0, None)))


candidate_means = jax.jit(jax.vmap(transport.candidate_mean, (0, None)))


window_starts = jax.jit(
    jax.vmap(partial(simulation.draw_window_start, shape_xyt=SHAPE, bin_ns=BIN_NS), in_axes=(0, 0, None))
)


def photons_of(track, n, settings=SETTINGS, seed=0, scale=1.0, run=simulate_real, start=31.0, bin_ns=BIN_NS):
    """Photons of `n` equal tracks."""
    keys = jax.random.split(jax.random.key(seed), n)
    many = jax.tree.map(lambda v: jnp.broadcast_to(v, (n,)), track)
    starts = jnp.full(n, start, jnp.float32)
    return jax.device_get(run(keys, many, settings, starts, jnp.float32(bin_ns), jnp.float32(scale)))


def spectrum(speed, n=4001):
    """Energies, and photons per eV and mm times quantum efficiency, in double precision."""
    energy = np.linspace(KNOTS[0], KNOTS[3], n)
    index, group = malitson(1239.841984 / energy)
    sin2 = np.maximum(1 - 1 / (index * speed) ** 2, 0)
    return energy, 36.9809 * sin2 * np.interp(energy, KNOTS, (0, 0.25, 0.25, 0)), index, group


@pytest.mark.slow
def test_simulate_track_yield_is_that_of_frank_and_tamm():
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


@pytest.mark.slow
def test_simulate_track_counts_are_poisson():
    n = N_EVENTS
    for seed, track in enumerate([track_at(), track_at(100.0, -200.0, 0.2, -0.15, momentum=2.5, particle=2)]):
        photons = photons_of(track, n, seed=seed, bin_ns=1.0)
        counts = photons.is_photon.sum(axis=1) + photons.n_outside_window
        mean = float(expected(jax.tree.map(lambda v: jnp.broadcast_to(v, (1000,)), track), SETTINGS)[0])
        # the integral's grid is good to 1 %
        assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n) + 0.01 * mean)
        assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / n))
        assert photons.n_dropped.sum() == 0


@pytest.mark.slow
def test_simulate_track_times_disperse_with_the_energies():
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


def test_simulate_track_times_are_smeared_and_binned():
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


def test_simulate_track_mirrored_tracks_give_mirror_images():
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


def test_simulate_track_reflected_photons_come_later():
    photons = photons_of(track_at(), 16, scale=60.0, run=simulate_dense)
    ok = photons.is_photon
    direct, reflected = (photons.hits[ok & (photons.is_reflected == r)] for r in (False, True))
    assert len(direct) == pytest.approx(len(reflected), abs=4 * np.sqrt(len(direct) + len(reflected)))
    assert direct[:, 2].max() < reflected[:, 2].min()
    assert reflected[:, 2].mean() > 2.5 * direct[:, 2].mean()


@pytest.mark.parametrize("track", [{"momentum": 0.0}, {"momentum": 0.11}, {"momentum": 0.6, "particle": 2}])
def test_simulate_track_below_threshold_gives_no_photons(track):
    photons = photons_of(track_at(**track), 16, WIDE, scale=60.0, run=simulate_dense)
    assert not photons.hits.any()
    assert not photons.is_photon.any()
    assert (photons.track == -1).all()
    assert not (photons.n_outside_window.any() or photons.n_dropped.any())


def test_simulate_track_at_threshold_gives_blue_light_only():
    n = malitson(1239.841984 / 4.5)[0]
    speed = 1 / n
    momentum = 0.13957039 * speed / np.sqrt(1 - speed**2)
    photons = photons_of(track_at(slope_y=1.0, momentum=momentum), 16, scale=3000.0, run=simulate_dense)
    assert photons.is_photon.sum() > 50
    assert photons.energy_ev[photons.is_photon].min() > 4.5 - 1e-2


@pytest.mark.parametrize("place", [{"x": 400.0}, {"y": -700.0}, {"x": 331.0, "slope_x": 0.2}])
def test_simulate_track_outside_the_plate_gives_no_photons(place):
    photons = photons_of(track_at(**place), 16, scale=60.0, run=simulate_dense)
    assert not photons.is_photon.any()


def test_simulate_track_leaving_the_side_lights_inside_only():
    inside = photons_of(track_at(0.0, slope_x=0.5), 16, scale=60.0, run=simulate_dense)
    partly = photons_of(track_at(327.5, slope_x=0.5), 16, scale=60.0, run=simulate_dense)
    assert 0.3 < partly.is_photon.sum() / inside.is_photon.sum() < 0.7


@pytest.mark.slow
def test_simulate_track_scale_0_and_tiny_detector():
    assert not photons_of(track_at(), 16, scale=0.0, run=simulate_dense).is_photon.any()
    one = partial(simulation.simulate_track, shape_xyt=(1, 1, 1), bin_ns=100.0, slots=REAL, window_start_ns=31.0)
    photons = jax.jit(one)(jax.random.key(0), track_at(), SETTINGS)
    assert photons.is_photon.sum() > 10
    assert {tuple(hit) for hit in photons.hits.tolist()} == {(0, 0, 1), (0, 0, 0)}


@pytest.mark.slow
def test_simulate_track_missing_slots_are_counted():
    small = partial(simulation.simulate_track, shape_xyt=SHAPE, bin_ns=BIN_NS, window_start_ns=31.0)
    for slots, least in ((Slots(150, 5), 10), (Slots(10, 90), 40)):
        photons = jax.jit(partial(small, slots=slots))(jax.random.key(0), track_at(), SETTINGS)
        assert photons.hits.shape == (slots.n_photons, 3)
        assert photons.n_dropped >= least
        assert photons.is_photon.sum() <= min(slots)


@pytest.mark.slow
def test_expected_photons_and_acceptance_are_those_stated():
    settings = SETTINGS._replace(momentum_gev=(6.0, 6.0))
    many = drawn(3, 1000, settings)
    assert float(expected(many, settings).mean()) == pytest.approx(30, rel=0.02)
    fast = many._replace(momentum_gev=jnp.full(1000, 10.0), particle=jnp.zeros(1000, jnp.int32))
    for some, acceptance in ((fast, 0.42), (track_at(n=1000), 0.52)):
        share = expected(some, SETTINGS).sum() / candidate_means(some, SETTINGS).sum()
        assert float(share) == pytest.approx(acceptance, abs=0.01)


@pytest.mark.slow
def test_draw_window_start_window_holds_the_primary():
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


@pytest.mark.slow
def test_choose_slots_are_enough_for_the_settings():
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
