"""Splits, padding and batches: a function of seed and number, whatever reads them."""

import re
import sys
import threading
import time
import tracemalloc
from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from small_datasets import write_small

from tofae_jax.config import DataConfig
from tofae_jax.core.detector import Detector
from tofae_jax.core.hits import embed
from tofae_jax.data.batches import (
    EvaluationSource,
    TrainSource,
    batches,
    evaluation_batches,
    pad_events,
    split_events,
    split_sizes,
)
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError


@given(st.integers(1, 300), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 5))
def test_split_events_are_disjoint_and_repeatable(n, train, other, seed):
    validation, test = other * (1 - train) / 2, other * (1 - train) / 2
    splits = split_events(n, train=train, validation=validation, test=test, seed=seed)
    together = np.concatenate(splits)
    assert len(set(together.tolist())) == len(together) <= n
    assert len(splits.train) >= 1
    again = split_events(n, train=train, validation=validation, test=test, seed=seed)
    for first, second in zip(splits, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_pad_events_surplus_hits_are_thinned_and_counted(tmp_path):
    events, dataset = write_small(tmp_path / "set", [3, 6, 0])
    hits, _, dropped = pad_events(dataset, np.array([0, 1, 2]), batch=4, max_hits=4)
    assert hits.shape == (4, 4, 3)
    assert hits.dtype == np.int16
    assert dropped.tolist() == [0, 2, 0, 0]
    assert Counter(map(tuple, hits[1].tolist())) <= Counter(map(tuple, events.hits[3:9].tolist()))
    again = pad_events(dataset, np.array([1]), batch=1, max_hits=4).hits
    np.testing.assert_array_equal(again[0], hits[1])


def source(tmp_path, n=13, batch=4, kind=TrainSource, **options):
    path = tmp_path / "set"
    dataset = Dataset(path) if path.exists() else write_small(path, list(range(n)), shard_events=5)[1]
    seed = {"seed": 3} if issubclass(kind, TrainSource) else {}
    return kind(dataset, np.arange(n), batch=batch, **{"max_hits": 12} | seed | options)


def assert_same_batches(first, second):
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_train_source_shuffles_each_epoch(tmp_path):
    train = source(tmp_path)
    assert train.steps_per_epoch == 3
    orders = [[int(e) for i in range(3) for e in train[3 * epoch + i].event] for epoch in range(3)]
    assert all(len(set(order)) == 12 for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert [int(train[i].step) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert int(train[5].epoch) == 1


@pytest.mark.backlog("B63")
def test_train_source_repeat_every_replays_epochs(tmp_path):
    train = source(tmp_path, repeat_every=2)
    assert_same_batches([train[i] for i in range(6)], [train[i] for i in range(6, 12)])
    assert int(train[7].epoch) == 0


class SlowSource(TrainSource):
    """Records who reads which batch; every second one takes longer, so that threads finish out of order."""

    def __getitem__(self, index):
        self.reads = [*getattr(self, "reads", []), (int(index), threading.current_thread())]
        time.sleep(0.004 * (1 - int(index) % 2))
        return super().__getitem__(index)


@pytest.fixture
def eager_switches():
    """Let threads take turns as often as possible, so that unprotected state shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.backlog("B05")
@pytest.mark.parametrize("threads", sorted({0, 1, 4, 16, DataConfig().threads}))
def test_batches_any_thread_count_gives_the_same_and_resumes(tmp_path, threads, eager_switches):
    expected = [source(tmp_path)[i] for i in range(24)]  # each from a fresh source, eight epochs
    iterator = batches(source(tmp_path, kind=SlowSource), threads=threads, prefetch=8)
    got = [next(iterator) for _ in range(14)]
    state = iterator.get_state()
    iterator.close()
    again = batches(source(tmp_path, kind=SlowSource), threads=threads, prefetch=3)
    again.set_state(state)
    got += [next(again) for _ in range(10)]
    again.close()
    assert_same_batches(got, expected)


@pytest.mark.backlog("B46")
def test_batches_default_settings_read_ahead_of_the_caller(tmp_path):
    """While the caller computes, and asks for nothing, other threads read the next batches."""
    data = DataConfig()
    train = source(tmp_path, kind=SlowSource)
    iterator = batches(train, threads=data.threads, prefetch=data.prefetch_batches)
    next(iterator)
    deadline = time.monotonic() + 10
    while len(train.reads) < 1 + data.prefetch_batches and time.monotonic() < deadline:
        time.sleep(0.005)
    iterator.close()
    assert len(train.reads) >= 1 + data.prefetch_batches > 1
    assert threading.current_thread() not in {thread for _, thread in train.reads}


@pytest.mark.backlog("B46")
def test_batches_without_threads_read_when_asked(tmp_path):
    """The negative control of the test above."""
    train = source(tmp_path, kind=SlowSource)
    iterator = batches(train, threads=0, prefetch=4)
    next(iterator)
    time.sleep(0.05)
    assert train.reads == [(0, threading.current_thread())]
    iterator.close()


def test_batches_close_ends_the_threads(tmp_path):
    before = threading.active_count()
    iterator = batches(source(tmp_path), threads=2, prefetch=2)
    next(iterator)
    iterator.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_evaluation_batches_fill_the_last_with_marked_events(tmp_path):
    train = source(tmp_path)
    evaluation = EvaluationSource(train.dataset, np.arange(2, 12), batch=4, max_hits=12)
    found = list(evaluation_batches(evaluation, threads=1, prefetch=2))
    assert len(evaluation) == len(found) == 3
    assert [int(batch.is_event.sum()) for batch in found] == [4, 4, 2]
    assert np.concatenate([batch.event[batch.is_event] for batch in found]).tolist() == list(range(2, 12))
    assert not np.any(found[-1].hits[2:])


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (np.ones(13, bool), "np.flatnonzero makes them of a mask"),
        (np.array([0.5]), "whole numbers"),
        ([13], "from 0 to 12"),
    ],
)
def test_evaluation_source_what_is_no_event_number_is_refused(tmp_path, events, expected):
    with pytest.raises(ValueError, match=expected):
        EvaluationSource(source(tmp_path).dataset, np.asarray(events), batch=4, max_hits=12)


def test_evaluation_source_ends_under_python_iteration(tmp_path):
    evaluation = EvaluationSource(source(tmp_path).dataset, batch=4, max_hits=12)
    assert len(list(evaluation)) == len(evaluation) == 4  # all 13 events
    for index in (4, -1):
        with pytest.raises(IndexError, match=f"batch {index} of 4"):
            evaluation[index]


def test_sources_too_few_events_are_named(tmp_path):
    with pytest.raises(DataError, match="13 training events do not fill a batch of 14"):
        source(tmp_path, batch=14)
    with pytest.raises(DataError, match="no events to evaluate"):
        EvaluationSource(source(tmp_path).dataset, np.arange(0), batch=2, max_hits=3)


def readme_figures(pattern):
    """The numbers that README gives, by a pattern."""
    found = re.search(pattern, " ".join((ROOT / "README.md").read_text().split()))
    assert found, f"README lacks {pattern}"
    return [int(number) for number in found.groups()]


@pytest.mark.backlog("B09")
def test_train_source_batch_takes_the_bytes_in_readme(tmp_path):
    slot, kib, n_events, n_slots = readme_figures(
        r"(\d+) bytes per hit slot: (\d+) KiB for (\d+) events of (\d+) slots"
    )
    _, dataset = write_small(tmp_path / "set", [2] * n_events)
    train = TrainSource(dataset, np.arange(n_events), batch=n_events, max_hits=n_slots, seed=3)
    assert train[0].hits.nbytes == kib * 1024 == slot * n_events * n_slots
    tracemalloc.start()
    try:
        batch = train[1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * batch.hits.nbytes  # it is made once, and nothing of it twice


@pytest.mark.backlog("B09")
def test_embed_event_takes_the_bytes_in_readme():
    (kib,) = readme_figures(r"embedded image takes (\d+) KiB per event")
    detector = Detector()
    image = jax.eval_shape(partial(embed, n_x=detector.n_x, n_y=detector.n_y), np.zeros((3, 512, 3), np.int16))
    assert image.size * image.dtype.itemsize == 3 * kib * 1024


@pytest.mark.parametrize(("size", "value"), [("batch", 0), ("max_hits", 0), ("max_background", -1)])
@pytest.mark.parametrize("kind", [TrainSource, EvaluationSource])
def test_sources_sizes_below_one_are_refused(tmp_path, kind, size, value):
    with pytest.raises(ValueError, match=f"{size} must be at least"):
        source(tmp_path, kind=kind, **{size: value})


def test_train_source_has_no_batch_before_the_first(tmp_path):
    with pytest.raises(IndexError, match="batch -1: batches are counted from 0"):
        source(tmp_path)[-1]


@given(st.integers(0, 60), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
def test_split_sizes_are_those_of_the_splits(n_events, train, validation, test):
    shares = {"train": train, "validation": validation, "test": test}
    assert split_sizes(n_events, **shares) == tuple(map(len, split_events(n_events, **shares, seed=1)))
