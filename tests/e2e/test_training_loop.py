"""The training loop around its step: batches are read while a step computes, and moved to the device once."""

import threading
import time

import jax
import numpy as np
import pytest
from small_training import DETECTOR, config

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import TrainSource
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.training import loop, train
from tofae_jax.steps import Batch, TrainMetrics

STEPS = 6
WITHOUT_EVALUATION = {"train_share": 1.0, "validation_share": 0.0, "test_share": 0.0}


class Watched:
    """A run whose step computes nothing: what is read and moved, and what was read by the end of each step."""

    def __init__(self) -> None:
        self.reads, self.moved, self.read_by_step = [], [], []

    def step(self, state, batch, settings):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
        wanted = min(len(self.read_by_step) + 3, STEPS)  # the next batches, though nobody asks for them yet
        deadline = time.monotonic() + 10
        while len(self.reads) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        self.read_by_step.append(len(self.reads))
        one = np.float32(1)
        metrics = TrainMetrics(one, one, one, one, skipped=np.bool_(False), loss_scale=one, stuck=np.int32(0))
        return state.replace(step=state.step + 1), metrics


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    path = tmp_path_factory.mktemp("loop")
    simulated_dataset(
        path / "d", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=STEPS * config().train.batch, seed=1
    )
    found, read, device_put = Watched(), TrainSource.__getitem__, jax.device_put

    def reading(source, index):
        found.reads.append((int(index), threading.current_thread()))
        return read(source, index)

    def moving(tree, *where):
        found.moved.append(type(tree))
        return device_put(tree, *where)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(TrainSource, "__getitem__", reading)
        patch.setattr(jax, "device_put", moving)
        patch.setattr(loop, "compiled_train_step", lambda setup: found.step)
        patch.setattr(train, "finish_run", lambda *_: {})
        _, record = train.train(
            config(data=WITHOUT_EVALUATION, train={"epochs": 1, "plots": "none"}, tracking={"tensorboard": False})
        )
    assert record.status == "finished"
    return found


@pytest.mark.backlog("B46")
def test_loop_reads_ahead_while_a_step_computes(watched):
    assert len(watched.read_by_step) == STEPS
    for i, n_read in enumerate(watched.read_by_step):
        assert n_read >= min(i + 3, STEPS)
    assert threading.main_thread() not in {thread for _, thread in watched.reads}
    assert sorted(index for index, _ in watched.reads)[:STEPS] == list(range(STEPS))


@pytest.mark.backlog("B06")
def test_loop_moves_every_batch_once(watched):
    assert watched.moved.count(Batch) == STEPS
