"""How many pixels and hits of each class the events of a dataset have, before any training."""

from __future__ import annotations

import numpy as np

from tofae_jax.data.event_store import EventStore, origin_of
from tofae_jax.data.events import DataError, select_hits


def pixels_and_hits(dataset: EventStore) -> tuple[np.ndarray, np.ndarray]:
    """Number of pixels that each event's signal lights, and of its hits, int64[n_events]; hits may share a pixel."""
    n_x, n_y, _ = dataset.detector.shape
    pixels, hits = [], []
    for events in dataset.events():
        origin = origin_of(events)
        events = events if origin is None else select_hits(events, origin == 0)
        number = np.repeat(np.arange(events.n_events), events.counts)
        x, y = events.hits[:, 0].astype(np.int64), events.hits[:, 1].astype(np.int64)
        lit = np.unique((number * n_y + y) * n_x + x)
        pixels.append(np.bincount(lit // (n_y * n_x), minlength=events.n_events))
        hits.append(events.counts)
    return np.concatenate(pixels), np.concatenate(hits)


def kept_hits(available: np.ndarray, n_kept: tuple[int, int]) -> float:
    """Mean number of hits that sparsifying to a number drawn from the range keeps, of events with `available` hits.

    Events with fewer than the number drawn keep all of theirs.
    """
    drawn = np.arange(n_kept[0], n_kept[1] + 1)
    counts, times = np.unique(available, return_counts=True)
    return float(np.average(np.minimum(counts[:, None], drawn).mean(axis=1), weights=times))


def class_sizes(
    dataset: EventStore,
    events: np.ndarray,
    *,
    target: str,
    n_signal: tuple[int, int],
    n_noise: tuple[int, int],
    max_hits: int,
) -> dict[str, float]:
    """Mean number per event of `zero` and `hit` pixels of the target, and of `signal` and `noise` hits of the input.

    Counted over the given events of the dataset, before smearing. A `pattern` target lights all pixels of the pattern;
    a `signal` target those of the kept hits, which are taken to lie on pixels of their own. Of an event with more than
    `max_hits` hits a random subset counts, whose share of the pixels is taken to be its share of the hits. DataError
    where a class is empty, as no ratio to it exists.
    """
    pixels, hits = pixels_and_hits(dataset)
    pixels, hits = pixels * np.minimum(1, max_hits / np.maximum(hits, 1)), np.minimum(hits, max_hits)
    signal = kept_hits(hits[events], n_signal)
    n_x, n_y, _ = dataset.detector.shape
    hit = float(np.mean(pixels[events])) if target == "pattern" else signal
    return {"zero": n_x * n_y - hit, "hit": hit, "signal": signal, "noise": (n_noise[0] + n_noise[1]) / 2}


def class_ratio(sizes: dict[str, float], of: str, to: str) -> float:
    """Size of class `of` per size of class `to`; DataError where either is empty: its weight would be 0 or infinite."""
    for name in (of, to):
        if sizes[name] <= 0:
            raise DataError(f"an automatic weight needs the ratio of {of} to {to}, but there is no {name} in the data")
    return sizes[of] / sizes[to]
