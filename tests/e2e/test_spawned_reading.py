"""Reading in processes that are spawned, as Windows and macOS start them."""

import multiprocessing

import numpy as np
import pytest
from small_datasets import batch_digests, batch_digests_without_fork, write_small

from tofae_jax.config import DataConfig
from tofae_jax.data.batches import TrainSource


@pytest.mark.backlog("B05")
def test_batches_spawned_process_gives_the_same(tmp_path):
    _, dataset = write_small(tmp_path / "set", list(range(13)), shard_events=5)
    source = TrainSource(dataset, np.arange(13), batch=4, max_hits=12, seed=3)
    expected = batch_digests(source, 0)
    assert len(set(expected)) == len(expected)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        counts = (0, DataConfig().threads, 4)
        found = pool.starmap(batch_digests_without_fork, [(source, threads) for threads in counts])
    assert found == [expected] * len(counts)
