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

from tofae_jax.config import DataConfig
from tofae_jax.core.batch import Batch
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError
from tofae_jax.data.tracks import track_table


class Splits(NamedTuple):
    """Event numbers of the training, validation and test sets, which are disjoint."""

    train: np.ndarray
    """int64[n], rising"""
    validation: np.ndarray
    """int64[n], rising"""
    test: np.ndarray
    """int64[n], rising"""


def split_events(n_events: int, *, train: float, validation: float, test: float, seed: int) -> Splits:
    """Divide events into disjoint sets at random.

    Args:
        n_events: events of the dataset.
        train: fraction of the training set, which gets at least one event if there is any.
        validation: fraction of the validation set.
        test: fraction of the test set.
        seed: of the draw, from 0.

    Returns:
        Event numbers of each set, int64[n], rising; the same for the same `n_events`, fractions and seed. Counts are
        rounded. Events beyond the fractions are in no set; where the fractions exceed 1, validation gets fewer, then
        test.

    Raises:
        ValueError: `n_events` or `seed` is negative.
    """
    order = np.random.default_rng([seed, n_events]).permutation(n_events)
    stops = np.cumsum(split_sizes(n_events, train=train, validation=validation, test=test))
    return Splits(*(np.sort(part) for part in np.split(order, stops)[:3]))


def split_sizes(n_events: int, *, train: float, validation: float, test: float) -> tuple[int, int, int]:
    """Return how many events `split_events` gives to training, validation and test."""
    n_train = min(max(round(train * n_events), 1), n_events)
    n_test = min(round(test * n_events), n_events - n_train)
    return n_train, min(round(validation * n_events), n_events - n_train - n_test), n_test


class Padded(NamedTuple):
    """Hit lists of some events in slots."""

    hits: np.ndarray
    """int16[batch, max_hits, 3]: signal, or all hits where origins are not known"""
    background: np.ndarray
    """int16[batch, max_background, 3]: hits of other origins"""
    n_dropped: np.ndarray
    """int32[batch]: hits of each event that found no slot"""


def pad_events(store: EventStore, events: np.ndarray, *, batch: int, max_hits: int, max_background: int = 0) -> Padded:
    """Hit lists of the events, zero-padded, signal and background apart.

    An event with more hits than slots keeps a random subset, in order, that depends on its number alone. Without slots
    for it, background is left out and not counted as dropped.
    """
    hits = np.zeros((batch, max_hits, 3), np.int16)
    background = np.zeros((batch, max_background, 3), np.int16)
    n_dropped = np.zeros(batch, np.int32)
    for row, (own, origin) in enumerate(store.per_event_hits(events)):
        number = int(events[row])
        if origin is not None:
            if max_background:
                n_dropped[row] += _fill(background[row], own[origin > 0], (number, max_background, 1))
            own = own[origin == 0]
        n_dropped[row] += _fill(hits[row], own, (number, max_hits))
    return Padded(hits, background, n_dropped)


def _fill(slots: np.ndarray, hits: np.ndarray, seed: tuple[int, ...]) -> int:
    """Put the hits, or a random subset of them, into the slots; returns how many found none."""
    n_dropped = max(0, len(hits) - len(slots))
    if n_dropped:
        hits = hits[np.sort(np.random.default_rng(list(seed)).choice(len(hits), len(slots), replace=False))]
    slots[: len(hits)] = hits
    return n_dropped


class TrackSlots(NamedTuple):
    """Slots for tracks in batches, and whether these have the truth of the tracks too."""

    slots: int = 0
    """slots of an event's tracks; 0: batches have no tracks"""
    with_truth: bool = False
    """whether the columns `TRUTH_COLUMNS` are filled, for models that learn to find tracks"""


NO_TRACKS = TrackSlots()


def _tracks(store: EventStore, events: np.ndarray, batch: int, wanted: TrackSlots) -> np.ndarray | None:
    if not wanted.slots:
        return None
    found = store.per_event_tracks(events)
    table = track_table(found, slots=wanted.slots, with_truth=wanted.with_truth, where=store.name)
    return np.concatenate([table, np.zeros((batch - len(table), *table.shape[1:]), np.float32)])


_DEFAULTS = DataConfig()


def _numbers_of(dataset: EventStore, events: np.ndarray | None) -> np.ndarray:
    """Return event numbers, all for None; ValueError for a mask, fractions, or numbers that the dataset lacks."""
    if events is None:
        return np.arange(len(dataset))
    numbers = np.asarray(events)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        hint = "; np.flatnonzero makes them of a mask" if numbers.dtype == bool else ""
        raise ValueError(f"events must be whole numbers [n], got {numbers.dtype}{list(numbers.shape)}{hint}")
    most = len(dataset) if not dataset.is_generative else np.iinfo(np.int32).max
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < most):
        raise ValueError(f"events must be from 0 to {most - 1}, got {numbers.min()} to {numbers.max()}")
    return numbers


def _check_sizes(batch: int, max_hits: int, max_background: int) -> None:
    for name, size, least in (("batch", batch, 1), ("max_hits", max_hits, 1), ("max_background", max_background, 0)):
        if size < least:
            raise ValueError(f"{name} must be at least {least}, got {size}")


class TrainSource:
    """Endless training batches, a Grain source: item `i` is step `i % steps_per_epoch` of epoch `i // steps_per_epoch`.

    Each item is a `Batch` and a pure function of its number. Each epoch has an order of its own; events that do not
    fill a last batch are left out of that epoch. A simulated store gives new events in every epoch.

    Args:
        dataset: a `Dataset`, or simulated events.
        events: int[n], the events to train on, e.g. `split_events(...).train`; None: all.
        batch: events per batch.
        max_hits: slots of an event's hits; events with more keep a random subset.
        seed: of the order.
        max_background: slots of background hits, for the noise profile `data`.
        tracks: whether batches have tracks.
        repeat_every: with k > 0, epoch e is epoch e % k again: same order, same draws.

    Raises:
        DataError: there are fewer events than one batch has.
        ValueError: a size below 1; event numbers that the dataset does not have.
    """

    def __init__(
        self,
        dataset: EventStore,
        events: np.ndarray | None = None,
        *,
        batch: int,
        max_hits: int = _DEFAULTS.max_hits,
        seed: int = 0,
        max_background: int = 0,
        tracks: TrackSlots = NO_TRACKS,
        repeat_every: int = 0,
    ) -> None:
        """Prepare the source; nothing is read yet."""
        _check_sizes(batch, max_hits, max_background)
        events = _numbers_of(dataset, events)
        if len(events) < batch:
            raise DataError(
                f"{dataset.name}: {len(events)} training events do not fill a batch of {batch}; "
                "make train.batch smaller or the dataset larger"
            )
        self.dataset, self.events, self.batch = dataset, events, batch
        self.max_hits, self.max_background = max_hits, max_background
        self.seed, self.repeat_every, self.tracks = seed, repeat_every, tracks
        self.steps_per_epoch = len(events) // batch
        self._order: tuple[int, np.ndarray] = (-1, events)

    @property
    def fingerprint(self) -> str:
        """Short hash of all that decides what batch `i` is: a position means nothing in another source."""
        numbers = (self.batch, self.max_hits, self.seed, self.repeat_every)
        numbers += (self.max_background,) if self.max_background else ()
        numbers += self.tracks if self.tracks.slots else ()
        return hashlib.sha256(repr((self.dataset.fingerprint, numbers)).encode() + self.events.tobytes()).hexdigest()[
            :16
        ]

    def __len__(self) -> int:
        return 2**40  # endless; the loop counts epochs

    def __getitem__(self, index: Any) -> Batch:
        if int(index) < 0:
            raise IndexError(f"batch {index}: batches are counted from 0, and have no end")
        epoch, step = divmod(int(index), self.steps_per_epoch)
        epoch = epoch % self.repeat_every if self.repeat_every else epoch
        known, order = self._order
        if known != epoch:
            order = self.events
            if not self.dataset.is_generative:  # new events need no shuffling
                order = order[np.random.default_rng([self.seed, epoch]).permutation(len(order))]
            self._order = (epoch, order)
        chosen = order[step * self.batch : (step + 1) * self.batch]
        chosen = self.dataset.events_for_epoch(chosen, epoch)
        padded = pad_events(
            self.dataset, chosen, batch=self.batch, max_hits=self.max_hits, max_background=self.max_background
        )
        return Batch(
            padded.hits,
            chosen.astype(np.int32),
            np.ones(self.batch, bool),
            np.int32(epoch),
            np.int32(step),
            padded.n_dropped,
            padded.background,
            _tracks(self.dataset, chosen, self.batch, self.tracks),
        )


class EvaluationSource:
    """Batches of events to evaluate, a Grain source: all events once, in order.

    The last batch is filled up with empty events, which `is_event` marks.

    Args:
        dataset: a `Dataset`, or simulated events.
        events: int[n], the events to evaluate; None: all.
        batch: events per batch.
        max_hits: slots of an event's hits; events with more keep a random subset.
        max_background: slots of background hits, for the noise profile `data`.
        tracks: whether batches have tracks.

    Raises:
        DataError: there are no events.
        ValueError: a size below 1; event numbers that the dataset does not have.
    """

    def __init__(
        self,
        dataset: EventStore,
        events: np.ndarray | None = None,
        *,
        batch: int,
        max_hits: int = _DEFAULTS.max_hits,
        max_background: int = 0,
        tracks: TrackSlots = NO_TRACKS,
    ) -> None:
        """Prepare the source; nothing is read yet."""
        _check_sizes(batch, max_hits, max_background)
        events = _numbers_of(dataset, events)
        if not len(events):
            raise DataError(f"{dataset.name}: no events to evaluate; its share of the dataset is too small")
        self.dataset, self.events, self.batch = dataset, events, batch
        self.max_hits, self.max_background, self.tracks = max_hits, max_background, tracks

    def __len__(self) -> int:
        return (len(self.events) + self.batch - 1) // self.batch

    def __getitem__(self, index: Any) -> Batch:
        if not 0 <= int(index) < len(self):
            raise IndexError(f"batch {index} of {len(self)}")  # Python's own iteration ends by it
        chosen = self.events[int(index) * self.batch : (int(index) + 1) * self.batch]
        padded = pad_events(
            self.dataset, chosen, batch=self.batch, max_hits=self.max_hits, max_background=self.max_background
        )
        event = np.zeros(self.batch, np.int32)
        event[: len(chosen)] = chosen
        is_event = np.arange(self.batch) < len(chosen)
        tracks = _tracks(self.dataset, chosen, self.batch, self.tracks)
        return Batch(
            padded.hits, event, is_event, np.int32(0), np.int32(index), padded.n_dropped, padded.background, tracks
        )


def batches(
    source: TrainSource | EvaluationSource,
    *,
    threads: int = _DEFAULTS.threads,
    prefetch: int = _DEFAULTS.prefetch_batches,
) -> Any:
    """Iterate over the batches of a source, reading ahead with Grain.

    Args:
        source: a `TrainSource`, which never ends, or an `EvaluationSource`.
        threads: threads that read ahead, 0: the caller's; any number gives the same data.
        prefetch: batches held ready.

    Returns:
        A Grain iterator with `get_state` and `set_state`, whose state is the number of batches delivered, and `close`.
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
