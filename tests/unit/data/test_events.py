"""Events in memory: offsets, joining and selecting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import events_of, with_tracks

from tofae_jax.data.events import concatenate, offsets_from_counts, select_hits


@given(st.lists(st.integers(0, 100)), st.sampled_from(["u1", "i4", "i8", "u8"]))
def test_offsets_from_counts_any_counts_are_summed(counts, dtype):
    offsets = offsets_from_counts(np.array(counts, dtype))
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [sum(counts[:n]) for n in range(len(counts) + 1)]
    np.testing.assert_array_equal(offsets_from_counts(counts), offsets)


def test_offsets_from_counts_small_types_do_not_overflow():
    assert offsets_from_counts(np.full(4, 2**31 - 1, np.int32))[-1] == 4 * (2**31 - 1)
    assert offsets_from_counts(np.full(300, True))[-1] == 300


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
