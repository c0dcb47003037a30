"""Backgrounds of the simulated TORCH module: numbers, distributions, origins, at stated sigmas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.lhcb_torch import simulation
from tofae_jax.lhcb_torch.simulation import ORIGINS, BackgroundSettings, ModuleSettings, Slots, backgrounds

SHAPE, BIN_NS = (88, 128, 1000), 0.025
SLOTS, MAX_TRACKS, MAX_OTHERS, N_SLOTS = Slots(150, 90), 2, 24, 700
MODULE = ModuleSettings(n_tracks=(1, 2))
NONE = BackgroundSettings(n_other_tracks=0.0, n_dark=0.0, n_hot=0.0, afterpulse_chance=0.0)
N_EVENTS = 300


mix = partial(
    simulation.mix_backgrounds,
    shape_xyt=SHAPE,
    bin_ns=BIN_NS,
    slots=SLOTS,
    max_other_tracks=MAX_OTHERS,
    max_tracks=MAX_TRACKS,
    n_slots=N_SLOTS,
)


@jax.jit
def mix_events(keys, hits, track, settings, start):
    def one(key, hits, track, start):
        return mix(key, hits, track, MODULE, settings, window_start_ns=start)

    return jax.vmap(one)(keys, hits, track, start)


def simulate(settings, seed):
    run = partial(simulation.simulate_batch, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=SLOTS, max_tracks=MAX_TRACKS)
    return run(jax.random.key(seed), settings, n_events=N_EVENTS)


@pytest.fixture(scope="module")
def events():
    return simulate(MODULE, 0)


def mixed(events, settings, seed=1):
    keys = jax.random.split(jax.random.key(seed), N_EVENTS)
    return jax.device_get(mix_events(keys, events.photons.hits, events.photons.track, settings, events.window_start_ns))


def counts_of(event, name):
    return (event.origin == ORIGINS.index(name)).sum(axis=1)


def assert_poisson(counts, mean):
    """Mean and variance of Poisson numbers within 4 sigma."""
    n = len(counts)
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / n))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=4 * np.sqrt((2 + 1 / mean) / n))


def chi_squared_per_degree(counts):
    mean = counts.sum() / len(counts)
    return np.sum((counts - mean) ** 2) / mean / (len(counts) - 1)


@pytest.mark.slow
def test_mix_backgrounds_none_leaves_the_signal(events):
    event = mixed(events, NONE)
    photons = jax.device_get(events.photons)
    assert event.n_dropped.sum() == 0
    for i in range(20):
        filled = event.origin[i] != backgrounds.NO_ORIGIN
        np.testing.assert_array_equal(event.hits[i][filled], photons.hits[i][photons.is_photon[i]])
        np.testing.assert_array_equal(event.track[i][filled], photons.track[i][photons.is_photon[i]])
    assert set(np.unique(event.origin)) == {-1, 0}
    assert event.origin.dtype == np.int8


@pytest.mark.slow
def test_mix_backgrounds_default_mixture_is_that_stated(events):
    event = mixed(events, BackgroundSettings())
    n_hits = (event.hits[..., 2] > 0).sum()
    np.testing.assert_array_equal(event.origin == -1, event.hits[..., 2] == 0)
    assert event.n_dropped.sum() == 0
    signal = jax.device_get(events.photons.is_photon)
    np.testing.assert_array_equal(counts_of(event, "signal"), signal.sum(axis=1))
    assert set(np.unique(event.origin)) == {-1, 0, 1, 2, 3, 4}
    # the usual case of LHCb, for one track of signal and seven others: about 80 % of hits are of other tracks
    single = counts_of(event, "signal")[events.n_tracks == 1].mean()
    others = counts_of(event, "other_track").mean()
    assert others / (n_hits / N_EVENTS - counts_of(event, "signal").mean() + single) == pytest.approx(0.8, abs=0.05)
    for axis, (low, high) in enumerate(((0, 87), (0, 127), (1, 1000))):
        values = event.hits[..., axis][event.origin >= 0]
        assert low <= values.min() <= values.max() <= high


@pytest.mark.slow
def test_mix_backgrounds_hits_of_other_tracks_know_them(events):
    event = mixed(events, BackgroundSettings())
    others = event.origin == ORIGINS.index("other_track")
    assert event.track[others].min() == MAX_TRACKS
    assert event.track[others].max() < MAX_TRACKS + MAX_OTHERS
    hitless = (event.origin > ORIGINS.index("other_track")) | (event.origin < 0)
    assert (event.track[hitless] == -1).all()
    assert (event.track[event.origin == 0] < MAX_TRACKS).all()
    n_others = np.array([len(np.unique(t[o])) for t, o in zip(event.track, others, strict=True)])
    # a few tracks leave nothing in the window
    assert 5.5 < n_others.mean() <= 7 + 4 * np.sqrt(7 / N_EVENTS)
    # their impact points are anywhere: so are the columns that they light
    columns = np.bincount(event.hits[others][:, 0], minlength=88)
    assert columns.min() > 0.7 * columns.mean()


@pytest.mark.slow
def test_other_tracks_are_those_of_the_plain_simulation(events):
    """Per track and in the mean, they have the photons in the window that second tracks of an event have."""
    counts = counts_of(mixed(events, NONE._replace(n_other_tracks=5.0)), "other_track")
    two = [simulate(MODULE._replace(n_tracks=(2, 2)), seed).photons.track for seed in range(2, 6)]
    second = np.concatenate([(np.asarray(track) == 1).sum(axis=1) for track in two])
    sigma = np.hypot(counts.std() / np.sqrt(len(counts)), 5 * second.std() / np.sqrt(len(second)))
    assert counts.mean() == pytest.approx(5 * second.mean(), abs=4 * sigma)
    assert 20 < second.mean() < 30  # some come before the primary's window, or after it


@pytest.mark.slow
def test_dark_hits_are_poisson_and_uniform(events):
    event = mixed(events, NONE._replace(n_dark=40.0))
    assert_poisson(counts_of(event, "dark"), 40.0)
    dark = event.hits[event.origin == ORIGINS.index("dark")]
    for axis, bins in ((0, 88), (1, 128), (2, 100)):
        values = dark[:, axis] if axis < 2 else (dark[:, 2] - 1) // 10
        counts = np.bincount(values, minlength=bins)
        assert chi_squared_per_degree(counts) < 1 + 4 * np.sqrt(2 / bins)


@pytest.mark.slow
def test_hot_pixels_belong_to_the_detector(events):
    hot = NONE._replace(n_hot=40.0, n_hot_pixels=7, hot_pixel_seed=3)
    one, other = (mixed(events, hot, seed) for seed in (1, 2))
    assert_poisson(counts_of(one, "hot_pixel"), 40.0)
    pixels = [set(map(tuple, e.hits[e.origin == ORIGINS.index("hot_pixel")][:, :2].tolist())) for e in (one, other)]
    place, share = backgrounds.draw_hot_pixels(3, n_hot_pixels=7, shape_xyt=SHAPE)
    assert pixels[0] == pixels[1] == set(map(tuple, place[:7].tolist()))
    assert float(share.sum()) == pytest.approx(1, abs=1e-6)
    assert not share[7:].any()
    hits = one.hits[one.origin == ORIGINS.index("hot_pixel")]
    for i in range(7):
        n = (hits[:, :2] == np.asarray(place[i])).all(axis=1).sum()
        mean = len(hits) * float(share[i])
        assert n == pytest.approx(mean, abs=4 * np.sqrt(mean) + 1e-3)
    assert chi_squared_per_degree(np.bincount((hits[:, 2] - 1) // 10, minlength=100)) < 1 + 4 * np.sqrt(2 / 100)
    elsewhere = mixed(events, hot._replace(hot_pixel_seed=4))
    assert set(map(tuple, elsewhere.hits[elsewhere.origin == 3][:, :2].tolist())) != pixels[0]


@pytest.mark.slow
def test_afterpulses_follow_hits_in_their_pixels():
    """On parents of known times: chance, pixels, and the delay's law."""
    n, tau, delay = 200_000, 0.5, 0.25
    parents = jnp.stack([jnp.arange(n) % 88, jnp.arange(n) % 128, jnp.full(n, 100)], axis=1).astype(jnp.int32)
    make = partial(backgrounds.afterpulses, shape_xyt=SHAPE, bin_ns=BIN_NS)
    after = np.asarray(make(jax.random.key(0), parents, chance=0.1, delay_ns=delay, tau_ns=tau))
    seen = after[:, 2] > 0
    assert seen.sum() == pytest.approx(0.1 * n, abs=4 * np.sqrt(0.09 * n))
    np.testing.assert_array_equal(after[seen][:, :2], np.asarray(parents)[seen][:, :2])
    later = (after[seen][:, 2] - 100) * BIN_NS - delay
    assert later.min() >= -BIN_NS / 2
    assert later.mean() == pytest.approx(tau, abs=4 * tau / np.sqrt(seen.sum()) + 1e-4)
    assert later.std() == pytest.approx(tau, abs=4 * tau * np.sqrt(2 / seen.sum()))
    none = make(jax.random.key(0), parents, chance=0.0, delay_ns=delay, tau_ns=tau)
    assert not none.any()
    late = make(jax.random.key(0), parents, chance=1.0, delay_ns=1e6, tau_ns=tau)
    assert not late.any()
    assert not make(jax.random.key(0), jnp.zeros((5, 3), jnp.int32), chance=1.0, delay_ns=0.0, tau_ns=tau).any()


@pytest.mark.slow
def test_afterpulses_of_an_event_have_parents(events):
    event = mixed(events, NONE._replace(n_dark=20.0, afterpulse_chance=0.5, afterpulse_tau_ns=2.0))
    assert counts_of(event, "afterpulse").sum() > 1000
    for hits, origin in zip(event.hits[:30], event.origin[:30], strict=True):
        parents = hits[(origin >= 0) & (origin != ORIGINS.index("afterpulse"))]
        for hit in hits[origin == ORIGINS.index("afterpulse")]:
            same = parents[(parents[:, :2] == hit[:2]).all(axis=1)]
            assert (same[:, 2] + 1.0 / BIN_NS <= hit[2]).any()


@pytest.mark.slow
def test_mix_backgrounds_depends_on_the_key_only(events):
    settings = BackgroundSettings()
    whole = mixed(events, settings)
    key = jax.random.split(jax.random.key(1), N_EVENTS)[7]
    photons, start = events.photons, events.window_start_ns[7]
    alone = jax.jit(mix)(key, photons.hits[7], photons.track[7], MODULE, settings, window_start_ns=start)
    for got, expect in zip(alone, whole, strict=True):
        np.testing.assert_array_equal(got, expect[7])
    again = mixed(events, settings, seed=2)
    assert not np.array_equal(again.hits, whole.hits)


@pytest.mark.slow
def test_mix_backgrounds_other_settings_do_not_recompile(events):
    mixed(events, NONE)
    before = mix_events._cache_size()
    mixed(events, NONE._replace(n_dark=4.0, n_hot=2.5, hot_pixel_seed=5))
    assert mix_events._cache_size() == before


@pytest.mark.slow
def test_mix_backgrounds_missing_slots_signal_goes_first(events):
    photons, start = events.photons, events.window_start_ns[0]
    few = jax.jit(partial(mix, n_slots=20, max_other_tracks=2))
    settings = NONE._replace(n_other_tracks=12.0, n_dark=60.0)
    event = few(jax.random.key(3), photons.hits[0], photons.track[0], MODULE, settings, window_start_ns=start)
    n_signal = int(photons.is_photon[0].sum())
    assert event.hits.shape == (20, 3)
    assert int((event.origin == 0).sum()) == min(20, n_signal)
    assert event.n_dropped > n_signal - 20 + 40 + 5


def test_mix_backgrounds_dtypes_without_silent_promotion(strict):
    hits, track = jnp.zeros((6, 3), jnp.int32), jnp.full(6, -1, jnp.int32)
    arguments = (jax.random.key(0), hits, track, MODULE, BackgroundSettings())
    small = partial(mix, slots=Slots(20, 10), n_slots=30, max_other_tracks=3, window_start_ns=30.0)
    event = jax.eval_shape(small, *arguments)
    assert [leaf.dtype for leaf in event] == [jnp.int32, jnp.int8, jnp.int32, jnp.int32]
    with jax.enable_x64(True):
        wide = jax.eval_shape(small, *arguments)
    assert [leaf.dtype for leaf in wide] == [leaf.dtype for leaf in event]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_other_tracks", -1.0),
        ("n_dark", float("nan")),
        ("n_hot", float("inf")),
        ("n_hot_pixels", 0),
        ("n_hot_pixels", 65),
        ("hot_pixel_seed", -1),
        ("afterpulse_chance", 1.5),
        ("afterpulse_delay_ns", -1.0),
        ("afterpulse_tau_ns", 0.0),
    ],
)
def test_mix_backgrounds_bad_settings_are_named(name, value):
    hits, track = jnp.zeros((6, 3), jnp.int32), jnp.full(6, -1, jnp.int32)
    settings = BackgroundSettings(**{name: value})
    with pytest.raises(ValueError, match=f"{name} is .*allowed"):
        mix(jax.random.key(0), hits, track, MODULE, settings, window_start_ns=30.0)


@pytest.mark.parametrize("name", ["n_slots", "max_other_tracks"])
def test_mix_backgrounds_bad_slots_are_named(name):
    hits, track = jnp.zeros((6, 3), jnp.int32), jnp.full(6, -1, jnp.int32)
    with pytest.raises(ValueError, match=f"{name} is 0"):
        mix(jax.random.key(0), hits, track, MODULE, NONE, window_start_ns=30.0, **{name: 0})
