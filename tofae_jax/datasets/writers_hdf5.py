"""Hit files of HDF5: a group `events` of 1-D datasets, with offsets."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.datasets.events import Events
from tofae_jax.datasets.extras import libraries
from tofae_jax.datasets.readers_hdf5 import OFFSETS, PER, TRACK_OFFSETS
from tofae_jax.datasets.written_columns import ColumnTypes

GROUP = "events"
_CHUNK_ROWS = 65_536
# filters that every HDF5 library has; the last one is a check sum
_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}


class Hdf5File(ExitStack):
    """Datasets of a value per hit, per event and per track, marked so by the attribute `per`; compressed.

    Event `i` owns the hits `offsets[i]:offsets[i + 1]`, and the tracks likewise by `track_offsets`.
    """

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        super().__init__()
        (h5py,) = libraries(".h5")
        self._path = folder / "hits.h5"
        self._types = types
        self._names = of_hits, of_events, of_tracks = types.table_names()
        taken = {*of_hits.values(), *of_events.values()}
        for name in (OFFSETS, TRACK_OFFSETS):
            if name in taken:
                raise ValueError(f"column {name!r} cannot be written under this name")
        file = self.enter_context(h5py.File(self._path, "w"))
        self._group = file.create_group(GROUP, track_order=True)
        for per, names, columns in (
            ("hit", of_hits, types.hit),
            ("event", of_events, types.event),
            ("track", of_tracks, types.track or {}),
        ):
            for name, dtype in columns.items():
                self._make(names[name], dtype).attrs[PER] = per
        for name in (OFFSETS, *[TRACK_OFFSETS] * (types.track is not None)):
            self._append(self._make(name, np.dtype(np.int64)), np.zeros(1, np.int64))
        self._n_hits = self._n_tracks = 0

    def _make(self, name: str, dtype: np.dtype) -> Any:
        return self._group.create_dataset(name, (0,), dtype, chunks=(_CHUNK_ROWS,), maxshape=(None,), **_FILTERS)

    def _append(self, dataset: Any, values: np.ndarray) -> None:
        n_before = len(dataset)
        dataset.resize((n_before + len(values),))
        dataset[n_before:] = values

    def write(self, events: Events) -> None:
        """Write further events."""
        of_hits, of_events, of_tracks = self._names
        hits = {**dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}
        columns = {of_hits[name]: hits[name] for name in self._types.hit}
        columns |= {of_events[name]: events.event_columns[name] for name in self._types.event}
        columns[OFFSETS] = events.offsets[1:] + self._n_hits
        self._n_hits += events.n_hits
        if events.track_offsets is not None:
            columns |= {of_tracks[name]: values for name, values in events.track_columns.items()}
            columns[TRACK_OFFSETS] = events.track_offsets[1:] + self._n_tracks
            self._n_tracks += int(events.track_offsets[-1])
        for name, values in columns.items():
            self._append(self._group[name], values)

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path
