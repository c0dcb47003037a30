"""Groups of 1-D datasets in HDF5 files, and datasets of records, as tables; written as a group, compressed.

A group with one row per event has a dataset `offsets`, int[n_events + 1]: event `i` owns the hits
`offsets[i]:offsets[i + 1]`. Tracks, whose columns are called `track.NAME`, have their own `track_offsets`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import TRACK_PREFIX, ColumnTypes, hit_values
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hdf5_output import Hdf5Output
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.tables import Column, Lists, Rows, SeveralTables, Table, event_cuts

_OFFSETS, _TRACK_OFFSETS = "offsets", "track_offsets"
_PER = "per"  # attribute of a dataset: `hit`, `event` or `track`; without it the length decides
_GROUP = "events"
_CHUNK_ROWS = 65_536
# filters that every HDF5 library has; the last one is a check sum
_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}


def _open_table(request: ReadRequest) -> Table:
    """Open the group or dataset called `request.tree`, by default the only one in the file.

    - A dataset of records: one row per hit; its fields are the columns.
    - A group of 1-D datasets of equal length: one row per hit; each dataset is a column.
    - A group with a dataset `offsets`: one row per event. Datasets with a value per hit act as columns of lists, those
      with a value per event as columns of numbers.
    """
    path, x, chunk_hits = request.path, request.rules.names["x"], request.chunk_hits  # the length of x is n_hits
    (h5py,) = import_libraries(FORMAT)
    with h5py.File(path, "r") as file:
        name = _chosen(h5py, file, request.tree)
        found = file[name]
        if isinstance(found, h5py.Dataset):
            columns = {field: _column(found.dtype[field], False) for field in found.dtype.names}
            n_events = None
        else:
            columns, n_events = _group_columns(h5py, found, x)

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        with h5py.File(path, "r") as file:
            if n_events is None:
                yield from _flat_rows(h5py, file[name], names, x, chunk_hits)
            else:
                yield from _list_rows(file[name], names, columns, n_events, chunk_hits)

    return Table(f"group {one_line(name)}" if name.strip("/") else "", columns, read)


def _column(dtype: np.dtype, is_list: bool) -> Column:
    is_number = dtype.kind in "biuf" and not dtype.shape
    return Column(dtype if is_number else None, is_list, str(dtype))


def _other(values: Any, n_hits: int) -> Column:
    return Column(None, False, f"{values.dtype} and has {len(values)} values, not {n_hits} as there are hits")


def _chosen(h5py: Any, file: Any, tree: str | None) -> str:
    tables = ["/"] * _is_table(h5py, file)
    file.visititems(lambda name, found: tables.append(name) if _is_table(h5py, found) else None)
    if tree is not None:
        name = tree.strip("/") or "/"
        if name not in tables:
            raise DataError(f"no group {tree!r} with 1-D datasets; it has {listing(tables) or 'none'}")
        return name
    if not tables:
        raise DataError("no group with 1-D datasets, and no dataset of records")
    if len(tables) > 1:
        raise SeveralTables(f"{len(tables)} groups of datasets", listing(tables))
    return tables[0]


def _is_table(h5py: Any, found: Any) -> bool:
    if isinstance(found, h5py.Dataset):
        return found.dtype.names is not None and found.ndim == 1
    return isinstance(found, h5py.Group) and bool(_datasets(h5py, found))


def _datasets(h5py: Any, group: Any) -> dict[str, Any]:
    """Return the 1-D datasets in the group itself, without those that links point to."""
    found = {name: group[name] for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)}
    return {
        name: values
        for name, values in found.items()
        if isinstance(values, h5py.Dataset) and values.ndim == 1 and values.dtype.names is None
    }


def _group_columns(h5py: Any, group: Any, x: str) -> tuple[dict[str, Column], int | None]:
    """Return the columns of a group, and the number of events if it has offsets."""
    datasets = _datasets(h5py, group)
    n_hits = len(datasets[x]) if x in datasets else -1
    offsets = datasets.get(_OFFSETS)
    # Offsets beside an event number for each hit are no more than an index.
    if offsets is None or x == _OFFSETS or _is_per_hit(datasets.get("event"), n_hits, len(offsets) - 1):
        return {
            name: _column(values.dtype, False) if n_hits in (-1, len(values)) else _other(values, n_hits)
            for name, values in datasets.items()
        }, None
    lengths = {"hit": n_hits, "event": len(offsets) - 1}
    for name in {_OFFSETS, _TRACK_OFFSETS} & set(datasets):
        found = datasets.pop(name)
        if found.dtype.kind not in "iu" or len(found) != len(offsets) or not len(found):
            raise DataError(f"dataset {name} is of {found.dtype}[{len(found)}]; {_OFFSETS} are integers, one or more")
        if name == _TRACK_OFFSETS:
            lengths["track"] = int(found[-1])
    columns = {}
    for name, values in datasets.items():
        per = _per(name, values, lengths)
        columns[name] = _column(values.dtype, per != "event") if per else _other(values, n_hits)
    return columns, lengths["event"]


def _per(name: str, values: Any, lengths: Mapping[str, int]) -> str | None:
    """Return what a dataset has one value for: a hit, an event or a track; None if its length fits none of these."""
    if "track" in lengths and name.startswith(TRACK_PREFIX):
        return "track" if len(values) == lengths["track"] else None
    fitting = [per for per in ("hit", "event") if len(values) == lengths[per]]
    if name == "event" and "event" in fitting:
        return "event"
    marked = values.attrs.get(_PER)
    return marked if marked in fitting else next(iter(fitting), None)


def _is_per_hit(event: Any, n_hits: int, n_events: int) -> bool:
    return event is not None and len(event) == n_hits and n_hits != n_events


def _flat_rows(h5py: Any, table: Any, names: Sequence[str], x: str, chunk_hits: int) -> Iterator[Rows]:
    sources = [table] if isinstance(table, h5py.Dataset) else [table[name] for name in names]
    n_rows = len(sources[0])
    at_once = _rows_at_once(sources, chunk_hits)
    for start in range(0, n_rows, at_once):
        if isinstance(table, h5py.Dataset):
            block = table[start : start + at_once]
            yield {name: _native(block[name]) for name in names}
        else:
            yield {name: _native(table[name][start : start + at_once]) for name in names}


def _rows_at_once(sources: list[Any], chunk_hits: int) -> int:
    """Return how many rows to read at once: about a chunk of a compressed dataset, which is unpacked as a whole."""
    longest = max((source.chunks[0] for source in sources if source.chunks), default=0)
    return max(1, min(max(ROWS_PER_BLOCK, longest), max(ROWS_PER_BLOCK, chunk_hits)))


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _list_rows(
    group: Any, names: Sequence[str], columns: Mapping[str, Column], n_events: int, chunk_hits: int
) -> Iterator[Rows]:
    track_columns = {name for name in names if name.startswith(TRACK_PREFIX) and _TRACK_OFFSETS in group}
    hit_columns = {name for name in names if columns[name].is_list} - track_columns
    n_hits, n_tracks = (len(group[next(iter(found))]) if found else 0 for found in (hit_columns, track_columns))
    for first in range(0, n_events, ROWS_PER_BLOCK):
        n_now = min(ROWS_PER_BLOCK, n_events - first)
        is_last = first + n_now == n_events
        offsets = _offsets(group[_OFFSETS], first, n_now, n_hits, is_last)
        track_offsets = _offsets(group[_TRACK_OFFSETS], first, n_now, n_tracks, is_last) if track_columns else offsets
        for start, stop in pairwise(event_cuts(offsets, chunk_hits=chunk_hits)):
            rows = {}
            for name in names:
                if columns[name].is_list:
                    bounds = (track_offsets if name in track_columns else offsets)[start : stop + 1]
                    rows[name] = Lists(np.diff(bounds), _native(group[name][int(bounds[0]) : int(bounds[-1])]))
                else:
                    rows[name] = _native(group[name][first + start : first + stop])
            yield rows


def _offsets(dataset: Any, first: int, n_events: int, n_rows: int, is_last: bool) -> np.ndarray:
    """Read and check the offsets of events `first` to `first + n_events - 1`, int64[n_events + 1]."""
    offsets = dataset[first : first + n_events + 1].astype(np.int64)
    is_start_wrong = offsets[0] != 0 if first == 0 else offsets[0] < 0
    is_end_wrong = offsets[-1] != n_rows if is_last else offsets[-1] > n_rows
    if is_start_wrong or is_end_wrong or (np.diff(offsets) < 0).any():
        raise DataError(f"dataset {dataset.name.rpartition('/')[2]} has to rise from 0 to {n_rows}, the number of rows")
    return offsets


class _Writer(FormatWriter):
    """Write datasets of a value per hit, per event and per track, marked so by the attribute `per`."""

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        (h5py,) = import_libraries(FORMAT)
        self._names = hit_names, event_names, track_names = types.table_names()
        taken = {*hit_names.values(), *event_names.values()}
        for name in (_OFFSETS, _TRACK_OFFSETS):
            if name in taken:
                raise ValueError(f"column {name!r} cannot be written under this name")
        self._output = self.enter_context(Hdf5Output(path))
        file = self.enter_context(h5py.File(path, "w", driver="fileobj", fileobj=self._output))
        self._group = file.create_group(_GROUP, track_order=True)
        for per, names, columns in (
            ("hit", hit_names, types.hit),
            ("event", event_names, types.event),
            ("track", track_names, types.track or {}),
        ):
            for name, dtype in columns.items():
                self._make(names[name], dtype).attrs[_PER] = per
        for name in (_OFFSETS, *[_TRACK_OFFSETS] * (types.track is not None)):
            self._append(self._make(name, np.dtype(np.int64)), np.zeros(1, np.int64))
        self._n_hits = self._n_tracks = 0

    def _make(self, name: str, dtype: np.dtype) -> Any:
        return self._group.create_dataset(name, (0,), dtype, chunks=(_CHUNK_ROWS,), maxshape=(None,), **_FILTERS)

    def _append(self, dataset: Any, values: np.ndarray) -> None:
        n_before = len(dataset)
        dataset.resize((n_before + len(values),))
        dataset[n_before:] = values

    def write(self, events: Events) -> None:
        """Append the events to the datasets."""
        hit_names, event_names, track_names = self._names
        hits = hit_values(events)
        columns = {hit_names[name]: hits[name] for name in self.types.hit}
        columns |= {event_names[name]: events.event_columns[name] for name in self.types.event}
        columns[_OFFSETS] = events.offsets[1:] + self._n_hits
        self._n_hits += events.n_hits
        if events.track_offsets is not None:
            columns |= {track_names[name]: values for name, values in events.track_columns.items()}
            columns[_TRACK_OFFSETS] = events.track_offsets[1:] + self._n_tracks
            self._n_tracks += int(events.track_offsets[-1])
        for name, values in columns.items():
            self._append(self._group[name], values)
            self._output.check()


FORMAT = Format(
    (".h5", ".hdf5"),
    "HDF5 group or dataset of records",
    open_table=_open_table,
    writer=_Writer,
    libraries=("h5py",),
    extra="hdf5",
    has_trees=True,
)
