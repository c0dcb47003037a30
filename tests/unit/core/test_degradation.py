import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hit_lists

from tofae_jax.config import Config, ConfigError, from_tree
from tofae_jax.core import degradation as d
from tofae_jax.core.noise import NOISE_PROFILES, NoiseSettings
from tofae_jax.engine.build import degradation_settings

SHAPE = (88, 128, 1000)

SIGMAS = 5.0  # of the counting error, with fixed seeds: a true law fails once in a million


def pattern(n, slots=64, seed=0):
    """`n` different hits in random slots."""
    rng = np.random.default_rng(seed)
    hits = np.zeros((slots, 3), np.int32)
    cells = rng.choice(40 * 40, n, replace=False)
    rows = rng.choice(slots, n, replace=False)
    hits[rows] = np.stack([cells % 40, cells // 40, rng.integers(1, 1001, n)], axis=-1)
    return jnp.asarray(hits)


def rows(hits):
    hits = np.asarray(hits)
    return {tuple(hit) for hit in hits[hits[:, 2] > 0]}


def sparsify(key, hits, n, max_signal=64, selection="random"):
    return d.sparsify(key, hits, n_signal=n, max_signal=max_signal, selection=selection)


@pytest.mark.slow
@given(
    st.integers(0, 64), st.integers(0, 70), st.integers(0, 70), st.integers(1, 80), st.sampled_from(["random", "even"])
)
def test_sparsify_any_range_keeps_a_subset_of_its_size(n, low, high, max_signal, selection):
    low, high = min(low, high), max(low, high)
    hits = pattern(n)
    kept, n_kept = sparsify(jax.random.key(n), hits, (low, high), max_signal, selection)
    assert kept.shape == (max_signal, 3)
    assert len(rows(kept)) == int(n_kept) == int(np.sum(np.asarray(kept)[:, 2] > 0))  # no hit twice
    assert rows(kept) <= rows(hits)
    assert min(n, low, max_signal) <= int(n_kept) <= min(n, high, max_signal)


def test_sparsify_random_keeps_each_hit_equally_often():
    hits = pattern(40)
    keys = jax.random.split(jax.random.key(1), 4000)
    kept, _ = jax.vmap(lambda key: sparsify(key, hits, (10, 10), 10))(keys)
    x, y, _ = np.asarray(kept).reshape(-1, 3).T
    counts = np.bincount(x + 40 * y, minlength=1600)
    share = 10 / 40
    spread = np.sqrt(4000 * share * (1 - share))
    filled = np.asarray(hits)[np.asarray(hits)[:, 2] > 0]
    assert np.all(np.abs(counts[filled[:, 0] + 40 * filled[:, 1]] - 4000 * share) < SIGMAS * spread)


def test_sparsify_range_counts_are_uniform_with_both_ends():
    keys = jax.random.split(jax.random.key(2), 3000)
    _, n_kept = jax.vmap(lambda key: sparsify(key, pattern(64), (10, 12), 20))(keys)
    counts = np.bincount(n_kept, minlength=13)[10:]
    assert counts.sum() == 3000
    assert np.all(np.abs(counts - 1000) < SIGMAS * np.sqrt(3000 * 2 / 9))


@pytest.mark.slow
def test_sparsify_even_spaces_hits_along_the_list():
    hits = jnp.stack([jnp.arange(12), jnp.zeros(12, int), jnp.ones(12, int)], axis=-1)
    kept, _ = sparsify(jax.random.key(0), hits, (4, 4), 4, "even")
    np.testing.assert_array_equal(kept[:, 0], [1, 4, 7, 10])


@given(hit_lists(shape_xyt=SHAPE, slots=10), st.sampled_from(["drop", "clamp"]), st.floats(0, 50))
def test_smear_any_width_keeps_hits_inside(hits, overflow, sigma):
    moved = np.asarray(smear(jax.random.key(0), hits, sigma, overflow))
    filled = moved[:, 2] > 0
    assert np.all(moved[filled] >= [0, 0, 1])
    assert np.all(moved[filled] <= [87, 127, 1000])
    assert not np.any(moved[~filled])
    before = hits[:, 2] > 0
    assert np.all(before >= filled)
    if overflow == "clamp":
        np.testing.assert_array_equal(before, filled)
    if sigma == 0:
        np.testing.assert_array_equal(moved, hits)


def smear(key, hits, sigma, overflow="drop"):
    return d.smear(
        key,
        jnp.asarray(hits),
        shape_xyt=SHAPE,
        sigma_x_pixels=sigma,
        sigma_y_pixels=sigma,
        sigma_t_bins=sigma,
        overflow=overflow,
    )


@pytest.mark.backlog("B48")
def test_smear_overflow_drops_or_clamps():
    edge = jnp.tile(jnp.array([[87, 127, 1000]]), (4000, 1))
    dropped = np.asarray(smear(jax.random.key(3), edge, 20.0, "drop"))
    clamped = np.asarray(smear(jax.random.key(3), edge, 20.0, "clamp"))
    n = np.sum(dropped[:, 2] > 0)
    assert abs(n - 4000 / 8) < 0.1 * 4000  # about one in eight stays inside in all three coordinates
    assert np.sum(clamped[:, 2] > 0) == 4000
    assert np.sum(np.all(clamped == [87, 127, 1000], axis=1)) > 400
    with pytest.raises(ValueError, match="overflow must be one of"):
        smear(jax.random.key(3), edge, 1.0, "wrap")


@pytest.mark.parametrize("overflow", d.OVERFLOWS)
def test_smear_absurd_width_does_not_wrap_around(overflow):
    hits = jnp.tile(jnp.array([[44, 64, 500]]), (1000, 1))
    moved = np.asarray(smear(jax.random.key(0), hits, 1e12, overflow))
    if overflow == "drop":
        assert not np.any(moved)
    else:
        assert set(moved[:, 0].tolist()) == {0, 87}


def test_smear_spread_equals_its_width():
    hits = jnp.tile(jnp.array([[44, 64, 500]]), (20000, 1))
    moved = np.asarray(
        d.smear(jax.random.key(4), hits, shape_xyt=SHAPE, sigma_x_pixels=2.0, sigma_y_pixels=5.0, sigma_t_bins=30.0)
    )
    expected = np.sqrt(np.array([2.0, 5.0, 30.0]) ** 2 + 1 / 12)  # rounding adds the variance of a cell
    assert np.all(np.abs(moved.std(axis=0) / expected - 1) < SIGMAS / np.sqrt(2 * 20000))
    assert np.all(np.abs(moved.mean(axis=0) - [44, 64, 500]) < SIGMAS * expected / np.sqrt(20000))


def degrade(key, hits, settings, max_signal=40, max_noise=220, **options):
    return d.degrade(key, hits, settings, shape_xyt=SHAPE, max_signal=max_signal, max_noise=max_noise, **options)


@pytest.mark.slow
def test_degrade_width_range_is_drawn_per_event():
    hits = pattern(40)
    hits = jnp.where(hits[:, 2:] > 0, hits.at[:, 2].set(500), 0)

    def times(sigma_t_bins):
        settings = d.DegradationSettings(n_signal=(40, 40), n_noise=(0, 0), sigma_t_bins=sigma_t_bins)
        keys = jax.random.split(jax.random.key(0), 300)
        return jax.vmap(lambda key: degrade(key, hits, settings).smeared)(keys)[:, :, 2]

    widths = times((0.0, 60.0)).std(axis=1)
    assert widths.min() < 6
    assert widths.max() > 50
    assert abs(widths.mean() - 30) < 4
    np.testing.assert_array_equal(times((20.0, 20.0)), times(20.0))
    for pair in ([0.0, 60.0], jnp.array([0.0, 60.0])):
        np.testing.assert_array_equal(times(pair), times((0.0, 60.0)))
    np.testing.assert_array_equal(jax.jit(times)(jnp.array([0.0, 60.0])), times((0.0, 60.0)))
    assert times(20.0).std(axis=1).max() < 40


@pytest.mark.parametrize("width", [[0.2, 0.1], [-1, 1], -0.5, float("nan")])
def test_degradation_config_impossible_width_is_refused(width):
    with pytest.raises(ConfigError, match="smear_t_ns must be a number from 0"):
        from_tree({"degradation": {"smear_t_ns": width}}, Config, "test")


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf"), (3.0, 0.0), (-3.0, 0.0)])
def test_degrade_impossible_width_is_refused(width):
    with pytest.raises(ValueError, match="sigma_t_bins must be a finite number from 0, or a range"):
        d.DegradationSettings(n_signal=(4, 4), n_noise=(0, 0), sigma_t_bins=width)


def test_degradation_settings_widths_are_in_pixels_and_bins():
    config = from_tree({"degradation": {"smear_t_ns": [0, 0.15], "smear_x_mm": 7.5}}, Config, "test")
    settings = degradation_settings(config.degradation, config.detector)
    np.testing.assert_allclose(settings.sigma_t_bins, [0, 6])
    np.testing.assert_allclose(settings.sigma_x_pixels, 1)


@pytest.mark.slow
@pytest.mark.backlog("B43")
def test_degrade_counts_are_those_of_the_event():
    hits = pattern(20)  # fewer than asked for
    settings = d.DegradationSettings(n_signal=(30, 30), n_noise=(200, 210), sigma_t_bins=400.0)
    out = degrade(jax.random.key(0), hits, settings)
    filled = np.asarray(out.hits)[:, 2] > 0
    assert (int(out.n_pattern), int(out.n_kept)) == (20, 20)
    assert int(out.n_signal) == np.sum(np.asarray(out.is_signal)) < 20  # some were smeared out of the window
    assert int(out.n_noise) == np.sum(filled & ~np.asarray(out.is_signal))
    assert np.sum(filled) == int(out.n_signal) + int(out.n_noise)


@pytest.mark.slow
def test_degrade_other_numbers_do_not_recompile():
    traces = []

    @jax.jit
    def step(key, hits, settings):
        traces.append(1)
        return degrade(key, hits, settings).hits

    key, hits = jax.random.key(0), pattern(30)
    for n in (1, 5, 40):
        weights = jnp.arange(float(len(NOISE_PROFILES))) + n
        noise_settings = NoiseSettings(weights, n, n, n, float(n), float(n), n, float(n))
        step(key, hits, d.DegradationSettings((n, n + 1), float(n), float(n), float(n), (n, 2 * n), noise_settings))
    assert len(traces) == 1


@pytest.mark.slow
def test_degrade_event_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(0), 8)
    hits = jnp.stack([pattern(30, seed=i) for i in range(8)])
    settings = d.DegradationSettings()
    batch = jax.vmap(degrade, in_axes=(0, 0, None))(keys, hits, settings)
    alone = degrade(keys[5], hits[5], settings)
    np.testing.assert_array_equal(batch.hits[5], alone.hits)
    part = jax.vmap(degrade, in_axes=(0, 0, None))(keys[4:6], hits[4:6], settings)
    np.testing.assert_array_equal(batch.hits[4:6], part.hits)
    assert not np.array_equal(batch.hits[0], batch.hits[1])


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 64])
def test_degrade_empty_single_and_full_events_keep_hits(n):
    settings = d.DegradationSettings(n_signal=(0, 0) if n == 0 else (64, 64), n_noise=(0, 0))
    out = degrade(jax.random.key(0), pattern(n), settings, max_signal=64)
    assert rows(out.hits) == rows(pattern(n))


@pytest.mark.slow
def test_degrade_without_room_returns_no_slots():
    out = degrade(jax.random.key(0), pattern(10), d.DegradationSettings(), max_signal=0, max_noise=0)
    assert out.hits.shape == (0, 3)


def test_sparsify_unknown_selection_is_refused():
    with pytest.raises(ValueError, match="selection must be one of"):
        sparsify(jax.random.key(0), pattern(3), (1, 1), selection="best")
