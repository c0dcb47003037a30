"""Events of a run: tracks and background that its model needs."""

import numpy as np
import pytest
from module_datasets import run_settings
from simulated_settings import simulated_config

from tofae_jax.data.batches import split_events
from tofae_jax.data.events import DataError, concatenate
from tofae_jax.data.tracks import tracks_of
from tofae_jax.engine import events as simulated
from tofae_jax.engine.events import evaluation_source, train_source


def test_max_background_follows_schedules():
    from tofae_jax.engine.events import max_background

    schedule = {"kind": "linear", "start": 0.0, "end": 0.8, "last_epoch": 3}
    assert max_background(simulated_config(schedules={"degradation.noise.data": schedule}, train={"epochs": 3})) == 512
    assert max_background(simulated_config()) == 0


def test_open_events_missing_background_is_named():
    from tofae_jax.engine.events import open_events

    with pytest.raises(DataError, match=r"simulated .*: degradation\.noise\.data asks for its background"):
        open_events(simulated_config(degradation={"noise": {"data": 1.0}}), print)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lhcb_torch", "lhcb_torch_tracks", "hit_transformer"])
def test_train_source_has_the_tracks_the_model_needs(name):
    config = run_settings(model={"name": name})
    store = simulated.simulated_events(config)
    splits = split_events(20, train=0.5, validation=0.2, test=0.3, seed=0)
    training = train_source(config, store, splits)[1]
    held_out = evaluation_source(config, store, splits.test)[1]  # 2 events, and filling
    if name == "hit_transformer":
        assert training.tracks is None and held_out.tracks is None
        return
    own = tracks_of(concatenate(store._draw(np.array([n])) for n in training.event))
    np.testing.assert_array_equal((training.tracks[..., 4] > 0).sum(axis=1), own.counts)
    np.testing.assert_allclose(training.tracks[training.tracks[..., 4] > 0][:, 0], own.columns["x_mm"])
    knows_truth = np.any(training.tracks[..., 6:] != 0)
    assert knows_truth == (name == "lhcb_torch")
    if name == "lhcb_torch":
        assert held_out.tracks is None  # nothing to look up where it is tested
    else:
        assert np.all(held_out.tracks[2:] == 0) and np.all(held_out.tracks[:2, 0, 4] > 0)
        assert np.all(held_out.tracks[..., 6:] == 0)
