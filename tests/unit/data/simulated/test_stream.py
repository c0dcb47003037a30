"""Events that are simulated when they are asked for."""

import numpy as np
import pytest
from simulated_settings import SMALL_SHAPE, simulated_config

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import TrainSource
from tofae_jax.data.events import concatenate
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.engine import events as engine_events


def numbers_of(source, n):
    return np.concatenate([source[i].event for i in range(n)])


@pytest.mark.parametrize("pattern", ["v", "v=2,line=1"])
def test_simulated_events_by_number_equal_the_list(pattern):
    store = engine_events.simulated_events(simulated_config(pattern, events=2500))
    weights = {"v": 1.0} if pattern == "v" else {"v": 2.0, "line": 1.0}
    whole = concatenate(simulate_patterns(4, 2500, detector=Detector(**SMALL_SHAPE), weights=weights))
    chosen = np.array([2400, 3, 1999, 3])
    for number, (hits, origin) in zip(chosen, store.per_event_hits(chosen), strict=True):
        np.testing.assert_array_equal(hits, whole.hits[whole.offsets[number] : whole.offsets[number + 1]])
        assert origin is None
    np.testing.assert_array_equal(store.event_column("pattern", chosen), whole.event_columns["pattern"][chosen])
    assert store.event_column("nothing", chosen) is None
    np.testing.assert_array_equal(concatenate(store.events()).hits, whole.hits)


def test_simulated_events_every_epoch_has_new_ones():
    store = engine_events.simulated_events(simulated_config(events=10))
    source = TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0)
    first, second = (numbers_of(TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0), 6) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # reproducible, and a function of the batch's number
    assert len(set(first)) == 24
    assert first.min() >= 2**30  # neither validation nor test has them, nor a dataset of the same seed
    np.testing.assert_array_equal(source[5].hits, source[5].hits)
    repeated = TrainSource(store, np.arange(8), batch=4, max_hits=64, seed=0, repeat_every=1)
    assert len(set(numbers_of(repeated, 6))) == 8


def test_events_for_epoch_beyond_the_last_raises():
    store = engine_events.simulated_events(simulated_config(events=2**30))
    assert store.events_for_epoch(np.array([2**30 - 1]), 0) == 2**31 - 1
    with pytest.raises(ValueError, match="epoch 2: the simulation has no more than 2147483647 events"):
        store.events_for_epoch(np.array([0]), 1)
    with pytest.raises(ValueError, match="events is 1073741825, allowed: at most 1073741824"):
        engine_events.simulated_events(simulated_config(events=2**30 + 1))


@pytest.mark.slow
def test_simulated_events_fingerprints_differ():
    stores = [
        engine_events.simulated_events(simulated_config()),
        engine_events.simulated_events(simulated_config("line")),
        engine_events.simulated_events(simulated_config(events=31)),
        engine_events.simulated_events(simulated_config("lhcb_torch")),
    ]
    assert len({store.fingerprint for store in stores}) == 4
    assert stores[0].fingerprint == engine_events.simulated_events(simulated_config()).fingerprint
    assert [store.has_origins for store in stores] == [False, False, False, True]
