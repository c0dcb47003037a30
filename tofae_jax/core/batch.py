"""The batch of events that a step works on."""

from __future__ import annotations

from typing import Any, NamedTuple


class Batch(NamedTuple):
    """Patterns to be degraded: NumPy arrays on the host, JAX arrays in a step."""

    hits: Any
    """int[batch, k, 3], t = 0 in empty slots"""
    event: Any
    """int[batch]: number of each event in its dataset; an evaluation's draw for an event depends on this alone"""
    is_event: Any
    """bool[batch]: False for the filling of a ragged last batch"""
    epoch: Any
    """int[]: epoch of the draws, from 0"""
    step: Any
    """int[]: step in the epoch, from 0"""
    n_dropped: Any
    """int[batch]: hits of each event that found no slot"""
    background: Any
    """int[batch, b, 3]: hits of the events that are no signal, for the noise profile `data`; b may be 0"""
    tracks: Any = None
    """float32[batch, n, 8] of `models.TRACK_COLUMNS` and `TRUTH_COLUMNS`, momentum 0 in empty slots; None: the model
    needs none"""
