"""Where events come from: a dataset on disk, or a simulation that makes them when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events
from tofae_jax.data.tracks import Tracks


def origin_of(events: Events) -> np.ndarray | None:
    """What made each hit, 0 for signal, from the hit column `origin`; None where there is none of our kind, int8[n].

    A column of that name and another type is somebody else's, and means nothing here.
    """
    column = events.hit_columns.get("origin")
    return column if column is not None and column.dtype == np.int8 and column.ndim == 1 else None


@runtime_checkable
class EventStore(Protocol):
    """Events by number, 0 to `len(store) - 1`."""

    @property
    def name(self) -> str:
        """For people: the dataset's path, or what is simulated."""
        ...

    @property
    def detector(self) -> Detector:
        """Shape and scale of the detector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short hash of all that decides the events."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """How the events came to be, as JSON values."""
        ...

    @property
    def has_origins(self) -> bool:
        """Whether the hits have a column `origin` (`origin_of`), so that some may be background."""
        ...

    @property
    def is_generative(self) -> bool:
        """Whether every epoch can have new events."""
        ...

    def __len__(self) -> int: ...

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Events]:
        """Events `start` to `stop - 1` in order, in parts."""
        ...

    def per_event_hits(self, events: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Hits of each event, int16[n, 3], and their origins, or None where all are signal."""
        ...

    def per_event_tracks(self, events: np.ndarray) -> Tracks | None:
        """Tracks of these events; None where none are known."""
        ...

    def event_column(self, name: str, events: np.ndarray) -> np.ndarray | None:
        """Values of an event column; None where there is no such column."""
        ...

    def events_for_epoch(self, events: np.ndarray, epoch: int) -> np.ndarray:
        """Which events an epoch, from 0, trains on in place of these: the same, or fresh ones where they never end."""
        ...
