"""Simulated events without a dataset: made when they are asked for, new ones in every epoch, the same by the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from tofae_jax.config import parse_mixture
from tofae_jax.core.detector import Detector
from tofae_jax.data.event_store import origin_of
from tofae_jax.data.events import Events, concatenate, slice_events
from tofae_jax.data.simulated import PATTERN_GENERATOR
from tofae_jax.data.simulated.mixtures import BLOCK_EVENTS, block_drawer
from tofae_jax.data.tracks import Tracks, tracks_of

CHUNK_EVENTS = 1000
MOST_BLOCKS = 8  # kept: events are asked for in order, by several readers
FRESH_FROM = 2**30
MOST_EVENTS = 2**31 - 1  # event numbers of a batch are int32


def numbered_patterns(
    seed: int, *, detector: Detector, weights: Mapping[str, float], n_tracks: tuple[int, int] = (1, 1)
) -> Callable[[np.ndarray], Events]:
    """What gives the events of any numbers of the list that `simulate_patterns` begins; ValueError as there."""
    block_of = lru_cache(maxsize=MOST_BLOCKS)(block_drawer(seed, detector=detector, weights=weights, n_tracks=n_tracks))

    def draw(numbers: np.ndarray) -> Events:
        blocks, places = np.divmod(np.asarray(numbers, np.int64), BLOCK_EVENTS)
        pairs = zip(blocks.tolist(), places.tolist(), strict=True)
        return concatenate(slice_events(block_of(block), place, place + 1) for block, place in pairs)

    return draw


class SimulatedEvents:
    """An `EventStore` whose events 0 to n - 1 stay, for validation and test; training has new ones in every epoch.

    Those begin at number 2^30, beyond any dataset that is simulated with the same seed, so that one holds no event that
    a run was trained on.

    Args:
        draw: makes the events of any numbers, int64[n]; a pure function.
        n_events: events that stay, and events of an epoch.
        detector: shape and scale of the detector.
        provenance: all that decides the events, as JSON values.

    Raises:
        ValueError: more than 2^30 events.
    """

    def __init__(
        self,
        draw: Callable[[np.ndarray], Events],
        *,
        n_events: int,
        detector: Detector,
        provenance: Mapping[str, Any],
    ) -> None:
        """Prepare; nothing is drawn yet."""
        if n_events > FRESH_FROM:
            raise ValueError(f"events is {n_events}, allowed: at most {FRESH_FROM}")
        self._draw, self._n_events, self._detector = draw, n_events, detector
        self._provenance = dict(provenance)
        self._remembered = lru_cache(maxsize=MOST_BLOCKS)(lambda numbers: draw(np.frombuffer(numbers, np.int64)))

    def __len__(self) -> int:
        return self._n_events

    @property
    def name(self) -> str:
        """What is simulated."""
        return f"simulated {self._provenance.get('pattern', 'events')}"

    @property
    def detector(self) -> Detector:
        """Shape and scale of the detector."""
        return self._detector

    @property
    def provenance(self) -> dict[str, Any]:
        """How the events come to be."""
        return self._provenance

    @property
    def fingerprint(self) -> str:
        """Short hash of all that decides the events."""
        all_of_it = msgspec.json.encode((self._provenance, self._detector, self._n_events), order="sorted")
        return hashlib.sha256(all_of_it).hexdigest()[:16]

    @property
    def has_origins(self) -> bool:
        """Whether some hits may be background."""
        return origin_of(self._draw(np.zeros(1, np.int64))) is not None

    @property
    def is_generative(self) -> bool:
        """There are new events whenever they are asked for."""
        return True

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Events]:
        """Events `start` to `stop - 1` in order, in parts."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, CHUNK_EVENTS):
            yield self._draw(np.arange(first, min(first + CHUNK_EVENTS, stop)))

    def per_event_hits(self, events: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Hits of each event and their origins."""
        drawn = self._drawn(events)
        origin = origin_of(drawn)
        for start, stop in pairwise(drawn.offsets.tolist()):
            yield drawn.hits[start:stop], None if origin is None else origin[start:stop]

    def per_event_tracks(self, events: np.ndarray) -> Tracks | None:
        """Tracks of these events; None where none are known."""
        return tracks_of(self._drawn(events))

    def event_column(self, name: str, events: np.ndarray) -> np.ndarray | None:
        """Values of an event column; None where there is no such column."""
        return self._drawn(events).event_columns.get(name)

    def _drawn(self, events: np.ndarray) -> Events:
        """Drawn once for all that is asked about the same events, one question after the other."""
        return self._remembered(np.asarray(events, np.int64).tobytes())

    def events_for_epoch(self, events: np.ndarray, epoch: int) -> np.ndarray:
        """Events that no other epoch has, nor validation and test, nor a dataset of the same simulation."""
        numbers = np.asarray(events, np.int64) + FRESH_FROM + epoch * len(self)
        if len(numbers) and numbers.max() > MOST_EVENTS:
            raise ValueError(f"epoch {epoch + 1}: the simulation has no more than {MOST_EVENTS} events")
        return numbers


def pattern_stream(
    pattern: str = "v",
    *,
    detector: Detector,
    n_events: int,
    tracks: tuple[int, int] = (1, 1),
    seed: int = 0,
) -> SimulatedEvents:
    """Simulate toy patterns as they are asked for; training gets new events in every epoch.

    Args:
        pattern: name of a pattern, or a mixture such as `v=2,parabola=1`; see `tofae_jax simulate --help`.
        detector: shape and scale of the detector.
        n_events: events that stay the same, for validation and test, and events of an epoch.
        tracks: inclusive range of tracks per event.
        seed: of the simulation; the same seed gives the same events, those of `simulate_patterns` first.

    Returns:
        An event store, for `TrainSource`, `EvaluationSource` and `evaluate`.

    Raises:
        ValueError: an unknown pattern, or a number that is not allowed.
    """
    draw = numbered_patterns(seed, detector=detector, weights=parse_mixture(pattern), n_tracks=tracks)
    provenance = {"generator": PATTERN_GENERATOR, "pattern": pattern, "tracks": list(tracks), "seed": seed}
    return SimulatedEvents(draw, n_events=n_events, detector=detector, provenance=provenance)
