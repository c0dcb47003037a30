"""Events by number: which columns mean what."""

import numpy as np
from simulated_settings import SMALL_SHAPE

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import pad_events
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.inspection import inspect_dataset


def test_origin_of_column_of_another_type_is_none(tmp_path):
    hits = np.array([[1, 2, 3], [2, 2, 3], [3, 2, 3]], np.int16)
    for column in (np.array([3, 4, -1], np.int32), np.array([np.nan, 1, 0]), np.zeros((3, 2), np.int8)):
        events = Events(hits, np.array([0, 3]), {"origin": column})
        dataset = write_dataset(tmp_path / str(column.dtype), [events], detector=Detector(**SMALL_SHAPE), provenance={})
        assert not dataset.has_origins
        np.testing.assert_array_equal(pad_events(dataset, np.array([0]), batch=1, max_hits=3).hits[0], hits)
        assert inspect_dataset(dataset).problems == []
