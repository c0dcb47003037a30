"""Tracks of events as models take them: from columns of any file or simulation to padded tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tofae_jax.core.detector import TRACK_COLUMNS, TRUTH_COLUMNS
from tofae_jax.data.events import DataError, Events

WINDOW_START = "window_start_ns"
"""event column: start of the time window after the bunch crossing"""
GIVEN = TRACK_COLUMNS[:5]
TRUE = ("particle", "arrival_ns")
"""track columns of simulations that the truth is computed from"""

LIMITS = {
    "x_mm": (-1e5, 1e5),
    "y_mm": (-1e5, 1e5),
    "slope_x": (-10.0, 10.0),
    "slope_y": (-10.0, 10.0),
    "momentum_gev": (1e-3, 1e3),  # in MeV it would be above
    WINDOW_START: (-1e4, 1e4),  # float32 resolves a picosecond there
}
"""what is taken for a track, as simulations draw them at most; others are sentinels, or in other units"""


class Tracks(NamedTuple):
    """Tracks of some events, one after the other."""

    counts: np.ndarray
    """int64[n_events]"""
    columns: Mapping[str, np.ndarray]
    """by name, [n_tracks]"""
    window_start_ns: np.ndarray | None
    """[n_events]; None: not known"""


def tracks_of(events: Events) -> Tracks | None:
    """The tracks of events; None where none are known."""
    if events.track_offsets is None:
        return None
    return Tracks(np.diff(events.track_offsets), events.track_columns, events.event_columns.get(WINDOW_START))


def track_table(tracks: Tracks | None, *, slots: int, with_truth: bool = False, where: str = "events") -> np.ndarray:
    """Padded tracks, float32[n_events, slots, 8] of `TRACK_COLUMNS` and `TRUTH_COLUMNS`; empty slots are 0.

    Args:
        tracks: of the events; DataError where they are None or lack a column, or a number means nothing.
        slots: DataError where an event has more tracks.
        with_truth: whether the truth is needed; without it, its columns are 0.
        where: what to name in errors.
    """
    if tracks is None:
        raise DataError(f"{where}: no tracks are known of its events, and the model needs them")
    needed = (*GIVEN, *TRUE) if with_truth else GIVEN
    missing = [name for name in needed if name not in tracks.columns]
    missing += [WINDOW_START] if tracks.window_start_ns is None else []
    if missing:
        raise DataError(
            f"{where}: its tracks lack {', '.join(missing)}; there are {', '.join(tracks.columns) or 'none'}"
        )
    if len(tracks.counts) and tracks.counts.max() > slots:
        event = int(tracks.counts.argmax())
        raise DataError(
            f"{where}: an event (number {event} of a batch, from 0) has {tracks.counts[event]} tracks, "
            f"data.max_tracks is {slots}"
        )
    window_start_ns = np.repeat(np.asarray(tracks.window_start_ns, np.float64), tracks.counts)
    _check({**tracks.columns, WINDOW_START: window_start_ns}, where)
    start = window_start_ns.astype(np.float32)
    columns = [np.asarray(tracks.columns[name], np.float32) for name in GIVEN]
    columns.append(-start)
    if with_truth:
        from tofae_jax.lhcb_torch.optics import MASSES_GEV  # here: it loads jax, and datasets do not need it

        particle = np.asarray(tracks.columns["particle"], np.int64)
        if np.any((particle < 0) | (particle >= len(MASSES_GEV))):
            wrong = particle[(particle < 0) | (particle >= len(MASSES_GEV))][0]
            raise DataError(f"{where}: particle must be from 0 to {len(MASSES_GEV) - 1}, got {wrong}")
        mass, momentum = np.asarray(MASSES_GEV, np.float32)[particle], columns[GIVEN.index("momentum_gev")]
        columns += [np.asarray(tracks.columns["arrival_ns"], np.float32) - start, momentum / np.hypot(momentum, mass)]
    known = np.stack(columns, axis=-1) if len(start) else np.zeros((0, len(columns)), np.float32)
    if not np.all(np.isfinite(known)):
        raise DataError(f"{where}: arrival_ns of some tracks is not finite")
    table = np.zeros((len(tracks.counts), slots, len(TRACK_COLUMNS) + len(TRUTH_COLUMNS)), np.float32)
    filled = np.arange(slots) < tracks.counts[:, None]
    rows = np.zeros((len(known), table.shape[-1]), np.float32)
    rows[:, : known.shape[1]] = known
    table[filled] = rows
    return table


def _check(columns: Mapping[str, np.ndarray], where: str) -> None:
    """DataError for what cannot be a track, naming the first such number."""
    for name, (low, high) in LIMITS.items():
        values = np.asarray(columns[name])
        bad = ~((values >= low) & (values <= high))  # NaN too
        if np.any(bad):
            n_bad, first = int(bad.sum()), values[bad][0]
            raise DataError(f"{where}: {name} is {first:g} ({n_bad} such tracks), allowed: {low:g} to {high:g}")
