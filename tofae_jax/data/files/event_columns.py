"""Read columns of events and tracks from files that have one row per hit.

- In text an event's value is repeated in each of its rows, in a column `event.NAME`. An event without hits has no row,
  so its values are lost, and so are tracks.
- In `.npz` files arrays `event.NAME` have one value per event; `event.event` holds the numbers of all events, including
  those without hits. Arrays `track.NAME` have one value per track; `track.event` holds the number of its event.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, offsets_from_counts
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK, native
from tofae_jax.data.files.layout import EVENT_NUMBERS, EVENT_PREFIX, KEY_PREFIX, TRACK_EVENTS, TRACK_PREFIX
from tofae_jax.data.files.limits import COPIES, Limits
from tofae_jax.data.files.npy_header import npy_header
from tofae_jax.data.files.zip_members import zip_members

_LIMITS = Limits()


def once_per_event(chunks: Iterable[Events]) -> Iterator[Events]:
    """Turn hit columns `event.NAME`, which repeat a value for each hit of an event, into event columns NAME.

    Columns `key.NAME` become event columns, too, and keep their names.
    """
    for events in chunks:
        hit_columns, event_columns = dict(events.hit_columns), dict(events.event_columns)
        for name in [name for name in hit_columns if name.startswith((EVENT_PREFIX, KEY_PREFIX))]:
            values = hit_columns.pop(name)
            once = values[events.offsets[:-1]]
            is_same = values == np.repeat(once, events.counts)
            is_same |= np.isnan(values) & np.repeat(np.isnan(once), events.counts)
            if not is_same.all():
                event = int(np.searchsorted(events.offsets, int(is_same.argmin()), side="right")) - 1
                number = events.event_columns["event"][event]
                raise DataError(f"event {number} has several values of {one_line(name)}; one for all its hits expected")
            event_columns[name.removeprefix(EVENT_PREFIX)] = once
        yield events._replace(hit_columns=hit_columns, event_columns=event_columns)


class _Arrays(ExitStack):
    """Read the arrays `PREFIX.NAME` of an `.npz` file, all of the same length, block by block."""

    def __init__(self, path: Path, prefix: str, names: Set[str] | None, limits: Limits) -> None:
        super().__init__()
        self.key = f"{prefix}event"
        self._limits = limits
        self._files: dict[str, IO[bytes]] = {}
        self._rows: dict[str, np.ndarray] = {}
        self._n_left = 0
        try:
            self._open(path, prefix, names)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, prefix: str, names: Set[str] | None) -> None:
        archive = self.enter_context(zipfile.ZipFile(path))
        lengths: dict[str, tuple[int, ...]] = {}
        for member in zip_members(archive):
            name = member.removesuffix(".npy")
            is_chosen = names is None or name in names or name == self.key
            if member.endswith(".npy") and name.startswith(prefix) and is_chosen:
                file = self.enter_context(archive.open(member))
                lengths[name], _, dtype = npy_header(file)
                if dtype.kind in "biuf":
                    self._files[name], self._rows[name] = file, np.zeros(0, dtype)
        if self:
            self._n_left = lengths[self.key][0] if len(lengths[self.key]) == 1 else 0
            for name, shape in lengths.items():
                if shape != (self._n_left,):
                    raise DataError(f"array {one_line(name)} has shape {list(shape)}; as long as {self.key} expected")

    def __bool__(self) -> bool:
        """Whether there is an array of event numbers; without it, a name may have the prefix by accident."""
        return self.key in self._rows

    @property
    def names(self) -> set[str]:
        """Names of the arrays."""
        return set(self._rows)

    def up_to(self, event: int) -> dict[str, np.ndarray]:
        """Return the next rows up to those of event number `event`."""
        while self._n_left and (not len(self._rows[self.key]) or self._rows[self.key][-1] <= event):
            self._read()
        n_now = int(np.searchsorted(self._rows[self.key], event, side="right")) if self else 0
        return self._take(n_now)

    def next_rows(self) -> dict[str, np.ndarray]:
        """Return the next block of rows; none at the end."""
        if self._n_left and not len(self._rows[self.key]):
            self._read()
        return self._take(len(self._rows[self.key]))

    def _take(self, n_rows: int) -> dict[str, np.ndarray]:
        taken = {name: values[:n_rows] for name, values in self._rows.items()}
        self._rows = {name: values[n_rows:] for name, values in self._rows.items()}
        return taken

    def _read(self) -> None:
        # A block as long as what is there: joining many small ones would take quadratic time.
        n_now = min(max(ROWS_PER_BLOCK, len(self._rows[self.key])), self._n_left)
        self._n_left -= n_now
        n_bytes = sum((len(values) + n_now) * values.itemsize for values in self._rows.values())
        self._limits.check_bytes(COPIES * n_bytes, f"what arrays such as {self.key} say of the events of a chunk")
        for name, file in self._files.items():
            dtype = self._rows[name].dtype
            content = file.read(n_now * dtype.itemsize)
            if len(content) < n_now * dtype.itemsize:
                raise DataError(f"array {one_line(name)} is cut")
            self._rows[name] = np.concatenate([self._rows[name], np.frombuffer(content, dtype)])
        keys = self._rows[self.key]
        if keys.dtype.kind not in "iu" or (np.diff(keys) < 0).any():
            raise DataError(f"array {self.key} has to be of integers that never fall")


def with_event_arrays(
    path: Path, chunks: Iterable[Events], chosen: Set[str] | None = None, *, limits: Limits = _LIMITS
) -> Iterator[Events]:
    """Add the arrays `event.NAME` and `track.NAME` of an `.npz` file to the events of its hit list.

    Events without hits, which have no row in the hit list, are inserted between the others. Tracks are unknown where
    arrays were `chosen` and none of them is of tracks.
    """
    has_tracks = chosen is None or any(name.startswith(TRACK_PREFIX) for name in chosen)
    of_tracks = set[str]() if not has_tracks else chosen
    with (
        _Arrays(path, EVENT_PREFIX, chosen, limits) as per_event,
        _Arrays(path, TRACK_PREFIX, of_tracks, limits) as per_track,
    ):
        if not per_event:
            yield from chunks
            return
        per_track = per_track if has_tracks else None
        names = per_event.names | (per_track.names if per_track else set())
        rest = Events(np.zeros((0, 3), np.int16), np.zeros(1, np.int64), {}, {"event": np.zeros(0, np.int64)})
        for events in chunks:
            events = events._replace(hit_columns={k: v for k, v in events.hit_columns.items() if k not in names})
            last = int(events.event_columns["event"][-1])
            yield _merged(events, per_event.up_to(last), per_track, last)
            rest = rest._replace(hit_columns={name: values[:0] for name, values in events.hit_columns.items()})
        while len((rows := per_event.next_rows())[EVENT_NUMBERS]):
            yield _merged(rest, rows, per_track, int(rows[EVENT_NUMBERS][-1]))
        if per_track and len(left := per_track.next_rows()[TRACK_EVENTS]):
            raise DataError(f"array {TRACK_EVENTS} has {left[0]}, which {EVENT_NUMBERS} lacks")


def _merged(events: Events, rows: Mapping[str, np.ndarray], per_track: _Arrays | None, last: int) -> Events:
    """Return the events of `rows` with the hits of `events`, and the tracks of all events up to number `last`."""
    numbers = rows[EVENT_NUMBERS]
    found = events.event_columns["event"]
    places = np.searchsorted(numbers, found)
    if (np.diff(numbers) < 1).any() or not np.isin(found, numbers).all():
        raise DataError(f"array {EVENT_NUMBERS} has to rise and to have every number of the array event")
    counts = np.zeros(len(numbers), np.int64)
    counts[places] = events.counts
    merged = events._replace(offsets=offsets_from_counts(counts), event_columns=without_prefix(rows, EVENT_PREFIX))
    if not per_track:
        return merged
    tracks = per_track.up_to(last)
    event_of_track = tracks.pop(TRACK_EVENTS)
    if not np.isin(event_of_track, numbers).all():
        raise DataError(f"array {TRACK_EVENTS} has numbers that {EVENT_NUMBERS} lacks")
    offsets = np.searchsorted(event_of_track, np.append(numbers, last + 1)).astype(np.int64)
    return merged._replace(track_offsets=offsets, track_columns=without_prefix(tracks, TRACK_PREFIX))


def without_prefix(columns: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the columns under their names without the prefix, in native byte order."""
    return {name.removeprefix(prefix): native(values) for name, values in columns.items()}
