"""Write a dataset, complete or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset, check_hits
from tofae_jax.data.dataset_description import (
    DESCRIPTION,
    SCHEMA_VERSION,
    Description,
    Shard,
    check_column_name,
    encoded,
    file_of_part,
)
from tofae_jax.data.events import DataError, Events, column_names, concatenate, slice_events
from tofae_jax.data.storage.array_file import save_array
from tofae_jax.data.storage.atomic import naming_path, replacing_folder
from tofae_jax.data.storage.checksum import file_checksum
from tofae_jax.data.storage.replaceable import check_free, no_folder_of
from tofae_jax.data.storage.verified import Verified

DEFAULT_SHARD_EVENTS = 10_000
MOST_PENDING_HITS = 5_000_000  # a shard ends early here: 30 MB of hits, and several times that of their columns
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
            check_column_name(name, str(self.path))
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
            name = file_of_part(len(self._shards), part)
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
            Verified(self.path).trust({name: value for shard in self._shards for name, value in shard.sha256.items()})
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
        (self._folder / DESCRIPTION).write_bytes(encoded(description))


def write_dataset(
    path: str | Path, parts: Iterable[Events], *, detector: Detector, provenance: Mapping[str, Any], **options: Any
) -> Dataset:
    """Write all parts to a dataset at `path` and open it; options as for `DatasetWriter`."""
    with DatasetWriter(path, detector=detector, provenance=provenance, **options) as writer:
        for events in parts:
            writer.append(events)
    return Dataset(path)
