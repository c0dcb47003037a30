"""Weights that are `auto`, from the sizes of the classes in the training events."""

import numpy as np
import pytest
from simulated_settings import simulated_config

from tofae_jax.config import AUTO
from tofae_jax.data.class_sizes import class_sizes
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.class_weights import resolved_losses
from tofae_jax.losses import LOSSES

EVENTS = np.arange(6)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class_weights") / "data"
    return simulated_dataset(folder, detector=simulated_config().detector, weights={"v": 1.0}, n_events=8)


def degraded(loss):
    return simulated_config(loss=loss, degradation={"n_signal": [3, 5], "n_noise": 10}, train={"target": "pattern"})


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.auto])
def test_resolved_losses_auto_is_opposite_per_own_class(dataset, name):
    loss = LOSSES[name]
    config, found = resolved_losses(degraded({"name": name, name: dict.fromkeys(loss.auto, AUTO)}), dataset, EVENTS)
    target = "signal" if loss.takes == "hits" else "pattern"
    sizes = class_sizes(dataset, EVENTS, target=target, n_signal=(3, 5), n_noise=(10, 10), max_hits=64)
    expected = {weight: sizes[opposite] / sizes[own] for weight, (opposite, own) in loss.auto.items()}
    assert found == {f"loss.{name}.{weight}": number for weight, number in expected.items()}
    assert {weight: getattr(getattr(config.loss, name), weight) for weight in loss.auto} == expected
    assert sizes["noise"] == 10


def test_resolved_losses_without_auto_are_unchanged(dataset):
    config = degraded({"name": "hit_bce"})
    assert resolved_losses(config, dataset, EVENTS) == (config, {})
