"""From a dataset to batches: splits, shuffling, padding, reading ahead with Grain.

Grain's cost is per record, so one record is one whole batch: a pure function of the seed and the batch's number. The
position in the stream is then a single integer, and any number of threads gives the same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from tofae_jax.datasets.events import DataError
from tofae_jax.datasets.format import Dataset
from tofae_jax.steps import Batch


class Splits(NamedTuple):
    """Disjoint event numbers."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_events(n_events: int, *, train: float, validation: float, test: float, seed: int) -> Splits:
    """Deal `n_events` events into disjoint sets by share, at random by `seed`. The training set is never empty."""
    order = np.random.default_rng([seed, n_events]).permutation(n_events)
    n_validation, n_test = round(validation * n_events), round(test * n_events)
    n_train = min(max(round(train * n_events), 1), n_events)
    n_test = min(n_test, n_events - n_train)
    n_validation = min(n_validation, n_events - n_train - n_test)
    stops = np.cumsum([n_train, n_validation, n_test])
    return Splits(*(np.sort(part) for part in np.split(order, stops)[:3]))


def pad_events(dataset: Dataset, events: np.ndarray, *, batch: int, max_hits: int) -> tuple[np.ndarray, np.ndarray]:
    """Hit lists of the events, zero-padded to `int16[batch, max_hits, 3]`, and how many hits of each did not fit.

    An event with more hits keeps a random subset, in order, that depends on its number alone.
    """
    hits = np.zeros((batch, max_hits, 3), np.int16)
    n_dropped = np.zeros(batch, np.int32)
    for row, own in enumerate(dataset.hits_of_each(events)):
        if len(own) > max_hits:
            n_dropped[row] = len(own) - max_hits
            keep = np.random.default_rng([int(events[row]), max_hits]).choice(len(own), max_hits, replace=False)
            own = own[np.sort(keep)]
        hits[row, : len(own)] = own
    return hits, n_dropped


class TrainSource:
    """Endless training batches: item `i` is step `i % steps` of epoch `i // steps`, a pure function of `i`.

    Each epoch is shuffled anew; events that do not fill a last batch sit that epoch out. With `repeat_every = k`, epoch
    `e` is epoch `e % k` again: same order, same draws.
    """

    def __init__(
        self, dataset: Dataset, events: np.ndarray, *, batch: int, max_hits: int, seed: int, repeat_every: int = 0
    ) -> None:
        """Prepare the source; DataError where there are fewer events than one batch."""
        if len(events) < batch:
            raise DataError(
                f"{dataset.path}: {len(events)} training events do not fill a batch of {batch}; "
                "make train.batch smaller or the dataset larger"
            )
        self.dataset, self.events, self.batch, self.max_hits = dataset, events, batch, max_hits
        self.seed, self.repeat_every = seed, repeat_every
        self.steps_per_epoch = len(events) // batch
        self._order: tuple[int, np.ndarray] = (-1, events)

    @property
    def fingerprint(self) -> str:
        """Short hash of all that decides what batch `i` is: a position means nothing in another source."""
        numbers = (self.batch, self.max_hits, self.seed, self.repeat_every)
        return hashlib.sha256(repr((self.dataset.fingerprint, numbers)).encode() + self.events.tobytes()).hexdigest()[
            :16
        ]

    def __len__(self) -> int:
        return 2**40  # endless; the loop counts epochs

    def __getitem__(self, index: Any) -> Batch:
        epoch, step = divmod(int(index), self.steps_per_epoch)
        epoch = epoch % self.repeat_every if self.repeat_every else epoch
        known, order = self._order
        if known != epoch:
            order = self.events[np.random.default_rng([self.seed, epoch]).permutation(len(self.events))]
            self._order = (epoch, order)
        chosen = order[step * self.batch : (step + 1) * self.batch]
        hits, n_dropped = pad_events(self.dataset, chosen, batch=self.batch, max_hits=self.max_hits)
        return Batch(
            hits, chosen.astype(np.int32), np.ones(self.batch, bool), np.int32(epoch), np.int32(step), n_dropped
        )


class EvaluationSource:
    """All events once, in order, the last batch filled up with marked empty events."""

    def __init__(self, dataset: Dataset, events: np.ndarray, *, batch: int, max_hits: int) -> None:
        """Prepare the source; DataError where there are no events."""
        if not len(events):
            raise DataError(f"{dataset.path}: no events to evaluate; its share of the dataset is too small")
        self.dataset, self.events, self.batch, self.max_hits = dataset, events, batch, max_hits

    def __len__(self) -> int:
        return (len(self.events) + self.batch - 1) // self.batch

    def __getitem__(self, index: Any) -> Batch:
        chosen = self.events[int(index) * self.batch : (int(index) + 1) * self.batch]
        hits, n_dropped = pad_events(self.dataset, chosen, batch=self.batch, max_hits=self.max_hits)
        event = np.zeros(self.batch, np.int32)
        event[: len(chosen)] = chosen
        is_event = np.arange(self.batch) < len(chosen)
        return Batch(hits, event, is_event, np.int32(0), np.int32(index), n_dropped)


def batches(source: TrainSource | EvaluationSource, *, threads: int, prefetch: int) -> Any:
    """Iterator over the batches of a source that reads ahead in `threads` threads (0: in the caller's).

    It has `get_state` and `set_state`; the state is the number of batches delivered. Close it when done.
    """
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch if threads else 0)
    return iter(grain.MapDataset.source(source).to_iter_dataset(options))


def evaluation_batches(source: EvaluationSource, *, threads: int, prefetch: int) -> Iterator[Batch]:
    """All batches of an evaluation, in order."""
    iterator = batches(source, threads=threads, prefetch=prefetch)
    try:
        yield from iterator
    finally:
        iterator.close()
