"""Tracks from a file of their own, for events whose own file has none.

A table of one row per track: the number of its `event`, `x_mm, y_mm, slope_x, slope_y, momentum_gev`, and where the
event's file does not have it, `window_start_ns`, the same for all tracks of an event. Rows may have any order.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tofae_jax.datasets.conversion import numbered_events
from tofae_jax.datasets.events import DataError, Events, concatenate
from tofae_jax.datasets.format import Dataset
from tofae_jax.datasets.readers import read_table
from tofae_jax.datasets.readers_lists import one_line
from tofae_jax.datasets.tracks import GIVEN, WINDOW_START

ENDINGS = (".csv", ".npz", ".root", ".parquet", ".pq", ".arrow", ".feather", ".h5", ".hdf5")
_EVENT = "event"


class TrackFile(NamedTuple):
    """Tracks by event."""

    path: Path
    event: np.ndarray
    """int64[n_tracks], never falling"""
    columns: Mapping[str, np.ndarray]
    """float64[n_tracks] by name"""


def read_tracks(path: str | Path) -> TrackFile:
    """The tracks of a file or of a dataset; DataError for whatever is wrong with it."""
    path = Path(path)
    if path.is_dir():
        return _of_dataset(path)
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: unknown ending {path.suffix!r}; tracks are read from {', '.join(ENDINGS)}")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    wanted = (_EVENT, *GIVEN)
    columns = _csv(path) if path.suffix == ".csv" else _npz(path) if path.suffix == ".npz" else None
    if columns is None:
        columns = read_table(path, wanted, optional=(WINDOW_START,))
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(columns) or 'no columns'}")
    return _sorted(path, {name: columns[name] for name in (*wanted, WINDOW_START) if name in columns})


def _of_dataset(path: Path) -> TrackFile:
    events = concatenate(numbered_events(Dataset(path)))
    if events.track_offsets is None:
        raise DataError(f"{path}: this dataset has no tracks")
    counts = np.diff(events.track_offsets)
    columns = {name: values for name, values in events.track_columns.items() if name in GIVEN}
    if WINDOW_START in events.event_columns:
        columns[WINDOW_START] = np.repeat(events.event_columns[WINDOW_START], counts)
    if missing := [name for name in GIVEN if name not in columns]:
        raise DataError(f"{path}: its tracks lack {', '.join(missing)}")
    return _sorted(path, {_EVENT: np.repeat(events.event_columns[_EVENT], counts), **columns})


def _csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # deletechars: keep names as they are
            table = np.genfromtxt(path, delimiter=",", names=True, deletechars="", encoding="utf-8", ndmin=1)
    except (ValueError, Warning, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table of numbers with a header ({one_line(error)})") from None
    return {name: np.asarray(table[name]) for name in table.dtype.names or ()}


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in (_EVENT, *GIVEN, WINDOW_START) if name in file}
    except Exception as error:  # zip, zlib and header errors of many kinds
        raise DataError(f"{path}: cut, damaged or not an .npz file ({one_line(error)})") from None


def _sorted(path: Path, columns: Mapping[str, np.ndarray]) -> TrackFile:
    event = np.asarray(columns[_EVENT])
    for name, values in columns.items():
        if values.ndim != 1 or len(values) != len(event) or values.dtype.kind not in "iuf":
            raise DataError(f"{path}: column {name} has to hold one number per track")
        if not np.all(np.isfinite(values)):
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{path}: {name} of track {row} (the first is 0) is no number")
    if np.any(event != np.floor(event)) or np.any(event < 0):
        raise DataError(f"{path}: column {_EVENT} has to hold whole numbers from 0")
    order = np.argsort(event, kind="stable")
    others = {name: np.asarray(values, np.float64)[order] for name, values in columns.items() if name != _EVENT}
    return TrackFile(path, event.astype(np.int64)[order], others)


def with_tracks(events: Events, tracks: TrackFile) -> Events:
    """The same events with the tracks of their numbers, in place of any of their own.

    DataError where the windows' starts are nowhere, or differ within an event. An event may have no tracks.
    """
    numbers = events.event_columns[_EVENT]
    first, stop = (np.searchsorted(tracks.event, numbers, side=side) for side in ("left", "right"))
    counts = stop - first
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.repeat(first, counts) + np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    columns = {name: values[rows] for name, values in tracks.columns.items()}
    event_columns = dict(events.event_columns)
    if (start := columns.pop(WINDOW_START, None)) is not None:
        of_event = np.zeros(events.n_events)
        has_tracks = counts > 0
        of_event[has_tracks] = start[offsets[:-1][has_tracks]]
        if np.any(start != np.repeat(of_event, counts)):
            raise DataError(f"{tracks.path}: {WINDOW_START} has to be the same for all tracks of an event")
        event_columns[WINDOW_START] = of_event
    elif WINDOW_START not in event_columns:
        raise DataError(f"{tracks.path}: has no {WINDOW_START}, and the events have none either")
    return events._replace(track_offsets=offsets, track_columns=columns, event_columns=event_columns)
