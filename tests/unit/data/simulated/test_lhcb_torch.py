"""Events of the simulated LHCb TORCH module, by number."""

import numpy as np
import pytest
from simulated_settings import MODULE, SMALL_SHAPE, simulated_config

from tofae_jax.config import Config, from_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import pad_events
from tofae_jax.data.events import concatenate
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.engine import events as engine_events


@pytest.mark.slow
def test_module_events_largest_seed_gives_hits():
    module = ModuleEvents(Detector(**SMALL_SHAPE), photons="detected", seed=2**32 - 1)
    backgrounds = module.backgrounds._replace(hot_pixel_seed=2**32 - 1)
    assert module._replace(backgrounds=backgrounds).draw(np.arange(1))[0].n_hits > 0


def test_module_events_depend_on_their_number_alone():
    module = ModuleEvents(Detector(**SMALL_SHAPE), photons="detected", seed=3)
    whole, _ = module.draw(np.arange(70))  # more than are simulated at a time
    some, n_dropped = module.draw(np.array([66, 2]))
    assert n_dropped == 0
    for place, number in enumerate((66, 2)):
        own, there = (slice(*offsets[i : i + 2]) for offsets, i in ((some.offsets, place), (whole.offsets, number)))
        np.testing.assert_array_equal(some.hits[own], whole.hits[there])
        for name, column in whole.hit_columns.items():
            np.testing.assert_array_equal(some.hit_columns[name][own], column[there])
        np.testing.assert_array_equal(
            some.track_columns["momentum_gev"][place], whole.track_columns["momentum_gev"][number]
        )
    other, _ = ModuleEvents(Detector(**SMALL_SHAPE), photons="detected", seed=4).draw(np.arange(2))
    assert not np.array_equal(other.hits[:10], whole.hits[:10])


@pytest.mark.slow
def test_module_events_columns_tell_origin_and_track():
    module = ModuleEvents(Detector(), photons="detected", seed=3)
    events, _ = module.draw(np.arange(64))
    columns = events.hit_columns
    signal = columns["origin"] == 0
    assert set(np.unique(columns["origin"])) == {0, 1, 2, 3, 4}
    assert np.all(columns["track"][signal] == 0)
    assert np.all(columns["track"][columns["origin"] == 1] > 0)
    assert np.all(columns["track"][columns["origin"] > 1] == -1)
    assert np.all((columns["energy_ev"] > 0) == signal)
    start = np.repeat(events.event_columns["window_start_ns"], events.counts)
    late_ns = (events.hits[:, 2] - 0.5) * 0.025 + start - columns["time_ns"]
    assert abs(late_ns[signal].std() - 0.070) < 0.005  # the time resolution
    np.testing.assert_array_equal(np.diff(events.track_offsets), 1)
    assert set(events.track_columns["particle"]) == {0, 1, 2}


@pytest.mark.slow
def test_pad_events_signal_and_background_are_apart():
    store = engine_events.simulated_events(simulated_config("lhcb_torch"))
    numbers = np.array([7, 8])
    padded = pad_events(store, numbers, batch=3, max_hits=64, max_background=5)
    for row, (hits, origin) in enumerate(store.per_event_hits(numbers)):
        np.testing.assert_array_equal(padded.hits[row, : (origin == 0).sum()], hits[origin == 0])
        n_background = int((origin > 0).sum())
        assert np.sum(padded.background[row, :, 2] > 0) == min(5, n_background)
        assert padded.n_dropped[row] == max(0, n_background - 5)
        kept = {tuple(hit) for hit in padded.background[row].tolist() if hit[2]}
        assert kept <= {tuple(hit) for hit in hits[origin > 0].tolist()}
    assert not padded.hits[2].any()
    without = pad_events(store, numbers, batch=2, max_hits=64)
    assert (without.background.shape, without.n_dropped.tolist()) == ((2, 0, 3), [0, 0])
    np.testing.assert_array_equal(without.hits, padded.hits[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": {"time_sigma_ns": -1.0}}, "time_sigma_ns is -1.0, allowed: 0 to 1000"),
        ({"background": {"n_dark": float("inf")}}, "n_dark is inf"),
        ({"module": {"momentum_gev": (5.0, 2.0)}}, r"momentum_gev is \(5.0, 2.0\)"),
        (
            {"module": {"window_margin_ns": 65.0}},
            "window_margin_ns is 65, allowed: at most 25, the detector's time win",
        ),
        ({"module": {"window_jitter_ns": 25.5}}, "window_jitter_ns is 25.5, allowed: at most 25"),
        ({"module": {"time_sigma_ns": 65.0}}, "time_sigma_ns is 65, allowed: at most 25"),
        ({"module": {"bunch_sigma_ns": 65.0}}, "bunch_sigma_ns is 65, allowed: at most 25"),
        (
            {"background": {"afterpulse_chance": 0.1, "afterpulse_delay_ns": 65.0}},
            "afterpulse_delay_ns is 65, allowed: at most 25",
        ),
    ],
)
def test_module_events_bad_settings_are_named(change, message):
    simulate = {"pattern": "lhcb_torch", "lhcb_torch": MODULE | change}
    with pytest.raises(ValueError, match=message):
        engine_events.simulated_events(from_tree({"data": {"simulate": simulate}}, Config, "test"))


def test_module_events_times_within_the_window_pass():
    module = {"window_margin_ns": 25.0, "window_jitter_ns": 25.0}
    background = {"afterpulse_chance": 0.0, "afterpulse_delay_ns": 65.0}  # there are no afterpulses
    simulate = {"pattern": "lhcb_torch", "lhcb_torch": {"module": module, "background": background}}
    assert len(engine_events.simulated_events(from_tree({"data": {"simulate": simulate}}, Config, "test"))) == 20000


def test_write_simulation_holds_tracks_and_origins(tmp_path):
    simulate = simulated_config("lhcb_torch", events=5, data={}).data.simulate
    dataset = engine_events.write_simulation(str(tmp_path / "d"), simulate, detector=Detector(**SMALL_SHAPE))
    back = concatenate(dataset.events())
    drawn = concatenate(engine_events.simulated_events(simulated_config("lhcb_torch", events=5)).events())
    np.testing.assert_array_equal(back.hits, drawn.hits)
    np.testing.assert_array_equal(back.track_columns["slope_x"], drawn.track_columns["slope_x"])
    assert dataset.has_origins
    with pytest.raises(ValueError, match="origin: pattern lhcb_torch has none"):
        engine_events.write_simulation(str(tmp_path / "e"), simulate, detector=Detector(), origin=(1, None, None))
