"""The batch of events that a step works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

MOST_CELLS = 2**15 - 1
"""largest pixel or time bin that a detector can have"""


class Batch(NamedTuple):
    """Patterns to be degraded: NumPy arrays on the host, JAX arrays in a step. `from_hits` makes one of hit lists."""

    hits: Any
    """int[batch, k, 3], t = 0 in empty slots"""
    event: Any
    """int[batch]: number of each event in its dataset; an evaluation's draw for an event depends on this alone"""
    is_event: Any
    """bool[batch]: False for the filling of a ragged last batch"""
    epoch: Any
    """int[]: epoch of the draws, from 0"""
    step: Any
    """int[]: step in the epoch, from 0; None: the steps that the train state counts"""
    n_dropped: Any
    """int[batch]: hits of each event that found no slot"""
    background: Any
    """int[batch, b, 3]: hits of the events that are no signal, for the noise profile `data`; b may be 0"""
    tracks: Any = None
    """float32[batch, n, 8] of `models.TRACK_COLUMNS` and `TRUTH_COLUMNS`, momentum 0 in empty slots; None: the model
    needs none"""

    @classmethod
    def from_hits(
        cls,
        hits: Any,
        *,
        event: Any = None,
        epoch: Any = 0,
        step: Any = None,
        background: Any = None,
        tracks: Any = None,
        max_hits: int | None = None,
        shape_xyt: tuple[int, int, int] | None = None,
    ) -> Batch:
        """Make a batch of hit lists.

        Args:
            hits: int[batch, k, 3] of x, y [pixels] and t [time bins], counted from 0, 0 and 1; t = 0 in empty slots,
                which may stand anywhere. Or a sequence of int[n_i, 3], one per event, which is padded with empty slots.
            event: int[batch], number of each event, on which the draws of an evaluation depend; None: 0, 1, 2, ….
            epoch: epoch of the draws of a training step, from 0.
            step: step in the epoch, from 0; None: the steps that the train state counts, so that each step draws anew.
            background: hits of the events that are no signal, like `hits`, for the noise profile `data`.
            tracks: float32[batch, n, 8], for models that are given tracks, see `tracks` of the batch.
            max_hits: slots per event, so that batches have one shape; None: the longest event's, or those of an array.
            shape_xyt: the detector, to check hits on the host; None: only that a detector could have them. A hit
                outside the detector of the step lights no pixel.

        Returns:
            The batch. It may be made within a compiled function, of traced hits.

        Raises:
            ValueError: hits are no integers, of another shape, or on the host and outside the detector; an event has
                more than `max_hits`; `event`, `background` or `tracks` are of another number of events.
        """
        most = (
            (MOST_CELLS, MOST_CELLS, MOST_CELLS)
            if shape_xyt is None
            else (shape_xyt[0] - 1, shape_xyt[1] - 1, shape_xyt[2])
        )
        slots = _in_slots("hits", hits, max_hits, most)
        n_events = slots.shape[0]
        background = None if background is None else _in_slots("background", background, None, most)
        for name, given, n_dims in (("event", event, 1), ("background", background, 3), ("tracks", tracks, 3)):
            if given is not None and (np.ndim(given) != n_dims or np.shape(given)[0] != n_events):
                raise ValueError(f"{name} must be of {n_events} events, got shape {list(np.shape(given))}")
        empty = np.zeros((n_events, 0, 3), np.int16)
        return cls(
            slots,
            np.arange(n_events, dtype=np.int32) if event is None else event,
            np.ones(n_events, bool),
            _int32(epoch),
            None if step is None else _int32(step),
            np.zeros(n_events, np.int32),
            empty if background is None else background,
            tracks,
        )


def _int32(number: Any) -> Any:
    return np.int32(number) if isinstance(number, int) else number


def _in_slots(name: str, hits: Any, max_hits: int | None, most: tuple[int, int, int]) -> Any:
    """Return int[batch, k, 3] of hit lists."""
    if isinstance(hits, Sequence):
        events = [np.asarray(event) for event in hits]
        for i, event in enumerate(events):
            is_list = event.ndim == 2 and event.shape[1] == 3 and np.issubdtype(event.dtype, np.integer)
            if event.size and not is_list:
                raise ValueError(
                    f"{name} of event {i} must be integers [n, 3] of x, y, t, got {event.dtype}{list(event.shape)}"
                )
        longest = max((len(event) for event in events), default=0)
        if max_hits is not None and longest > max_hits:
            raise ValueError(f"{name}: an event has {longest} hits, more than max_hits {max_hits}")
        padded = np.zeros((len(events), longest if max_hits is None else max_hits, 3), np.int32)
        for row, event in zip(padded, events, strict=True):
            _check_cells(name, event, most)
            row[: len(event)] = event.reshape(-1, 3)
        hits = padded
    if np.ndim(hits) != 3 or np.shape(hits)[2] != 3 or not np.issubdtype(hits.dtype, np.integer):
        raise ValueError(f"{name} must be integers [batch, k, 3] of x, y, t, got {hits.dtype}{list(np.shape(hits))}")
    if isinstance(hits, np.ndarray):
        _check_cells(name, hits, most)
    if max_hits is not None and np.shape(hits)[1] != max_hits:
        missing = max_hits - np.shape(hits)[1]
        if missing < 0:
            raise ValueError(f"{name} have {np.shape(hits)[1]} slots, more than max_hits {max_hits}")
        pad = np.pad if isinstance(hits, np.ndarray) else jnp.pad
        hits = pad(hits, ((0, 0), (0, missing), (0, 0)))
    return hits


def _check_cells(name: str, hits: np.ndarray, most: tuple[int, int, int]) -> None:
    cells = hits.reshape(-1, 3)
    if not len(cells):
        return
    for axis, low, high, limit in zip("xyt", cells.min(0), cells.max(0), most, strict=True):
        if not 0 <= low <= high <= limit:
            raise ValueError(f"{name}: {axis} must be from 0 to {limit}, got {low} to {high}")
