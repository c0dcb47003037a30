"""Inspection of datasets."""

import numpy as np
import pytest
from small_datasets import DETECTOR, write_small

from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.inspection import describe, inspect_dataset


def test_inspect_dataset_finds_damaged_hits(tmp_path):
    _, dataset = write_small(tmp_path / "set", [3, 0, 4], shard_events=2)
    found = inspect_dataset(dataset)
    assert found.problems == []
    assert found.n_empty == 1
    assert found.distributions.hits_per_event.tolist() == [1, 0, 0, 1, 1]
    assert found.distributions.t.sum() == 7
    assert "integrity    ok" in describe(dataset, found)
    path = tmp_path / "set" / "00000.hits.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    problems = inspect_dataset(Dataset(tmp_path / "set", verify=False)).problems
    assert any("checksum" in problem for problem in problems)
    assert any("outside the detector" in problem for problem in problems)
    with pytest.raises(DataError, match="outside the detector"):
        Dataset(tmp_path / "set", verify=False).shard(0)


def test_inspect_dataset_counts_duplicate_and_occluded_hits(tmp_path):
    hits = np.array([[1, 1, 5], [1, 1, 5], [1, 1, 7], [2, 1, 7], [1, 1, 5]], np.int16)
    events = Events(hits, np.array([0, 4, 5]))
    dataset = write_dataset(tmp_path / "set", [events], detector=DETECTOR, provenance={})
    found = inspect_dataset(dataset)
    assert (found.n_duplicates, found.n_occluded) == (1, 2)
    assert found.distributions.occlusion[:, 4].tolist() == [1, 2]


def test_planes_of_the_largest_detector_are_grouped():
    from tofae_jax.core.distributions import plane_shape
    from tofae_jax.data.inspection import _plane

    largest = 32767
    places, t = np.array([0, 17, largest - 1]), np.array([1, 500, largest])
    plane = _plane(places, t, largest, largest)
    assert plane.shape == plane_shape(largest, largest) and plane.size < 2**23
    assert plane.sum() == 3 and plane[0, 0] == 1 and plane[-1, -1] == 1
    assert plane_shape(128, 1000) == (128, 1001)
    assert _plane(places[:2], t[:2], 128, 1000)[17, 500] == 1
