"""Events that are simulated when they are asked for: the same by the same seed, new ones in every epoch."""

import numpy as np
import pytest

from tofae_jax.config import Config, from_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import TrainSource, pad_events
from tofae_jax.data.dataset import write_dataset
from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.inspection import inspect_dataset
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.engine import events as simulated

SMALL = {"n_x": 12, "n_y": 16, "n_t": 50}
MODULE = {"photons": "detected", "module": {"window_jitter_ns": 0.5}, "background": {"n_other_tracks": 2.0}}


def config(pattern="v", events=30, **sections):
    simulate = {"pattern": pattern, "events": events, "seed": 4, "lhcb_torch": MODULE}
    data = {"source": "simulate", "simulate": simulate, "max_hits": 64} | sections.pop("data", {})
    return from_tree({"detector": SMALL, "data": data, **sections}, Config, "test")


def numbers_of(source, n):
    return np.concatenate([source[i].event for i in range(n)])


@pytest.mark.parametrize("pattern", ["v", "v=2,line=1"])
def test_patterns_by_number_are_those_of_the_list(pattern):
    store = simulated.simulated_events(config(pattern, events=2500))
    weights = {"v": 1.0} if pattern == "v" else {"v": 2.0, "line": 1.0}
    whole = concatenate(simulate_patterns(4, 2500, detector=Detector(**SMALL), weights=weights))
    chosen = np.array([2400, 3, 1999, 3])
    for number, (hits, origin) in zip(chosen, store.per_event_hits(chosen), strict=True):
        np.testing.assert_array_equal(hits, whole.hits[whole.offsets[number] : whole.offsets[number + 1]])
        assert origin is None
    np.testing.assert_array_equal(store.event_column("pattern", chosen), whole.event_columns["pattern"][chosen])
    assert store.event_column("nothing", chosen) is None
    np.testing.assert_array_equal(concatenate(store.events()).hits, whole.hits)


def test_every_epoch_trains_on_new_events():
    store = simulated.simulated_events(config(events=10))
    source = TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0)
    first, second = (numbers_of(TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0), 6) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # reproducible, and a function of the batch's number
    assert len(set(first)) == 24
    assert first.min() >= 2**30  # neither validation nor test has them, nor a dataset of the same seed
    np.testing.assert_array_equal(source[5].hits, source[5].hits)
    repeated = TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0, repeat_every=1)
    assert len(set(numbers_of(repeated, 6))) == 8


def test_epochs_beyond_the_simulation_are_refused():
    store = simulated.simulated_events(config(events=2**30))
    assert store.events_for_epoch(np.array([2**30 - 1]), 0) == 2**31 - 1
    with pytest.raises(ValueError, match="epoch 2: the simulation has no more than 2147483647 events"):
        store.events_for_epoch(np.array([0]), 1)
    with pytest.raises(ValueError, match="events is 1073741825, allowed: at most 1073741824"):
        simulated.simulated_events(config(events=2**30 + 1))


def test_a_schedule_may_bring_the_background_in():
    from tofae_jax.engine.events import max_background

    schedule = {"kind": "linear", "start": 0.0, "end": 0.8, "last_epoch": 3}
    assert max_background(config(schedules={"degradation.noise.data": schedule}, train={"epochs": 3})) == 512
    assert max_background(config()) == 0


def test_a_column_of_another_meaning_is_no_origin(tmp_path):
    hits = np.array([[1, 2, 3], [2, 2, 3], [3, 2, 3]], np.int16)
    for column in (np.array([3, 4, -1], np.int32), np.array([np.nan, 1, 0]), np.zeros((3, 2), np.int8)):
        events = Events(hits, np.array([0, 3]), {"origin": column})
        dataset = write_dataset(tmp_path / str(column.dtype), [events], detector=Detector(**SMALL), provenance={})
        assert not dataset.has_origins
        np.testing.assert_array_equal(pad_events(dataset, np.array([0]), batch=1, max_hits=3).hits[0], hits)
        assert inspect_dataset(dataset).problems == []


def test_seeds_of_any_size_do():
    module = ModuleEvents(Detector(**SMALL), photons="detected", seed=2**32 - 1)
    backgrounds = module.backgrounds._replace(hot_pixel_seed=2**32 - 1)
    assert module._replace(backgrounds=backgrounds).draw(np.arange(1))[0].n_hits > 0


def test_the_fingerprint_tells_simulations_apart():
    stores = [
        simulated.simulated_events(config()),
        simulated.simulated_events(config("line")),
        simulated.simulated_events(config(events=31)),
        simulated.simulated_events(config("lhcb_torch")),
    ]
    assert len({store.fingerprint for store in stores}) == 4
    assert stores[0].fingerprint == simulated.simulated_events(config()).fingerprint
    assert [store.has_origins for store in stores] == [False, False, False, True]


def test_module_events_depend_on_their_number_alone():
    module = ModuleEvents(Detector(**SMALL), photons="detected", seed=3)
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
    other, _ = ModuleEvents(Detector(**SMALL), photons="detected", seed=4).draw(np.arange(2))
    assert not np.array_equal(other.hits[:10], whole.hits[:10])


def test_module_events_know_what_their_hits_are():
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


def test_signal_and_background_are_padded_apart():
    store = simulated.simulated_events(config("lhcb_torch"))
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


def test_background_that_is_not_there_is_named():
    from tofae_jax.engine.events import open_events

    with pytest.raises(DataError, match=r"simulated .*: degradation\.noise\.data asks for its background"):
        open_events(config(degradation={"noise": {"data": 1.0}}), print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": {"time_sigma_ns": -1.0}}, "time_sigma_ns is -1.0, allowed: 0 to 1000"),
        ({"background": {"n_dark": float("inf")}}, "n_dark is inf"),
        ({"module": {"momentum_gev": (5.0, 2.0)}}, r"momentum_gev is \(5.0, 2.0\)"),
    ],
)
def test_settings_of_the_module_are_named(change, message):
    simulate = {"pattern": "lhcb_torch", "lhcb_torch": MODULE | change}
    with pytest.raises(ValueError, match=message):
        simulated.simulated_events(from_tree({"data": {"simulate": simulate}}, Config, "test"))


def test_a_module_dataset_holds_tracks_and_origins(tmp_path):
    simulate = config("lhcb_torch", events=5, data={}).data.simulate
    dataset = simulated.write_simulation(str(tmp_path / "d"), simulate, detector=Detector(**SMALL))
    back = concatenate(dataset.events())
    drawn = concatenate(simulated.simulated_events(config("lhcb_torch", events=5)).events())
    np.testing.assert_array_equal(back.hits, drawn.hits)
    np.testing.assert_array_equal(back.track_columns["slope_x"], drawn.track_columns["slope_x"])
    assert dataset.has_origins
    with pytest.raises(ValueError, match="origin: pattern lhcb_torch has none"):
        simulated.write_simulation(str(tmp_path / "e"), simulate, detector=Detector(), origin=(1, None, None))


def test_defaults_are_those_of_the_simulation():
    from tofae_jax.config.lhcb_torch import BackgroundConfig, ModuleConfig
    from tofae_jax.lhcb_torch.simulation import BackgroundSettings, ModuleSettings

    for kind, settings in ((ModuleConfig, ModuleSettings()), (BackgroundConfig, BackgroundSettings())):
        given = kind()
        names = set(given.__struct_fields__)
        assert names == set(settings._fields) - {"n_tracks"}
        assert {name: getattr(given, name) for name in names} == {name: getattr(settings, name) for name in names}


def test_a_run_without_a_dataset_goes_on_and_is_evaluated(tmp_path, monkeypatch):
    from tofae_jax.engine.evaluate import evaluate_run
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.history import read_history
    from tofae_jax.runs.record import settings_of

    monkeypatch.chdir(tmp_path)
    tiny = {"name": "autoencoder", "autoencoder": {"latent": 2, "fc": 8}}
    degradation = {"n_signal": 5, "n_noise": 9, "noise": {"uniform": 0.5, "data": 0.5}}

    def settings(epochs):
        train = {"epochs": epochs, "batch": 8, "plots": "none"}
        simulate = {"pattern": "lhcb_torch", "events": 20, "lhcb_torch": MODULE}
        data = {"simulate": simulate, "train_share": 0.8, "max_background": 24}
        return config(data=data, train=train, model=tiny, degradation=degradation)

    whole, record = training.train(settings(2))
    assert record.data["path"] == "simulated lhcb_torch"
    begun, _ = training.train(settings(1))
    resumed, _ = training.resume(str(begun.folder), settings(2))
    assert resumed.folder == begun.folder
    one, other = (
        [{name: part for name, part in epoch.items() if name != "time"} for epoch in read_history(paths.metrics)]
        for paths in (whole, begun)
    )
    assert one == other
    assert one[0]["validation"]["counts"]["noise_hits"] > 0
    result = evaluate_run(whole.folder)
    assert (result["split"], result["data"]) == ("test", "simulated lhcb_torch")
    assert not (tmp_path / "data").exists()
    assert settings_of(whole.folder).data.source == "simulate"
