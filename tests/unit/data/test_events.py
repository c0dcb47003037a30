"""Events in memory: joining and selecting."""

import numpy as np
import pytest
from small_datasets import events_of, with_tracks

from tofae_jax.data.events import concatenate, select_hits


def test_concatenate_parts_without_tracks_raises(tmp_path):
    events = events_of([1])
    with pytest.raises(ValueError, match="need the same columns"):
        concatenate([events, with_tracks(events, [1])])


def test_select_hits_moves_columns_along():
    events = events_of([2, 0, 3])
    keep = np.array([True, False, False, True, True])
    kept = select_hits(events, keep)
    np.testing.assert_array_equal(kept.counts, [1, 0, 2])
    np.testing.assert_array_equal(kept.hits, events.hits[keep])
    np.testing.assert_array_equal(kept.hit_columns["track"], events.hit_columns["track"][keep])
