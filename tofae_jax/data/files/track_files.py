"""Read tracks from a separate file, for events whose own file has none.

A table of one row per track: the number of its `event`, `x_mm, y_mm, slope_x, slope_y, momentum_gev`, and, if the
events have none, `window_start_ns`, the same for all tracks of an event. Rows may have any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.convert import numbered_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events, offsets_from_counts
from tofae_jax.data.files.hit_rows import event_numbers
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.read import read_table
from tofae_jax.data.files.registry import format_of, track_endings
from tofae_jax.data.tracks import GIVEN, WINDOW_START

_EVENT = "event"
_NEEDED = (_EVENT, *GIVEN)
_SAME_NS = 1e-3  # windows whose starts differ by less are the same, written with more or fewer digits
_LIMITS = Limits()


class TrackFile:
    """Tracks by event, and counts of those that were used."""

    def __init__(self, path: Path, columns: Mapping[str, np.ndarray]) -> None:
        """Sort the tracks by event; `DataError` where a column does not hold one number per track."""
        self.path = path
        event = _checked(path, columns)
        order = np.argsort(event, kind="stable")
        self._event = event[order]
        self._columns = {name: np.asarray(columns[name], np.float64)[order] for name in columns if name != _EVENT}
        self.n_used = self.n_events_without = 0

    @property
    def n_unused(self) -> int:
        """Number of tracks whose events were not given."""
        return len(self._event) - self.n_used

    def given_to(self, events: Events) -> Events:
        """Return the events with the tracks of their numbers, instead of any of their own; an event may have none.

        Raises `DataError` if the window starts are missing, differ within an event, or differ from those of the events.
        """
        numbers = events.event_columns[_EVENT]
        first, stop = (np.searchsorted(self._event, numbers, side=side) for side in ("left", "right"))
        counts = stop - first
        self.n_used += int(counts.sum())
        self.n_events_without += int(np.count_nonzero(counts == 0))
        offsets = offsets_from_counts(counts)
        rows = np.repeat(first, counts) + np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        columns = {name: values[rows] for name, values in self._columns.items()}
        start = self._window_start(events, columns.pop(WINDOW_START, None), offsets)
        return events._replace(
            track_offsets=offsets, track_columns=columns, event_columns={**events.event_columns, WINDOW_START: start}
        )

    def _window_start(self, events: Events, of_tracks: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
        """Return the window start per event: its own, or that of its tracks; 0 for an event with neither."""
        known = events.event_columns.get(WINDOW_START)
        if of_tracks is None:
            if known is None:
                raise DataError(f"{self.path}: has no {WINDOW_START}, and the events have none either")
            return known
        counts = np.diff(offsets)
        found = np.zeros(events.n_events)
        found[counts > 0] = of_tracks[offsets[:-1][counts > 0]]
        found = found if known is None else np.asarray(known)
        differs = np.abs(of_tracks - np.repeat(found, counts)) > _SAME_NS
        if np.any(differs):
            number = np.repeat(events.event_columns[_EVENT], counts)[differs][0]
            raise DataError(
                f"{self.path}: {WINDOW_START} of event {number} is {of_tracks[differs][0]:g} and "
                f"{np.repeat(found, counts)[differs][0]:g}; one for the event and all its tracks expected"
            )
        return found


def read_tracks(path: str | Path, *, limits: Limits = _LIMITS) -> TrackFile:
    """Read the tracks of a file or of a dataset; `DataError` for whatever is wrong with it.

    Of several trees or groups in a file, the one called `tracks` is read.
    """
    path = Path(path)
    if path.is_dir():
        return TrackFile(path, _of_dataset(path))
    kind = format_of(path)
    if kind is None or path.suffix.lower() not in track_endings():
        raise DataError(f"{path}: unknown ending {path.suffix!r}; tracks are read from {', '.join(track_endings())}")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    return TrackFile(path, read_table(path, _NEEDED, optional=(WINDOW_START,), called="tracks", limits=limits))


def _of_dataset(path: Path) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for events in numbered_events(Dataset(path)):
        if events.track_offsets is None:
            raise DataError(f"{path}: this dataset has no tracks")
        counts = np.diff(events.track_offsets)
        columns = {_EVENT: np.repeat(events.event_columns[_EVENT], counts), **events.track_columns}
        if WINDOW_START in events.event_columns:
            columns[WINDOW_START] = np.repeat(events.event_columns[WINDOW_START], counts)
        for name in (*_NEEDED, WINDOW_START):
            if name in columns:
                parts.setdefault(name, []).append(np.asarray(columns[name]))
    return _with_all(path, {name: np.concatenate(values) for name, values in parts.items()}, parts)


def _with_all(path: Path, columns: dict[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the columns if all that are needed are there; `names` are those of the file."""
    if missing := [name for name in _NEEDED if name not in columns]:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {one_line(', '.join(names)) or 'no columns'}")
    return columns


def _checked(path: Path, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Check the columns and return the event numbers, int64[n_tracks]."""
    event = np.asarray(columns[_EVENT])
    for name, values in columns.items():
        if values.ndim != 1 or len(values) != len(event) or values.dtype.kind not in "iuf":
            raise DataError(f"{path}: column {name} has to hold one number per track")
        if not np.all(np.isfinite(values)):
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{path}: {name} of track {row} (the first is 0) is no number")
    return event_numbers(event, lambda row: f"{path}: track {row} (the first is 0)")
