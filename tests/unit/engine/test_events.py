"""Events of a run: tracks and background that its model needs."""

import numpy as np
import pytest
from module_datasets import run_settings
from simulated_settings import simulated_config

from tofae_jax.config import SimulateConfig, from_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import split_events
from tofae_jax.data.events import DataError, concatenate
from tofae_jax.data.tracks import tracks_of
from tofae_jax.engine import events as simulated
from tofae_jax.engine.events import check_plate, evaluation_source, train_source, write_simulation


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


@pytest.mark.parametrize(("detector_mm", "plate_mm"), [(100.0, 660.0), (660.0, 500.0)])
def test_check_plate_of_another_width_than_the_detector_is_refused(tmp_path, detector_mm, plate_mm):
    tree = {"pattern": "lhcb_torch", "events": 1, "lhcb_torch": {"module": {"width_mm": plate_mm}}}
    simulate, detector = from_tree(tree, SimulateConfig, "test"), Detector(width_mm=detector_mm)
    with pytest.raises(ValueError, match=rf"^detector.width_mm = {detector_mm:g}: .* is {plate_mm:g}"):
        write_simulation(str(tmp_path / "d"), simulate, detector=detector)
    assert not (tmp_path / "d").exists()
    check_plate(simulate, Detector(width_mm=plate_mm))
    check_plate(from_tree(tree | {"pattern": "v"}, SimulateConfig, "test"), detector)
