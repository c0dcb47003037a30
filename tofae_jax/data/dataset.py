"""The hit dataset: a folder of memory-mapped shards and one JSON description.

```
dataset.json             schema version, detector, event and hit counts, columns, provenance, shards with checksums
00000.hits.npy           int16[n_hits, 3]: x, y, t of all hits of the shard, event by event
00000.offsets.npy        int64[n_events + 1]: event i owns hits[offsets[i]:offsets[i + 1]]
00000.hit.NAME.npy       one value per hit, e.g. is_signal, track
00000.event.NAME.npy     one value per event, e.g. event (its number in the source)
00000.track_offsets.npy  int64[n_events + 1]: event i owns the rows track_offsets[i]:track_offsets[i + 1] of the tracks
00000.track.NAME.npy     one value per track, e.g. momentum_gev
```

A shard holds any number of events. Counts are counted when writing and checked when reading, never computed from the
number of files. A dataset is written beside its place and moved there when complete, so a half-written one is never
seen under its name.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset_description import file_of_part, read_description
from tofae_jax.data.event_store import origin_of
from tofae_jax.data.events import DataError, Events, offsets_from_counts, slice_events
from tofae_jax.data.storage.checksum import file_checksum
from tofae_jax.data.storage.verified import Verified, verifies_by_default
from tofae_jax.data.tracks import WINDOW_START, Tracks

_OPENING = threading.Lock()  # numpy parses headers with `ast`, which Python 3.11 does not let two threads use at once


def check_hits(events: Events, detector: Detector, where: str) -> None:
    """DataError that names the first hit outside the detector, if there is one."""
    low, high = np.array([0, 0, 1]), np.array([detector.n_x - 1, detector.n_y - 1, detector.n_t])
    bad = np.nonzero(np.any((events.hits < low) | (events.hits > high), axis=1))[0]
    if len(bad):
        event = int(np.searchsorted(events.offsets, bad[0], side="right")) - 1
        x, y, t = (int(v) for v in events.hits[bad[0]])
        raise DataError(
            f"{where}: event {event} has a hit x={x} y={y} t={t} outside the detector: "
            f"x 0..{high[0]}, y 0..{high[1]}, t 1..{high[2]} ({len(bad)} such hits in this part)"
        )


class Dataset:
    """A dataset open for reading. Arrays are memory-mapped: opening reads the description only.

    A file is verified when it is first used: its bytes are those that were written. That is remembered, see
    `storage.verified`, so that it costs the time of reading the file once.

    Args:
        path: folder of the dataset.
        verify: whether to verify files; None: unless the environment has `TOFAE_JAX_VERIFY=0`.

    Raises:
        DataError: it is not a dataset, or its description is damaged or newer than this package. Later: a file is
            missing or damaged.
    """

    def __init__(self, path: str | Path, *, verify: bool | None = None) -> None:
        """Open the dataset at `path`."""
        self.path = Path(path)
        self._verifies = verifies_by_default() if verify is None else verify
        self.description = read_description(self.path)
        self._arrays: list[Events | None] = [None] * len(self.description.shards)
        self._verified = Verified(self.path)
        self._first = offsets_from_counts([s.n_events for s in self.description.shards])

    def __len__(self) -> int:
        return self.description.n_events

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def detector(self) -> Detector:
        """Shape and scale of the detector."""
        return self.description.detector

    @property
    def provenance(self) -> dict[str, Any]:
        """How the events came to be."""
        return self.description.provenance

    @property
    def has_origins(self) -> bool:
        """Whether some hits may be background."""
        return origin_of(self.shard(0)) is not None

    @property
    def is_generative(self) -> bool:
        """A dataset has as many events as it has."""
        return False

    @property
    def fingerprint(self) -> str:
        """Short hash of all bytes, by their checksums: equal for equal data, wherever it lies."""
        shards = enumerate(self.description.shards)
        checksums = [sorted((shard.sha256 | self._not_recorded(index)).items()) for index, shard in shards]
        return hashlib.sha256(repr(checksums).encode()).hexdigest()[:16]

    def files_of_shard(self, index: int) -> list[str]:
        """List the names of the files of a shard."""
        described = self.description
        parts = ["hits", "offsets", *(f"hit.{name}" for name in described.hit_columns)]
        parts += [f"event.{name}" for name in described.event_columns]
        if described.track_columns is not None:
            parts += ["track_offsets", *(f"track.{name}" for name in described.track_columns)]
        return [file_of_part(index, part) for part in parts]

    def _not_recorded(self, index: int) -> dict[str, str]:
        """Compute the checksums of the files of which none is recorded, as other programs may leave them out."""
        recorded = self.description.shards[index].sha256
        names = [name for name in self.files_of_shard(index) if name not in recorded]
        try:
            return {name: file_checksum(self.path / name) for name in names}
        except OSError as error:
            raise DataError(f"{error.filename}: {error.strerror}") from None

    def shard(self, index: int) -> Events:
        """Events of one shard, memory-mapped."""
        with _OPENING:
            opened = self._arrays[index]
            if opened is None:
                opened = self._arrays[index] = self._open(index)
        return opened

    def _open(self, index: int) -> Events:
        shard = self.description.shards[index]
        if self._verifies and (path := self._verified.first_damaged(shard.sha256)) is not None:
            reason = (
                "damaged or changed: its checksum is not the one it was written with" if path.exists() else "missing"
            )
            raise DataError(f"{self.path / path.name}: {reason}")
        hits = self._map(index, "hits", (shard.n_hits, 3))
        if hits.dtype != np.int16:
            raise DataError(f"{self.path / file_of_part(index, 'hits')}: holds {hits.dtype}, int16 expected")
        offsets = self._offsets(index, "offsets", shard.n_hits)
        track_offsets, track_columns = None, {}
        if (names := self.description.track_columns) is not None:
            track_offsets = self._offsets(index, "track_offsets", shard.n_tracks)
            track_columns = {n: self._map(index, f"track.{n}", (shard.n_tracks,)) for n in names}
        events = Events(
            hits,
            offsets,
            {name: self._map(index, f"hit.{name}", (shard.n_hits,)) for name in self.description.hit_columns},
            {name: self._map(index, f"event.{name}", (shard.n_events,)) for name in self.description.event_columns},
            track_offsets,
            track_columns,
        )
        # read once in full: a hit outside the detector would silently read or light another pixel
        check_hits(events, self.detector, str(self.path / file_of_part(index, "hits")))
        return events

    def _offsets(self, index: int, part: str, n_rows: int) -> np.ndarray:
        offsets = self._map(index, part, (self.description.shards[index].n_events + 1,))
        if offsets[0] != 0 or offsets[-1] != n_rows or np.any(np.diff(offsets) < 0):
            raise DataError(
                f"{self.path / file_of_part(index, part)}: offsets must rise from 0 to {n_rows}, "
                f"got {offsets[0]} to {offsets[-1]}" + ("" if np.all(np.diff(offsets) >= 0) else ", falling in between")
            )
        return offsets

    def _map(self, index: int, part: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.path / file_of_part(index, part)
        try:
            array = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else "damaged or cut short"
            raise DataError(f"{path}: {reason}") from None
        if array.shape[: len(shape)] != shape:
            raise DataError(f"{path}: holds an array of shape {array.shape}, the description says {shape}")
        return np.asarray(array)  # a plain view: slices of np.memmap objects cost several times as much

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Events]:
        """Events `start` to `stop - 1` in order, at most a shard at a time."""
        stop = len(self) if stop is None else stop
        for index in range(len(self.description.shards)):
            low, high = max(start, int(self._first[index])), min(stop, int(self._first[index + 1]))
            if low < high:
                yield slice_events(self.shard(index), low - int(self._first[index]), high - int(self._first[index]))

    def locate(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard of each event, and its place there."""
        shard = np.searchsorted(self._first, events, side="right") - 1
        return shard, events - self._first[shard]

    def per_event_hits(self, events: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Hits of each event, int16[n, 3], and their origins, or None where all are signal."""
        for index, place in zip(*(numbers.tolist() for numbers in self.locate(events)), strict=True):
            shard = self.shard(index)
            own = slice(shard.offsets[place], shard.offsets[place + 1])
            origin = origin_of(shard)
            yield shard.hits[own], None if origin is None else origin[own]

    def per_event_tracks(self, events: np.ndarray) -> Tracks | None:
        """Tracks of these events; None where none are known."""
        if self.description.track_columns is None:
            return None
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.description.track_columns}
        counts = []
        for index, place in zip(*(numbers.tolist() for numbers in self.locate(events)), strict=True):
            shard = self.shard(index)
            assert shard.track_offsets is not None  # its description says that there are tracks
            own = slice(shard.track_offsets[place], shard.track_offsets[place + 1])
            counts.append(own.stop - own.start)
            for name, parts in rows.items():
                parts.append(shard.track_columns[name][own])
        columns = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in rows.items()}
        return Tracks(np.asarray(counts, np.int64), columns, self.event_column(WINDOW_START, events))

    def event_column(self, name: str, events: np.ndarray) -> np.ndarray | None:
        """Values of a column for these events; None where the dataset has no such column."""
        if name not in self.description.event_columns:
            return None
        places = zip(*(numbers.tolist() for numbers in self.locate(events)), strict=True)
        return np.asarray([self.shard(shard).event_columns[name][place] for shard, place in places])

    def events_for_epoch(self, events: np.ndarray, epoch: int) -> np.ndarray:
        """The same events in every epoch."""
        del epoch
        return events
