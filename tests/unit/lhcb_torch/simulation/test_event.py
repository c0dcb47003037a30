"""Simulated events: keys and numbers, slots, bad settings."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_tracks import BIN_NS, REAL, SETTINGS, SHAPE

from tofae_jax.lhcb_torch import simulation
from tofae_jax.lhcb_torch.simulation import Slots, event

batch = partial(simulation.simulate_batch, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=REAL, max_tracks=3)


SEVERAL = SETTINGS._replace(n_tracks=(1, 3))


@pytest.mark.slow
def test_simulate_batch_depends_on_key_and_number_only():
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


@pytest.mark.slow
def test_simulate_batch_every_hit_knows_its_track():
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


@pytest.mark.slow
def test_simulate_batch_other_settings_do_not_recompile():
    batch(jax.random.key(9), SEVERAL, n_events=6)
    before = event._simulate_keys._cache_size()
    batch(jax.random.key(9), SEVERAL._replace(collection=0.3, momentum_gev=(3.0, 4.0)), n_events=6, first_event=77)
    assert event._simulate_keys._cache_size() == before


@pytest.mark.slow
def test_simulate_event_float32_without_silent_promotion(strict):
    one = partial(simulation.simulate_event, shape_xyt=SHAPE, bin_ns=BIN_NS, slots=Slots(40, 20))
    event = jax.eval_shape(one, jax.random.key(0), SETTINGS)
    kinds = {leaf.dtype for leaf in jax.tree.leaves(event)}
    assert kinds == {jnp.dtype(kind) for kind in ("float32", "int32", "bool")}
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
def test_simulate_batch_bad_settings_are_named(name, value):
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
def test_simulate_batch_bad_arguments_are_named(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{'n_candidates|n_photons' if name == 'slots' else name}.*allowed"):
        batch(jax.random.key(0), SETTINGS, **{"n_events": 2, **change})


@pytest.mark.slow
def test_simulation_bad_arguments_of_functions_are_named():
    with pytest.raises(ValueError, match="n is -1"):
        simulation.draw_tracks(jax.random.key(0), -1, SETTINGS)
    with pytest.raises(ValueError, match="scale is -1"):
        simulation.choose_slots(SETTINGS, scale=-1.0)
