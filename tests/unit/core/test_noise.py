import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.config import Config, ConfigError, NoiseConfig, from_tree
from tofae_jax.core import noise as noise_module
from tofae_jax.core.noise import BACKGROUND, NOISE_PROFILES, NoiseSettings, add_noise
from tofae_jax.core.noise_limits import MAX_BURSTS, MAX_CLUSTERS, MAX_HOT_PIXELS

SHAPE = (88, 128, 1000)

SIGMAS = 5.0  # of the counting error, with fixed seeds: a true law fails once in a million


def noise(key, n=(5, 9), max_noise=16, shape=SHAPE, background=None, **settings):
    shares = dict.fromkeys(NOISE_PROFILES, 0.0) | {"uniform": 1.0}
    shares |= {name: settings.pop(name) for name in NOISE_PROFILES if name in settings}
    weights = tuple(shares[name] for name in NOISE_PROFILES)
    settings = NoiseSettings(weights=weights, **settings)
    return add_noise(key, background, n_noise=n, max_noise=max_noise, shape_xyt=shape, settings=settings)


@pytest.mark.slow
@pytest.mark.backlog("B59")
@given(
    st.integers(0, 16),
    st.integers(0, 16),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 50)),
    st.sampled_from([name for name in NOISE_PROFILES if name != BACKGROUND]),
)
def test_add_noise_hits_are_exact_in_number_and_inside(low, high, shape, profile):
    low, high = min(low, high), max(low, high)
    hits, n = noise(jax.random.key(low), (low, high), 16, shape, **{"uniform": 0.0, profile: 1.0})
    hits = np.asarray(hits)
    assert low <= int(n) <= high
    assert np.sum(hits[:, 2] > 0) == int(n)
    assert np.all(hits[: int(n)] >= [0, 0, 1])
    assert np.all(hits[: int(n)] < (shape[0], shape[1], shape[2] + 1))


def many(seed=0, n=40_000, **settings):
    hits, _ = noise(jax.random.key(seed), (n, n), n, **settings)
    return np.asarray(hits)


def assert_flat(values, n_cells):
    counts = np.bincount(values, minlength=n_cells)[:n_cells]
    expected = len(values) / n_cells
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert abs(chi2 - (n_cells - 1)) < SIGMAS * np.sqrt(2 * (n_cells - 1))


@pytest.mark.slow
def test_uniform_noise_is_flat_in_x_y_and_t():
    x, y, t = many().T
    assert_flat(x, 88)
    assert_flat(y, 128)
    assert_flat(t - 1, 1000)
    assert (t.min(), t.max()) == (1, 1000)


@pytest.mark.slow
def test_flatness_check_of_a_gradient_fails():
    with pytest.raises(AssertionError):
        assert_flat(many(uniform=0.0, gradient_x=1.0)[:, 0], 88)


@pytest.mark.slow
def test_hot_pixels_are_the_same_in_every_event():
    first, second = (many(seed, 2000, uniform=0.0, hot_pixels=1.0, n_hot_pixels=5) for seed in (0, 1))
    sites = [set(map(tuple, hits[:, :2].tolist())) for hits in (first, second)]
    assert sites[0] == sites[1]
    assert len(sites[0]) == 5
    other = many(0, 2000, uniform=0.0, hot_pixels=1.0, n_hot_pixels=5, hot_pixel_seed=1)
    assert set(map(tuple, other[:, :2].tolist())) != sites[0]
    assert_flat(many(0, uniform=0.0, hot_pixels=1.0)[:, 2] - 1, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "axis", "n_cells"), [("gradient_x", 0, 88), ("gradient_y", 1, 128)])
def test_gradients_rise_linearly(profile, axis, n_cells):
    values = many(uniform=0.0, **{profile: 1.0})[:, axis]
    expected = len(values) * (2 * np.arange(n_cells) + 1) / n_cells**2
    chi2 = np.sum((np.bincount(values, minlength=n_cells) - expected) ** 2 / expected)
    assert abs(chi2 - (n_cells - 1)) < SIGMAS * np.sqrt(2 * (n_cells - 1)) + 20  # the first cells hold few


def test_clusters_and_time_bursts_are_narrow():
    clusters = many(uniform=0.0, clusters=1.0, n_clusters=1, cluster_sigma_pixels=2.0, cluster_sigma_bins=10.0)
    assert np.all(clusters.std(axis=0) < [2.2, 2.2, 11])
    bursts = many(uniform=0.0, time_bursts=1.0, n_bursts=1, burst_sigma_bins=5.0)
    assert bursts[:, 2].std() < 5.5
    assert_flat(bursts[:, 0], 88)


def own_background(n, n_slots=30):
    """Hits unlike any other, in slots with gaps."""
    hits = np.zeros((n_slots, 3), np.int16)
    places = np.sort(np.random.default_rng(n).choice(n_slots, n, replace=False))
    hits[places] = np.arange(n)[:, None] + [0, 0, 1]
    return jnp.asarray(hits)


@pytest.mark.slow
@given(st.integers(0, 30), st.integers(0, 16), st.integers(0, 1000))
def test_add_noise_background_hits_are_used_at_most_once(n_background, n_noise, seed):
    hits, n = noise(
        jax.random.key(seed), (n_noise, n_noise), background=own_background(n_background), uniform=0.0, data=1.0
    )
    found = [tuple(hit) for hit in np.asarray(hits).tolist() if hit[2]]
    assert int(n) == len(found) == len(set(found)) == min(n_noise, n_background)
    assert set(found) <= {(i, i, i + 1) for i in range(n_background)}


@pytest.mark.slow
def test_add_noise_background_is_a_random_choice_by_weight():
    background = own_background(30)
    counts = np.zeros(30)
    n_others = 0
    for seed in range(300):
        hits, n = noise(jax.random.key(seed), (16, 16), background=background, uniform=1.0, data=3.0)
        own = np.asarray([hit for hit in np.asarray(hits) if hit[0] == hit[1] == hit[2] - 1])
        counts[own[:, 0]] += 1
        n_others += int(n) - len(own)
        assert int(n) == 16
    assert abs(counts.sum() - 300 * 12) < SIGMAS * np.sqrt(300 * 3)
    assert abs(n_others - 300 * 4) < SIGMAS * np.sqrt(300 * 3)
    assert np.all(np.abs(counts - counts.mean()) < SIGMAS * np.sqrt(counts.mean()))


@pytest.mark.slow
@pytest.mark.parametrize("background", [None, jnp.zeros((0, 3), jnp.int16), jnp.zeros((7, 3), jnp.int16)])
def test_add_noise_without_background_leaves_slots_empty(background):
    hits, n = noise(jax.random.key(1), (10, 10), background=background, uniform=0.0, data=1.0)
    assert (int(n), int(hits.sum())) == (0, 0)


def test_add_noise_other_profiles_ignore_the_background():
    alone, _ = noise(jax.random.key(5), (9, 9))
    beside, _ = noise(jax.random.key(5), (9, 9), background=own_background(12))
    np.testing.assert_array_equal(alone, beside)


def test_add_noise_mixture_has_its_weights():
    hits = many(uniform=1.0, hot_pixels=3.0, n_hot_pixels=1)
    _, counts = np.unique(hits[:, :2], axis=0, return_counts=True)
    assert abs(counts.max() - 30_000) < SIGMAS * np.sqrt(40_000 * 3 / 16) + 10


def toy_profile(draws, sites, shape_xyt, settings):
    del sites, shape_xyt, settings
    return jnp.zeros((draws.t.shape[0], 3), jnp.int32)


def weighted(seed, weights, n=300):
    hits, n_hits = add_noise(
        jax.random.key(seed),
        own_background(12),
        n_noise=(n, n),
        max_noise=n,
        shape_xyt=SHAPE,
        settings=NoiseSettings(weights),
    )
    return np.asarray(hits), int(n_hits)


MIXTURES = [(1.0,), (0.1, 0.2, 0.3), (0.0, 0.7, 0.0, 0.3, 0.1, 0.4), (0.3,) * 7, (0.0,) * 6 + (1.0,)]


@pytest.mark.slow
@pytest.mark.parametrize("weights", MIXTURES)
def test_add_noise_further_profile_of_weight_0_has_no_effect(monkeypatch, weights):
    before = [weighted(seed, weights) for seed in range(5)]
    for name in ("toy", "other_toy"):
        monkeypatch.setitem(NOISE_PROFILES, name, toy_profile)
    padded = weights + (0.0,) * (len(NOISE_PROFILES) - len(weights))
    for seed, (hits, n) in enumerate(before):
        for again in (weighted(seed, weights), weighted(seed, padded)):  # missing weights are 0
            np.testing.assert_array_equal(again[0], hits)
            assert again[1] == n
    toys, n = weighted(0, (*padded[:-2], 1e6, 0.0))  # the control: now it is nearly alone
    assert n == 300
    assert np.sum(np.all(toys == [0, 0, 1], axis=1)) > 290


@pytest.mark.slow
def test_add_noise_background_may_stand_anywhere(monkeypatch):
    others = [(name, place) for name, place in NOISE_PROFILES.items() if name != BACKGROUND]
    background = NOISE_PROFILES[BACKGROUND]
    monkeypatch.setattr(noise_module, "NOISE_PROFILES", dict([(BACKGROUND, background), *others]))
    hits, n = weighted(0, (1.0,))
    assert n == 12
    assert len(np.unique(hits[hits[:, 2] > 0], axis=0)) == 12
    hits, n = weighted(0, (0.0, 1.0))
    assert n == 300
    assert_flat(hits[:, 0], 88)


def test_add_noise_more_weights_than_profiles_are_refused():
    with pytest.raises(ValueError, match=r"at most one per noise profile \(7\), got 8"):
        weighted(0, (1.0,) * 8)


@pytest.mark.parametrize("weights", [(0.0,), (1.0, 0.0), (0.0,) * 6 + (1.0,)])
def test_choose_profiles_weight_0_is_never_chosen(weights):
    below_one = jnp.asarray([0.0, 0.5, 1 - 2**-24, 1.0], jnp.float32)  # 1: as if rounding had reached it
    chosen = np.asarray(noise_module._choose_profiles(below_one, weights))
    assert set(chosen.tolist()) == {int(np.argmax(weights))}


def test_noise_config_shares_name_the_profiles():
    assert set(NoiseConfig().shares) == set(NOISE_PROFILES)
    assert NoiseConfig(uniform=0.0, clusters=2.0).shares["clusters"] == 2
    with pytest.raises(ValueError, match="at least one of uniform, hot_pixels"):
        NoiseConfig(uniform=0.0)


@pytest.mark.parametrize(
    ("name", "most"), [("n_hot_pixels", MAX_HOT_PIXELS), ("n_clusters", MAX_CLUSTERS), ("n_bursts", MAX_BURSTS)]
)
def test_noise_config_numbers_end_at_the_capacities(name, most):
    tree = {"degradation": {"noise": {name: most}}}
    assert getattr(from_tree(tree, Config, "test").degradation.noise, name) == most
    with pytest.raises(ConfigError, match=f"{name} = {most + 1}"):
        from_tree({"degradation": {"noise": {name: most + 1}}}, Config, "test")
