"""Hit files of ROOT: a tree `events` with one entry per event."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.datasets.events import Events
from tofae_jax.datasets.extras import libraries
from tofae_jax.datasets.written_columns import ColumnTypes

TREE = "events"
_HITS, _TRACKS = "hits", "tracks"  # names of the counters, after "n_"; the branches themselves are called by the column


class RootFile(ExitStack):
    """A TTree (compressed with zstd, for ROOT 6.20 and later): branches of lists, and of numbers per event.

    Branches `n_hits` and `n_tracks` count; they get another name where a column has it. ROOT has no float16:
    it becomes float32.
    """

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        super().__init__()
        uproot, self._awkward = libraries(".root")
        self._path = folder / "hits.root"
        self._types = types
        self._names = of_hits, of_events, of_tracks = types.table_names()
        branches: dict[str, Any] = {of_events[name]: _stored(dtype) for name, dtype in types.event.items()}
        branches[_free(_HITS, branches)] = self._lists_type(of_hits, types.hit)
        self._hits = list(branches)[-1]
        if types.track:
            branches[_free(_TRACKS, branches)] = self._lists_type(of_tracks, types.track)
        self._tracks = list(branches)[-1]
        taken = {*of_hits.values(), *of_events.values(), *of_tracks.values()}
        self._file = self.enter_context(uproot.recreate(self._path, compression=uproot.ZSTD(1)))
        self._tree = self._file.mktree(
            TREE,
            branches,
            counter_name=lambda counted: _free(f"n_{counted}", taken),
            field_name=lambda outer, inner: inner or outer,
        )

    def write(self, events: Events) -> None:
        """Write further events, as a basket of each branch."""
        of_hits, of_events, of_tracks = self._names
        columns: dict[str, Any] = {
            of_events[name]: events.event_columns[name].astype(_stored(dtype), copy=False)
            for name, dtype in self._types.event.items()
        }
        hits = {**dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}
        columns[self._hits] = self._lists(
            events.offsets, {of_hits[name]: hits[name].astype(_stored(d)) for name, d in self._types.hit.items()}
        )
        if self._types.track and events.track_offsets is not None:
            tracks = events.track_columns
            columns[self._tracks] = self._lists(
                events.track_offsets,
                {of_tracks[name]: tracks[name].astype(_stored(d)) for name, d in self._types.track.items()},
            )
        self._tree.extend(columns)

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path

    def _lists_type(self, names: dict[str, str], types: Any) -> Any:
        nothing = {names[name]: np.zeros(0, _stored(dtype)) for name, dtype in types.items()}
        return self._lists(np.zeros(1, np.int64), nothing).layout.form.type

    def _lists(self, offsets: np.ndarray, columns: dict[str, np.ndarray]) -> Any:
        contents = self._awkward.contents
        records = contents.RecordArray([contents.NumpyArray(values) for values in columns.values()], list(columns))
        return self._awkward.Array(contents.ListOffsetArray(self._awkward.index.Index64(offsets), records))


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _free(name: str, taken: Any) -> str:
    while name in taken:
        name += "_"
    return name
