"""The debug mode `--train.no-jit`: a real step runs operation by operation, and gives the same numbers."""

import jax
import numpy as np
import pytest
from tiny import settings_from

from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run
from tofae_jax.engine.training import loop, train
from tofae_jax.steps import train as step_module

DETECTOR = {"n_x": 4, "n_y": 4, "n_t": 8}
SIZES = {"width": 8, "hidden": 8, "layers": 1, "queries": 2, "value_width": 2, "event_width": 8}
TREE = {
    "detector": DETECTOR,
    "data": {"path": "d", "max_hits": 6, "threads": 0},
    "degradation": {"n_signal": 2, "n_noise": 2},
    "model": {"name": "hit_transformer", "hit_transformer": SIZES},
    "loss": {"name": "hit_bce"},
    "train": {"batch": 2, "epochs": 1, "plots": "none"},
    "tracking": {"tensorboard": False},
}


@pytest.mark.slow
@pytest.mark.backlog("B25")
def test_train_without_jit_takes_a_real_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulated_dataset("d", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=20, seed=1)
    traced, results, degrade = [], [], step_module.degrade_batch

    def watched(keys, batch, *rest):
        traced.append(isinstance(batch.hits, jax.core.Tracer))
        return degrade(keys, batch, *rest)

    def one_step(job, control, parent):
        """What a run does first, in whatever mode it has set."""
        setup = build_run(job.config)
        with jax.disable_jit(False):  # the initial state takes long without
            state = setup.fresh_state()
        step = loop.compiled_train_step(setup)
        state, metrics = step(state, jax.device_put(job.source[0]), setup.step_settings())
        results.append((jax.device_get((state.step, state.params)), jax.device_get(metrics)))
        return "", {"test": None}

    monkeypatch.setattr(step_module, "degrade_batch", watched)
    monkeypatch.setattr(train, "_train_and_finish", one_step)
    for jit in (True, False):
        train.train(settings_from(TREE, train={"jit": jit}))
    assert traced == [True, False]
    ((step, compiled), metrics), ((step_again, stepwise), metrics_again) = results
    assert step == step_again == 1
    assert metrics.gradient_norm > 0
    np.testing.assert_allclose(metrics_again.loss, metrics.loss, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(compiled), jax.tree.leaves(stepwise), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
