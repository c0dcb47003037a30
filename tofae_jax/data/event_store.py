"""Interface of event sources: a dataset on disk, or a simulation that draws events on demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import Events
from tofae_jax.data.tracks import Tracks


def origin_of(events: Events) -> np.ndarray | None:
    """Return the origin of each hit, int8[n_hits], 0 for signal, from the hit column `origin`; None if there is none.

    A column of that name with another type comes from another program and is ignored.
    """
    column = events.hit_columns.get("origin")
    return column if column is not None and column.dtype == np.int8 and column.ndim == 1 else None


@runtime_checkable
class EventStore(Protocol):
    """Events by number, 0 to `len(store) - 1`."""

    @property
    def name(self) -> str:
        """Name in messages: the path of the dataset, or a description of the simulation."""
        ...

    @property
    def detector(self) -> Detector:
        """Shape and scale of the detector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that determines the events."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Origin of the events, as JSON values."""
        ...

    @property
    def has_origins(self) -> bool:
        """Whether the hits have a column `origin` (see `origin_of`), so some may be background."""
        ...

    @property
    def is_generative(self) -> bool:
        """Whether new events can be drawn for every epoch."""
        ...

    def __len__(self) -> int: ...

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Events]:
        """Yield events `start` to `stop - 1` in order, in parts."""
        ...

    def per_event_hits(self, events: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the hits of each event, int16[n, 3], and their origins, or None if all are signal."""
        ...

    def per_event_tracks(self, events: np.ndarray) -> Tracks | None:
        """Return the tracks of these events; None if they are unknown."""
        ...

    def event_column(self, name: str, events: np.ndarray) -> np.ndarray | None:
        """Return the values of an event column; None if there is no such column."""
        ...

    def events_for_epoch(self, events: np.ndarray, epoch: int) -> np.ndarray:
        """Return the events that an epoch, from 0, trains on instead of these: the same, or new ones if generative."""
        ...
