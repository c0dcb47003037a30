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
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.event_store import origin_of
from tofae_jax.data.events import DataError, Events, column_names, concatenate, offsets_from_counts, slice_events
from tofae_jax.data.storage.array_file import save_array
from tofae_jax.data.storage.atomic import naming_path, replacing_folder
from tofae_jax.data.storage.replaceable import check_free, no_folder_of
from tofae_jax.data.tracks import WINDOW_START, Tracks

SCHEMA_VERSION = 2  # 1 had no tracks
DESCRIPTION = "dataset.json"
DEFAULT_SHARD_EVENTS = 10_000
_OPENING = threading.Lock()  # numpy parses headers with `ast`, which Python 3.11 does not let two threads use at once
MOST_PENDING_HITS = 5_000_000  # a shard ends early here: 30 MB of hits, and several times that of their columns


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard."""

    n_events: int
    n_hits: int
    n_tracks: int = 0
    sha256: dict[str, str]
    """checksum of each of its files, by name"""


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `dataset.json`."""

    schema_version: int
    detector: Detector
    n_events: int
    n_hits: int
    hit_columns: list[str]
    event_columns: list[str]
    track_columns: list[str] | None = None
    """None: no tracks are known"""
    provenance: dict[str, Any]
    shards: list[Shard]


def _file(shard: int, part: str) -> str:
    return f"{shard:05d}.{part}.npy"


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_PARTS = re.compile(r"[0-9]{5,}\.(hits|offsets|track_offsets|(hit|event|track)\..+)\.npy")
NO_DATASET = no_folder_of(
    lambda name: name == DESCRIPTION or _PARTS.fullmatch(name) is not None, needs=DESCRIPTION, kind="dataset"
)
"""lets only datasets be replaced, and none that holds other files"""


class DatasetWriter:
    """A writer of a dataset; a context manager. Leaving it by an error leaves nothing behind.

    Args:
        path: folder to be made; its parents are made too.
        detector: shape and scale that the hits belong to.
        provenance: where the events come from (generator, settings, seed, or source file), as JSON values.
        shard_events: events per shard; the last one holds what is left.
        overwrite: replace a dataset that is there; anything else there, and one with other files, is never replaced.
        sources: files and folders that are read meanwhile; a dataset that holds them is not replaced.

    Raises:
        DataError: something is at `path` already. On leaving it: nothing was written, the folder cannot be made, or
            something appeared there meanwhile, which stays.
        ValueError: `shard_events` is below 1.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        detector: Detector,
        provenance: Mapping[str, Any],
        shard_events: int = DEFAULT_SHARD_EVENTS,
        overwrite: bool = False,
        sources: Iterable[Path] = (),
    ) -> None:
        """Check the arguments; the folder is made on entering."""
        self.path = Path(path)
        check_free(self.path, NO_DATASET, overwrite=overwrite, sources=sources, error_type=DataError)
        self._may_replace = NO_DATASET if overwrite else None
        if shard_events < 1:
            raise ValueError(f"shard_events must be at least 1, got {shard_events}")
        self._detector, self._provenance, self._shard_events = detector, dict(provenance), shard_events
        self._shards: list[Shard] = []
        self._pending: list[Events] = []
        self._n_pending = 0
        self._columns: tuple[list[str], list[str], list[str] | None] | None = None
        self.n_events = 0
        self.n_hits = 0
        self.n_appended = 0

    def __enter__(self) -> DatasetWriter:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(
            replacing_folder(self.path, may_replace=self._may_replace, error_type=DataError)
        )
        return self

    def append(self, events: Events) -> None:
        """Add events; all parts need the same columns."""
        columns = column_names(events)
        if self._columns not in (None, columns):
            raise ValueError(f"all parts of a dataset need the same columns, got {self._columns} and {columns}")
        self._columns = columns
        for name in [*columns[0], *columns[1], *(columns[2] or [])]:
            _check_column_name(name, str(self.path))
        check_hits(events, self._detector, str(self.path))
        self._pending.append(events)
        self.n_appended += events.n_events
        self._n_pending += events.n_events
        while self._n_pending >= self._shard_events:
            self._flush(self._shard_events)
        if sum(part.n_hits for part in self._pending) >= MOST_PENDING_HITS:
            self._flush(self._n_pending)

    def _flush(self, n_events: int) -> None:
        joined = concatenate(self._pending)
        with naming_path(self.path):
            self._write(slice_events(joined, 0, n_events))
        rest = slice_events(joined, n_events, joined.n_events)
        self._pending, self._n_pending = ([rest], rest.n_events) if rest.n_events else ([], 0)

    def _write(self, events: Events) -> None:
        arrays = {"hits": events.hits.astype(np.int16), "offsets": events.offsets.astype(np.int64)}
        arrays |= {f"hit.{name}": column for name, column in events.hit_columns.items()}
        arrays |= {f"event.{name}": column for name, column in events.event_columns.items()}
        if events.track_offsets is not None:
            arrays["track_offsets"] = events.track_offsets.astype(np.int64)
            arrays |= {f"track.{name}": column for name, column in events.track_columns.items()}
        checksums = {}
        for part, array in arrays.items():
            name = _file(len(self._shards), part)
            checksums[name] = file_checksum(save_array(self._folder / name, array))
        n_tracks = 0 if events.track_offsets is None else int(events.track_offsets[-1])
        self._shards.append(Shard(n_events=events.n_events, n_hits=events.n_hits, n_tracks=n_tracks, sha256=checksums))
        self.n_events += events.n_events
        self.n_hits += events.n_hits

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._stack, naming_path(self.path):
                self._finish()
        else:
            self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._n_pending:
            self._flush(self._n_pending)
        if not self.n_events:
            raise DataError(f"{self.path}: no events to write")
        hit_columns, event_columns, track_columns = self._columns or ([], [], None)
        description = Description(
            schema_version=SCHEMA_VERSION,
            detector=self._detector,
            n_events=self.n_events,
            n_hits=self.n_hits,
            hit_columns=hit_columns,
            event_columns=event_columns,
            track_columns=track_columns,
            provenance=self._provenance,
            shards=self._shards,
        )
        text = msgspec.json.format(msgspec.json.encode(description), indent=1)
        (self._folder / DESCRIPTION).write_bytes(text)


def _check_column_name(name: str, where: str) -> None:
    """Columns are files, so their names must not lead elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ .+-]*", name):
        raise DataError(f"{where}: column {name!r}: letters, digits, '_', ' ', '.', '+' and '-' allowed")


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

    Args:
        path: folder of the dataset.

    Raises:
        DataError: it is not a dataset, or its description is damaged or newer than this package. Later: a file is
            missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the dataset at `path`."""
        self.path = Path(path)
        self.description = _read_description(self.path)
        self._arrays: list[Events | None] = [None] * len(self.description.shards)
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
        """Short hash of all checksums: equal for equal data, wherever it lies."""
        checksums = [sorted(shard.sha256.items()) for shard in self.description.shards]
        return hashlib.sha256(repr(checksums).encode()).hexdigest()[:16]

    def shard(self, index: int) -> Events:
        """Events of one shard, memory-mapped."""
        with _OPENING:
            opened = self._arrays[index]
            if opened is None:
                opened = self._arrays[index] = self._open(index)
        return opened

    def _open(self, index: int) -> Events:
        shard = self.description.shards[index]
        hits = self._map(index, "hits", (shard.n_hits, 3))
        if hits.dtype != np.int16:
            raise DataError(f"{self.path / _file(index, 'hits')}: holds {hits.dtype}, int16 expected")
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
        check_hits(events, self.detector, str(self.path / _file(index, "hits")))
        return events

    def _offsets(self, index: int, part: str, n_rows: int) -> np.ndarray:
        offsets = self._map(index, part, (self.description.shards[index].n_events + 1,))
        if offsets[0] != 0 or offsets[-1] != n_rows or np.any(np.diff(offsets) < 0):
            raise DataError(
                f"{self.path / _file(index, part)}: offsets must rise from 0 to {n_rows}, "
                f"got {offsets[0]} to {offsets[-1]}" + ("" if np.all(np.diff(offsets) >= 0) else ", falling in between")
            )
        return offsets

    def _map(self, index: int, part: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self.path / _file(index, part)
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


def _read_description(path: Path) -> Description:
    if not path.exists():
        raise DataError(f"{path}: no such dataset")
    file = path / DESCRIPTION
    if not file.is_file():
        raise DataError(f"{path}: not a dataset: it has no {DESCRIPTION}")
    try:
        text = file.read_bytes()
        version = msgspec.json.decode(text).get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise DataError(f"{file}: schema version {version} is newer than this package's {SCHEMA_VERSION}")
        description = msgspec.json.decode(text, type=Description)
    except (msgspec.DecodeError, AttributeError, OSError) as error:
        raise DataError(f"{file}: damaged: {error}") from None
    counted = sum(s.n_events for s in description.shards), sum(s.n_hits for s in description.shards)
    if counted != (description.n_events, description.n_hits):
        raise DataError(
            f"{file}: says {description.n_events} events and {description.n_hits} hits, its shards have {counted}"
        )
    for name in [*description.hit_columns, *description.event_columns, *(description.track_columns or [])]:
        _check_column_name(name, str(file))
    if not description.n_events:
        raise DataError(f"{file}: holds no events")
    return description


def write_dataset(
    path: str | Path, parts: Iterable[Events], *, detector: Detector, provenance: Mapping[str, Any], **options: Any
) -> Dataset:
    """Write all parts to a dataset at `path` and open it; options as for `DatasetWriter`."""
    with DatasetWriter(path, detector=detector, provenance=provenance, **options) as writer:
        for events in parts:
            writer.append(events)
    return Dataset(path)
