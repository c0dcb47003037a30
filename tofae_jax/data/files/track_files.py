"""Tracks from a file of their own, for events whose own file has none.

A table of one row per track: the number of its `event`, `x_mm, y_mm, slope_x, slope_y, momentum_gev`, and where the
event's file does not have it, `window_start_ns`, the same for all tracks of an event. Rows may have any order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.convert import numbered_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.hit_rows import not_whole
from tofae_jax.data.files.read import read_table, table_formats
from tofae_jax.data.tracks import GIVEN, WINDOW_START

ENDINGS = (".csv", ".npz", *table_formats())
_EVENT = "event"
_WANTED = (_EVENT, *GIVEN)
_MAX_EVENT = 2**63 - 1
_SAME_NS = 1e-3  # windows that start within this of each other are the same, written with more or fewer digits


class TrackFile:
    """Tracks by event, and how many of them found their event."""

    def __init__(self, path: Path, columns: Mapping[str, np.ndarray]) -> None:
        """Tracks in any order; DataError where a column is no column of numbers."""
        self.path = path
        event = _checked(path, columns)
        order = np.argsort(event, kind="stable")
        self._event = event[order]
        self._columns = {name: np.asarray(columns[name], np.float64)[order] for name in columns if name != _EVENT}
        self.n_used = self.n_events_without = 0

    @property
    def n_unused(self) -> int:
        """Tracks of events that have not come."""
        return len(self._event) - self.n_used

    def given_to(self, events: Events) -> Events:
        """The same events with the tracks of their numbers, in place of any of their own; an event may have none.

        DataError where the windows' starts are nowhere, differ within an event, or from what the events say.
        """
        numbers = events.event_columns[_EVENT]
        first, stop = (np.searchsorted(self._event, numbers, side=side) for side in ("left", "right"))
        counts = stop - first
        self.n_used += int(counts.sum())
        self.n_events_without += int(np.count_nonzero(counts == 0))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(first, counts) + np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        columns = {name: values[rows] for name, values in self._columns.items()}
        start = self._window_start(events, columns.pop(WINDOW_START, None), offsets)
        return events._replace(
            track_offsets=offsets, track_columns=columns, event_columns={**events.event_columns, WINDOW_START: start}
        )

    def _window_start(self, events: Events, of_tracks: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
        """Of each event: its own, or its tracks'; 0 where it has neither, so no track that would need it."""
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


def read_tracks(path: str | Path) -> TrackFile:
    """The tracks of a file or of a dataset; DataError for whatever is wrong with it.

    Of several trees or groups in a file, the one called `tracks` is read.
    """
    path = Path(path)
    if path.is_dir():
        return TrackFile(path, _of_dataset(path))
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{path}: unknown ending {path.suffix!r}; tracks are read from {', '.join(ENDINGS)}")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if ending in (".csv", ".npz"):
        columns = _csv(path) if ending == ".csv" else _npz(path)
    else:
        columns = read_table(path, _WANTED, optional=(WINDOW_START,), called="tracks")
    return TrackFile(path, columns)


def _of_dataset(path: Path) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for events in numbered_events(Dataset(path)):
        if events.track_offsets is None:
            raise DataError(f"{path}: this dataset has no tracks")
        counts = np.diff(events.track_offsets)
        columns = {_EVENT: np.repeat(events.event_columns[_EVENT], counts), **events.track_columns}
        if WINDOW_START in events.event_columns:
            columns[WINDOW_START] = np.repeat(events.event_columns[WINDOW_START], counts)
        for name in (*_WANTED, WINDOW_START):
            if name in columns:
                parts.setdefault(name, []).append(np.asarray(columns[name]))
    return _with_all(path, {name: np.concatenate(values) for name, values in parts.items()}, parts)


def _with_all(path: Path, columns: dict[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The columns, once all that are needed are there; `names` are those of the file."""
    if missing := [name for name in _WANTED if name not in columns]:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {one_line(', '.join(names)) or 'no columns'}")
    return columns


def _csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = (line for line in file if not line.startswith("#") and not line.isspace())
            table = csv.DictReader(lines, skipinitialspace=True, strict=True)
            names = [name.strip() for name in table.fieldnames or ()]
            table.fieldnames = names
            rows = list(table)
        for row in rows:
            if None in row or None in row.values():  # more values than names, or fewer
                raise DataError(f"{path}: a row has not {len(names)} values as the header: {one_line(row)}")
        columns: dict[str, np.ndarray] = {
            name: np.asarray([float(row[name]) for row in rows], np.float64)
            for name in (*GIVEN, WINDOW_START)
            if name in names
        }
        if _EVENT in names:
            columns[_EVENT] = np.asarray([int(row[_EVENT]) for row in rows], np.int64)
    except DataError:
        raise
    except (ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"{path}: not a table of numbers with a header ({one_line(error)})") from None
    return _with_all(path, columns, names)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = list(file.files)
            columns = {name: file[name] for name in (*_WANTED, WINDOW_START) if name in names}
    except Exception as error:  # zip, zlib and header errors of many kinds
        raise DataError(f"{path}: cut, damaged or not an .npz file ({one_line(error)})") from None
    return _with_all(path, columns, names)


def _checked(path: Path, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Numbers of the tracks' events, int64, once all columns are right."""
    event = np.asarray(columns[_EVENT])
    for name, values in columns.items():
        if values.ndim != 1 or len(values) != len(event) or values.dtype.kind not in "iuf":
            raise DataError(f"{path}: column {name} has to hold one number per track")
        if not np.all(np.isfinite(values)):
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{path}: {name} of track {row} (the first is 0) is no number")
    bad = not_whole(event, 0, _MAX_EVENT)
    if np.any(bad):
        raise DataError(f"{path}: column {_EVENT} has {event[bad][0]}; whole numbers from 0 to {_MAX_EVENT} expected")
    return event.astype(np.int64)
