import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import hit_lists

from tofae_jax.config import Config, ConfigError, NoiseConfig, from_tree
from tofae_jax.core import degradation as d
from tofae_jax.core import noise as noise_module
from tofae_jax.engine.build import step_settings

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


@given(
    st.integers(0, 64), st.integers(0, 70), st.integers(0, 70), st.integers(1, 80), st.sampled_from(["random", "even"])
)
def test_sparsify_keeps_a_subset_of_the_right_size(n, low, high, max_signal, selection):
    low, high = min(low, high), max(low, high)
    hits = pattern(n)
    kept, n_kept = sparsify(jax.random.key(n), hits, (low, high), max_signal, selection)
    assert kept.shape == (max_signal, 3)
    assert len(rows(kept)) == int(n_kept) == int(np.sum(np.asarray(kept)[:, 2] > 0))  # no hit twice
    assert rows(kept) <= rows(hits)
    assert min(n, low, max_signal) <= int(n_kept) <= min(n, high, max_signal)


def test_each_hit_is_kept_equally_often():
    hits = pattern(40)
    keys = jax.random.split(jax.random.key(1), 4000)
    kept, _ = jax.vmap(lambda key: sparsify(key, hits, (10, 10), 10))(keys)
    x, y, _ = np.asarray(kept).reshape(-1, 3).T
    counts = np.bincount(x + 40 * y, minlength=1600)
    share = 10 / 40
    spread = np.sqrt(4000 * share * (1 - share))
    filled = np.asarray(hits)[np.asarray(hits)[:, 2] > 0]
    assert np.all(np.abs(counts[filled[:, 0] + 40 * filled[:, 1]] - 4000 * share) < SIGMAS * spread)


def test_counts_of_a_range_are_drawn_uniformly_with_both_ends():
    keys = jax.random.split(jax.random.key(2), 3000)
    _, n_kept = jax.vmap(lambda key: sparsify(key, pattern(64), (10, 12), 20))(keys)
    counts = np.bincount(n_kept, minlength=13)[10:]
    assert counts.sum() == 3000
    assert np.all(np.abs(counts - 1000) < SIGMAS * np.sqrt(3000 * 2 / 9))


def test_even_selection_spaces_hits_along_the_list():
    hits = jnp.stack([jnp.arange(12), jnp.zeros(12, int), jnp.ones(12, int)], axis=-1)
    kept, _ = sparsify(jax.random.key(0), hits, (4, 4), 4, "even")
    np.testing.assert_array_equal(kept[:, 0], [1, 4, 7, 10])


@given(hit_lists(shape_xyt=SHAPE, slots=10), st.sampled_from(["drop", "clamp"]), st.floats(0, 50))
def test_smeared_hits_stay_inside_and_none_appears(hits, overflow, sigma):
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
def test_overflow_is_a_choice():
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
def test_absurd_widths_do_not_wrap_around(overflow):
    hits = jnp.tile(jnp.array([[44, 64, 500]]), (1000, 1))
    moved = np.asarray(smear(jax.random.key(0), hits, 1e12, overflow))
    if overflow == "drop":
        assert not np.any(moved)
    else:
        assert set(moved[:, 0].tolist()) == {0, 87}


def test_smearing_has_the_width_it_was_given():
    hits = jnp.tile(jnp.array([[44, 64, 500]]), (20000, 1))
    moved = np.asarray(
        d.smear(jax.random.key(4), hits, shape_xyt=SHAPE, sigma_x_pixels=2.0, sigma_y_pixels=5.0, sigma_t_bins=30.0)
    )
    expected = np.sqrt(np.array([2.0, 5.0, 30.0]) ** 2 + 1 / 12)  # rounding adds the variance of a cell
    assert np.all(np.abs(moved.std(axis=0) / expected - 1) < SIGMAS / np.sqrt(2 * 20000))
    assert np.all(np.abs(moved.mean(axis=0) - [44, 64, 500]) < SIGMAS * expected / np.sqrt(20000))


def noise(key, n=(5, 9), max_noise=16, shape=SHAPE, background=None, **settings):
    shares = dict.fromkeys(noise_module.NOISE_PROFILES, 0.0) | {"uniform": 1.0}
    shares |= {name: settings.pop(name) for name in noise_module.NOISE_PROFILES if name in settings}
    weights = tuple(shares[name] for name in noise_module.NOISE_PROFILES)
    settings = noise_module.NoiseSettings(weights=weights, **settings)
    return noise_module.add_noise(key, background, n_noise=n, max_noise=max_noise, shape_xyt=shape, settings=settings)


@pytest.mark.backlog("B59")
@given(
    st.integers(0, 16),
    st.integers(0, 16),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 50)),
    st.sampled_from(noise_module.NOISE_PROFILES[:-1]),
)
def test_noise_is_exact_in_number_and_inside_the_cube(low, high, shape, profile):
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


def test_uniform_noise_reaches_every_cell_equally():
    x, y, t = many().T
    assert_flat(x, 88)
    assert_flat(y, 128)
    assert_flat(t - 1, 1000)
    assert (t.min(), t.max()) == (1, 1000)


def test_the_flatness_check_can_fail():
    with pytest.raises(AssertionError):
        assert_flat(many(uniform=0.0, gradient_x=1.0)[:, 0], 88)


def test_hot_pixels_are_the_same_in_every_event():
    first, second = (many(seed, 2000, uniform=0.0, hot_pixels=1.0, n_hot_pixels=5) for seed in (0, 1))
    sites = [set(map(tuple, hits[:, :2].tolist())) for hits in (first, second)]
    assert sites[0] == sites[1]
    assert len(sites[0]) == 5
    other = many(0, 2000, uniform=0.0, hot_pixels=1.0, n_hot_pixels=5, hot_pixel_seed=1)
    assert set(map(tuple, other[:, :2].tolist())) != sites[0]
    assert_flat(many(0, uniform=0.0, hot_pixels=1.0)[:, 2] - 1, 1000)


@pytest.mark.parametrize(("profile", "axis", "n_cells"), [("gradient_x", 0, 88), ("gradient_y", 1, 128)])
def test_gradients_rise_linearly(profile, axis, n_cells):
    values = many(uniform=0.0, **{profile: 1.0})[:, axis]
    expected = len(values) * (2 * np.arange(n_cells) + 1) / n_cells**2
    chi2 = np.sum((np.bincount(values, minlength=n_cells) - expected) ** 2 / expected)
    assert abs(chi2 - (n_cells - 1)) < SIGMAS * np.sqrt(2 * (n_cells - 1)) + 20  # the first cells hold few


def test_clusters_and_bursts_are_narrow():
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


@given(st.integers(0, 30), st.integers(0, 16), st.integers(0, 1000))
def test_noise_of_the_data_uses_each_of_its_hits_at_most_once(n_background, n_noise, seed):
    hits, n = noise(
        jax.random.key(seed), (n_noise, n_noise), background=own_background(n_background), uniform=0.0, data=1.0
    )
    found = [tuple(hit) for hit in np.asarray(hits).tolist() if hit[2]]
    assert int(n) == len(found) == len(set(found)) == min(n_noise, n_background)
    assert set(found) <= {(i, i, i + 1) for i in range(n_background)}


def test_noise_of_the_data_is_a_random_choice_of_its_share():
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


@pytest.mark.parametrize("background", [None, jnp.zeros((0, 3), jnp.int16), jnp.zeros((7, 3), jnp.int16)])
def test_without_background_there_is_no_noise_of_it(background):
    hits, n = noise(jax.random.key(1), (10, 10), background=background, uniform=0.0, data=1.0)
    assert (int(n), int(hits.sum())) == (0, 0)


def test_the_other_profiles_do_not_depend_on_the_background():
    alone, _ = noise(jax.random.key(5), (9, 9))
    beside, _ = noise(jax.random.key(5), (9, 9), background=own_background(12))
    np.testing.assert_array_equal(alone, beside)


def test_mixtures_have_their_shares():
    hits = many(uniform=1.0, hot_pixels=3.0, n_hot_pixels=1)
    _, counts = np.unique(hits[:, :2], axis=0, return_counts=True)
    assert abs(counts.max() - 30_000) < SIGMAS * np.sqrt(40_000 * 3 / 16) + 10


def degrade(key, hits, settings, max_signal=40, max_noise=220, **options):
    return d.degrade(key, hits, settings, shape_xyt=SHAPE, max_signal=max_signal, max_noise=max_noise, **options)


def test_of_a_range_of_widths_each_event_has_its_own():
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
def test_a_width_that_cannot_be_is_refused(width):
    with pytest.raises(ConfigError, match="smear_t_ns must be a number from 0"):
        from_tree({"degradation": {"smear_t_ns": width}}, Config, "test")


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf"), (3.0, 0.0), (-3.0, 0.0)])
def test_a_width_in_bins_that_cannot_be_is_refused(width):
    settings = d.DegradationSettings(n_signal=(4, 4), n_noise=(0, 0), sigma_t_bins=width)
    with pytest.raises(ValueError, match="sigma_t_bins must be a finite number from 0, or a range"):
        degrade(jax.random.key(0), pattern(8), settings)


def test_widths_are_brought_to_pixels_and_bins():
    config = from_tree({"degradation": {"smear_t_ns": [0, 0.15], "smear_x_mm": 7.5}}, Config, "test")
    settings = step_settings(config).degradation
    np.testing.assert_allclose(settings.sigma_t_bins, [0, 6])
    np.testing.assert_allclose(settings.sigma_x_pixels, 1)


@pytest.mark.backlog("B43")
def test_the_true_counts_come_from_the_event():
    hits = pattern(20)  # fewer than asked for
    settings = d.DegradationSettings(n_signal=(30, 30), n_noise=(200, 210), sigma_t_bins=400.0)
    out = degrade(jax.random.key(0), hits, settings)
    filled = np.asarray(out.hits)[:, 2] > 0
    assert (int(out.n_pattern), int(out.n_kept)) == (20, 20)
    assert int(out.n_signal) == np.sum(np.asarray(out.is_signal)) < 20  # some were smeared out of the window
    assert int(out.n_noise) == np.sum(filled & ~np.asarray(out.is_signal))
    assert np.sum(filled) == int(out.n_signal) + int(out.n_noise)


def test_changing_numbers_does_not_recompile():
    traces = []

    @jax.jit
    def step(key, hits, settings):
        traces.append(1)
        return degrade(key, hits, settings).hits

    key, hits = jax.random.key(0), pattern(30)
    for n in (1, 5, 40):
        weights = jnp.arange(6.0) + n
        noise_settings = noise_module.NoiseSettings(weights, n, n, n, float(n), float(n), n, float(n))
        step(key, hits, d.DegradationSettings((n, n + 1), float(n), float(n), float(n), (n, 2 * n), noise_settings))
    assert len(traces) == 1


def test_an_event_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(0), 8)
    hits = jnp.stack([pattern(30, seed=i) for i in range(8)])
    settings = d.DegradationSettings()
    batch = jax.vmap(degrade, in_axes=(0, 0, None))(keys, hits, settings)
    alone = degrade(keys[5], hits[5], settings)
    np.testing.assert_array_equal(batch.hits[5], alone.hits)
    part = jax.vmap(degrade, in_axes=(0, 0, None))(keys[4:6], hits[4:6], settings)
    np.testing.assert_array_equal(batch.hits[4:6], part.hits)
    assert not np.array_equal(batch.hits[0], batch.hits[1])


@pytest.mark.parametrize("n", [0, 1, 64])
def test_empty_single_and_full_events(n):
    settings = d.DegradationSettings(n_signal=(0, 0) if n == 0 else (64, 64), n_noise=(0, 0))
    out = degrade(jax.random.key(0), pattern(n), settings, max_signal=64)
    assert rows(out.hits) == rows(pattern(n))


def test_no_room_for_noise_or_signal():
    out = degrade(jax.random.key(0), pattern(10), d.DegradationSettings(), max_signal=0, max_noise=0)
    assert out.hits.shape == (0, 3)


def test_configured_profiles_are_the_known_ones():
    assert tuple(NoiseConfig().shares) == noise_module.NOISE_PROFILES
    with pytest.raises(ValueError, match="selection must be one of"):
        sparsify(jax.random.key(0), pattern(3), (1, 1), selection="best")
