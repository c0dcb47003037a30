"""What a track makes likely, in closed form, and the fits that rest on it, against the simulation that it inverts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.core.sincos import polynomial
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.lhcb_torch.optics import group_index, refractive_index
from tofae_jax.lhcb_torch.reconstruction import likelihood, mixture, posterior, track_search
from tofae_jax.lhcb_torch.reconstruction.likelihood import Grid
from tofae_jax.lhcb_torch.simulation import choose_slots, simulate_batch
from tofae_jax.lhcb_torch.simulation.tracks import track_speed
from tofae_jax.lhcb_torch.simulation.transport import expected_photons

SETTINGS = ModuleSettings()
GRID = Grid((88, 128, 1000), 0.025)
CELL = likelihood.cell_size(GRID, SETTINGS)
VOLUME = CELL * 88 * 128 * 1000
SIGMA_NS = 0.08
N_SIGNAL, N_NOISE = 30, 200


@pytest.fixture(scope="module")
def simulated():
    """Tracks, each with 30 of its photons among 200 noise hits: `(tracks [n, 6], hits [n, 230, 3], SimulatedEvent)`."""
    slots = choose_slots(SETTINGS, scale=5.0)
    events = simulate_batch(
        jax.random.key(3), SETTINGS, n_events=48, shape_xyt=GRID.shape_xyt, bin_ns=GRID.bin_ns, slots=slots, scale=5.0
    )
    photons = np.asarray(events.photons.hits)
    enough = np.flatnonzero((photons[..., 2] > 0).sum(axis=1) >= 60)[:40]
    rng = np.random.default_rng(0)
    noise = rng.integers((0, 0, 1), (88, 128, 1001), (40, N_NOISE, 3))
    signal = np.stack([rng.permutation(p[p[:, 2] > 0])[:N_SIGNAL] for p in photons[enough]])
    hits = np.concatenate([signal, noise], axis=1).astype(np.int32)
    first = jax.tree.map(lambda column: column[enough, 0], events.tracks)
    columns = (first.x_mm, first.y_mm, first.slope_x, first.slope_y, first.arrival_ns - events.window_start_ns[enough])
    return jnp.stack([*columns, track_speed(first)], axis=-1), jnp.asarray(hits), first


def densities(track, hits):
    return likelihood.over_noise(track, hits, GRID, SETTINGS, time_sigma_ns=SIGMA_NS, delays_ns=jnp.zeros(1))[0]


@jax.jit
def explained(tracks, hits):
    def one(track, hits):
        return mixture.explain(densities(track, hits)[None, None], hits[:, 2] > 0, jnp.ones(1, bool))

    return jax.vmap(one)(tracks, hits)


def f1_of(kept):
    true, false = kept[:, :N_SIGNAL].sum(), kept[:, N_SIGNAL:].sum()
    return 2 * true / (true + false + kept.shape[0] * N_SIGNAL)


def test_spectrum_of_fits_equal_the_optics():
    fits, knots = likelihood.spectrum_of(SETTINGS)
    energy = jnp.linspace(knots[0], knots[-1], 77)
    index = refractive_index(energy)
    scaled = likelihood._scaled(index, fits)
    np.testing.assert_allclose(polynomial(fits.energy, scaled), energy, atol=0.01)
    np.testing.assert_allclose(polynomial(fits.group_index, scaled), group_index(energy), atol=1e-3)
    slope = np.gradient(np.asarray(energy, float), np.asarray(index, float))[3:-3]
    np.testing.assert_allclose(polynomial(fits.energy_per_index, scaled)[3:-3], slope, rtol=0.03)


def test_explain_known_track_is_told_from_noise(simulated):
    tracks, hits, _ = simulated
    kept = np.asarray(explained(tracks, hits).log_odds) > 0
    assert f1_of(kept) > 0.9
    wrong = jnp.roll(tracks, 1, axis=0)  # the negative control: another event's track
    assert f1_of(np.asarray(explained(wrong, hits).log_odds) > 0) < 0.3


def test_explain_log_odds_are_calibrated(simulated):
    tracks, hits, _ = simulated
    chance = np.asarray(jax.nn.sigmoid(explained(tracks, hits).log_odds))
    is_signal = np.arange(hits.shape[1]) < N_SIGNAL
    for low, high in ((0.0, 0.2), (0.2, 0.6), (0.6, 0.9), (0.9, 1.0)):
        chosen = (chance >= low) & (chance <= high)
        sigma = 0.5 / np.sqrt(chosen.sum())
        share = np.broadcast_to(is_signal, chance.shape)[chosen].mean()
        assert abs(share - chance[chosen].mean()) < 4 * sigma + 0.02


@pytest.mark.slow
def test_light_density_integrates_to_the_photon_number(simulated):
    """Over random places in the window, for tracks whose light needs no fourth fold."""
    tracks, _, first = simulated
    rng = np.random.default_rng(1)
    n = 200_000
    cells = jnp.asarray(rng.integers((0, 0, 1), (88, 128, 1001), (n, 3)), jnp.int32)
    means = jax.jit(
        jax.vmap(
            lambda track: jnp.mean(
                likelihood.light_density(
                    track, likelihood.places_of(cells, GRID, SETTINGS), SETTINGS, time_sigma_ns=0.3
                )
            )
        )
    )(tracks[:12])
    expected = jax.vmap(lambda track: expected_photons(track, SETTINGS))(first)[:12]
    ratio = np.asarray(means * VOLUME / expected)
    assert 0.9 < np.median(ratio) < 1.1
    assert np.all((ratio > 0.5) & (ratio < 1.5))


@pytest.mark.slow
def test_explain_two_tracks_share_an_event(simulated):
    """Each hit is given to its own track, though nobody says how many hits each has."""
    tracks, hits, _ = simulated
    pairs = jnp.stack([tracks[:20], tracks[20:40]], axis=1)
    both = jnp.concatenate([hits[:20], hits[20:40, :N_SIGNAL]], axis=1)

    def one(pair, hits):
        light = jnp.stack([densities(pair[0], hits), densities(pair[1], hits)])[:, None]
        return mixture.explain(light, hits[:, 2] > 0, jnp.ones(2, bool))

    found = jax.jit(jax.vmap(one))(pairs, both)
    owner = np.asarray(found.of_track.argmax(axis=1))
    kept = np.asarray(found.log_odds) > 0
    first, second = kept[:, :N_SIGNAL], kept[:, -N_SIGNAL:]
    assert np.mean(owner[:, :N_SIGNAL][first] == 0) > 0.9
    assert np.mean(owner[:, -N_SIGNAL:][second] == 1) > 0.9


@pytest.mark.slow
def test_explain_nothing_and_noise_are_finite(simulated):
    tracks, hits, _ = simulated
    empty = explained(tracks[:1], jnp.zeros((1, 7, 3), jnp.int32))
    assert np.all(np.asarray(empty.log_odds) == 0)
    assert float(empty.log_likelihood[0]) == 0
    noise = explained(tracks, hits.at[:, :N_SIGNAL].set(0))
    assert np.all(np.isfinite(noise.log_odds))
    assert np.mean(np.asarray(noise.log_odds)[:, N_SIGNAL:] > 0) < 0.02


@pytest.mark.slow
def test_over_noise_gradients_are_finite(simulated):
    tracks, hits, _ = simulated

    def total(track):
        return jnp.sum(jnp.log1p(densities(track, hits[0])))

    extreme = tracks[0].at[1].set(625.0).at[5].set(0.9)  # at the top edge, slow
    for track in (tracks[0], extreme):
        assert np.all(np.isfinite(jax.grad(total)(track)))


@pytest.mark.slow
def test_search_finds_a_track_from_rough_guesses(simulated):
    tracks, hits, _ = simulated
    rng = np.random.default_rng(2)
    off = jnp.asarray(rng.normal(size=(12, 24, 6)), jnp.float32) * jnp.array([25, 25, 0.012, 0.012, 0.25, 0.006])
    guesses = tracks[:12, None] + off

    @jax.jit
    @jax.vmap
    def found(guesses, hits):
        places = likelihood.places_of(hits, GRID, SETTINGS)
        noise = jnp.float32(len(hits) / VOLUME)
        return track_search.search(guesses, places, SETTINGS, noise=noise, n_coarse=12, n_fine=4)

    best = found(guesses, hits[:12])
    assert best.tracks.shape == (12, 4, 6)
    assert np.all(np.diff(best.log_likelihood, axis=1) <= 0)
    explaining = np.asarray(best.log_likelihood).argmax(axis=1)
    chosen = best.tracks[np.arange(12), explaining]
    at_first = f1_of(np.asarray(explained(guesses[:, 0], hits[:12]).log_odds) > 0)
    after = f1_of(np.asarray(explained(chosen, hits[:12]).log_odds) > 0)
    assert after > 0.8 > at_first + 0.1
    assert np.all(np.isfinite(best.tracks))
    lost = found(jnp.full((1, 24, 6), 1e4), hits[:1] * 0)  # no hits, guesses from nowhere
    assert np.all(np.isfinite(lost.tracks))
    assert np.all(np.asarray(lost.log_likelihood) == 0)


@jax.jit
@jax.vmap
def over_tracks(fits, hits):
    noise = jnp.float32(len(hits) / VOLUME)
    return posterior.log_odds(fits, hits, GRID, SETTINGS, noise=noise, time_sigma_ns=SIGMA_NS)


@pytest.mark.slow
def test_log_odds_over_tracks_are_better_than_one_fit(simulated):
    tracks, hits, _ = simulated
    rng = np.random.default_rng(4)
    off = jnp.asarray(rng.normal(size=(len(tracks), 4, 6)), jnp.float32) * jnp.array([4, 4, 2e-3, 2e-3, 0.04, 1e-3])
    fits = tracks[:, None] + off
    first = f1_of(np.asarray(explained(fits[:, 0], hits).log_odds) > 0)
    log_odds = np.asarray(over_tracks(fits, hits))
    assert f1_of(log_odds > 0) > first + 0.02
    assert f1_of(log_odds > 0) > 0.92 * f1_of(np.asarray(explained(tracks, hits).log_odds) > 0)
    # as many hits are signal as the scores say, and they are surer of noise than of signal
    is_signal = np.arange(hits.shape[1]) < N_SIGNAL
    chance = 1 / (1 + np.exp(-log_odds))
    assert chance[:, is_signal].mean() > 0.7 > 0.2 > chance[:, ~is_signal].mean()
    assert abs(chance.sum(axis=1).mean() - N_SIGNAL) < 6
    order = rng.permutation(4)
    np.testing.assert_allclose(over_tracks(fits[:2, order], hits[:2]), log_odds[:2], atol=0.02)


def test_over_noise_likely_paths_hold_all_light(simulated):
    tracks, hits, _ = simulated
    every = likelihood.all_paths()

    @jax.jit
    @jax.vmap
    def both(track, hits):
        places = likelihood.places_of(hits, GRID, SETTINGS)
        ratios = track_search.log_ratios(
            track, places, every, track_search.FINE[0], jnp.float32(len(hits) / VOLUME), SETTINGS
        )
        taken = jax.lax.top_k(ratios, posterior.PATHS)[1]
        own = jax.tree.map(lambda values: values[taken], every)
        more = {"time_sigma_ns": SIGMA_NS, "delays_ns": jnp.zeros(1)}
        some = likelihood.over_noise(track, hits, GRID, SETTINGS, **more, paths=own)[0]
        return some, likelihood.over_noise(track, hits, GRID, SETTINGS, **more)[0]

    some, light = both(tracks, hits)
    assert np.all(some <= light * 1.001 + 1e-3)
    np.testing.assert_allclose(np.log(some + 0.1), np.log(light + 0.1), atol=0.05)


@pytest.mark.slow
def test_log_odds_event_of_nothing_is_finite(simulated):
    tracks, hits, _ = simulated
    nothing = np.asarray(over_tracks(jnp.repeat(tracks[:1, None], 4, 1), hits[:1] * 0))
    assert np.all(np.isfinite(nothing))
    nowhere = np.asarray(over_tracks(jnp.full((1, 4, 6), 1e4), hits[:1]))
    assert np.all(np.isfinite(nowhere))
