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
from tofae_jax.data.events import DataError
from tofae_jax.data.files.column_types import ColumnNameError, ColumnTypes
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.hdf5_objects import check_dataset
from tofae_jax.data.files.hdf5_output import Hdf5Output
from tofae_jax.data.files.hdf5_tables import (
    Source,
    choose_table,
    column_of,
    datasets_of,
    flat_columns,
    flat_rows,
    others_of,
)
from tofae_jax.data.files.hit_rows import ROWS_PER_BLOCK
from tofae_jax.data.files.layout import TRACK_PREFIX, OutputRows
from tofae_jax.data.files.limits import COPIES, Limits
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.table_events import event_cuts
from tofae_jax.data.files.tables import Column, HitRules, Lists, Rows, Table

_OFFSETS, _TRACK_OFFSETS = "offsets", "track_offsets"
_PER = "per"  # attribute of a dataset: `hit`, `event` or `track`; without it the length decides
_GROUP = "events"
_CHUNK_ROWS = 65_536
# filters that every HDF5 library has; the last one is a check sum
_FILTERS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}


def _open_table(request: ReadRequest) -> Table:
    """Open the group or dataset called `request.tree`, by default the only one in the file.

    - A dataset of records, a 2-D dataset, or a frame of pandas: one row per hit.
    - A group of 1-D datasets of equal length: one row per hit; each dataset is a column.
    - A group with a dataset `offsets`: one row per event. Datasets with a value per hit act as columns of lists, those
      with a value per event as columns of numbers.
    - A group of datasets of lists: one row per event.
    """
    path, rules, chunk_hits = request.path, request.rules, request.chunk_hits
    (h5py,) = import_libraries(FORMAT)
    sources: dict[str, Source] = {}
    n_events: int | None = None
    with h5py.File(path, "r") as file:
        name = choose_table(h5py, file, request.tree)
        found = flat_columns(h5py, file[name], request.limits)
        if found is not None:
            columns, sources = found
        else:
            columns, n_events = _group_columns(h5py, file[name], rules, request.limits)
            sources = {column: Source(f"{name}/{column}") for column in columns}
            is_ragged = (
                n_events is not None and rules.names["x"] in columns and _is_ragged(h5py, file[name][rules.names["x"]])
            )
            columns |= {column: Column(None, False, shown) for column, shown in others_of(h5py, file[name]).items()}

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        with h5py.File(path, "r") as file:
            if n_events is not None:
                for column in {*names, _OFFSETS, _TRACK_OFFSETS} & set(datasets_of(h5py, file[name])):
                    check_dataset(file[name][column], request.limits)
            if n_events is None:
                yield from flat_rows(file, sources, names, chunk_hits, request.limits)
            elif is_ragged:
                yield from _ragged_rows(file[name], names, columns, n_events, request)
            else:
                yield from _list_rows(file[name], names, columns, n_events, request)

    return Table(f"group {one_line(name)}" if name.strip("/") else "", columns, read, own_name=name)


def _column_names_of(request: ReadRequest) -> list[str]:
    """Return the names of the 1-D datasets of a group."""
    (h5py,) = import_libraries(FORMAT)
    with h5py.File(request.path, "r") as file:
        found = file[choose_table(h5py, file, request.tree)]
        return [] if isinstance(found, h5py.Dataset) else [*datasets_of(h5py, found)]


def _other(values: Any, n_hits: int) -> Column:
    return Column(None, False, f"{values.dtype} and has {len(values)} values, not {n_hits} as there are hits")


def _group_columns(h5py: Any, group: Any, rules: HitRules, limits: Limits) -> tuple[dict[str, Column], int | None]:
    """Return the columns of a group, and the number of events if it has offsets or lists."""
    datasets, x = datasets_of(h5py, group), rules.names["x"]
    n_hits = len(datasets[x]) if x in datasets else -1  # the length of x is the number of hits
    if x in datasets and _is_ragged(h5py, datasets[x]):
        return {name: _ragged(h5py, values, n_hits) for name, values in datasets.items()}, n_hits
    offsets = datasets.get(_OFFSETS)
    # Offsets beside an event number for each hit are no more than an index.
    key = rules.keys[-1] if rules.keys else ""
    if offsets is None or x == _OFFSETS or _is_per_hit(datasets.get(key), n_hits, len(offsets) - 1):
        return {
            name: column_of(values.dtype) if n_hits in (-1, len(values)) else _other(values, n_hits)
            for name, values in datasets.items()
        }, None
    lengths = {"hit": n_hits, "event": len(offsets) - 1}
    for name in {_OFFSETS, _TRACK_OFFSETS} & set(datasets):
        found = datasets.pop(name)
        if found.dtype.kind not in "iu" or len(found) != len(offsets) or not len(found):
            raise DataError(f"dataset {name} is of {found.dtype}[{len(found)}]; {_OFFSETS} are integers, one or more")
        if name == _TRACK_OFFSETS:
            check_dataset(found, limits)
            lengths["track"] = int(found[-1])
    columns = {}
    for name, values in datasets.items():
        per = _per(name, values, lengths, rules)
        columns[name] = column_of(values.dtype, is_list=per != "event") if per else _other(values, n_hits)
    return columns, lengths["event"]


def _is_ragged(h5py: Any, values: Any) -> bool:
    """Whether a dataset has a list of numbers per row; of text the base type is `str`."""
    return isinstance(h5py.check_vlen_dtype(values.dtype), np.dtype)


def _ragged(h5py: Any, values: Any, n_events: int) -> Column:
    if len(values) != n_events:
        return Column(None, False, f"{values.dtype} and has {len(values)} values, not {n_events} as there are events")
    if _is_ragged(h5py, values):
        return column_of(h5py.check_vlen_dtype(values.dtype), is_list=True)
    return column_of(values.dtype)


def _ragged_rows(
    group: Any, names: Sequence[str], columns: Mapping[str, Column], n_events: int, request: ReadRequest
) -> Iterator[Rows]:
    """Yield blocks of events whose hits are lists of variable length."""
    most = max(1, min(ROWS_PER_BLOCK, request.chunk_hits // 64))
    at_once, start = 1, 0  # nothing but reading a list tells its length: several can even be the same part of the file
    while start < n_events:
        n_bytes = 0
        rows: dict[str, np.ndarray | Lists] = {}
        for name in names:
            values, column = group[name][start : start + at_once], columns[name]
            n_bytes += sum(row.nbytes for row in values) if column.is_list else values.nbytes
            request.limits.check_bytes(2 * n_bytes, f"{len(values)} lists of events")
            if column.is_list:
                counts = np.array([len(row) for row in values], np.int64)
                flat = np.concatenate([*values, np.zeros(0, column.dtype)])
                rows[name] = Lists(counts, _native(flat.astype(column.dtype, copy=False)))
            else:
                rows[name] = _native(values)
        yield rows
        start += at_once
        fitting = int(request.limits.n_bytes / COPIES * at_once / max(n_bytes, 1))
        at_once = max(1, min(most, 2 * at_once, fitting))


def _per(name: str, values: Any, lengths: Mapping[str, int], rules: HitRules) -> str | None:
    """Return what a dataset has one value for: a hit, an event or a track; None if its length fits none of these.

    Raises:
        DataError: it may be hits or events, as there are as many, and nothing says which.
    """
    if "track" in lengths and name.startswith(TRACK_PREFIX):
        return "track" if len(values) == lengths["track"] else None
    fitting = [per for per in ("hit", "event") if len(values) == lengths[per]]
    if name in rules.names.values() and "hit" in fitting:
        return "hit"
    if name in rules.keys and "event" in fitting:
        return "event"
    marked = values.attrs.get(_PER, rules.per)
    if len(fitting) > 1 and marked not in fitting and (rules.further is None or name in rules.further):
        raise DataError(
            f"dataset {one_line(name)} has {len(values)} values, and there are as many hits as events: say what they "
            "are for with --columns.per hit or --columns.per event"
        )
    return marked if marked in fitting else next(iter(fitting), None)


def _is_per_hit(event: Any, n_hits: int, n_events: int) -> bool:
    return event is not None and len(event) == n_hits and n_hits != n_events


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _list_rows(
    group: Any, names: Sequence[str], columns: Mapping[str, Column], n_events: int, request: ReadRequest
) -> Iterator[Rows]:
    track_columns = {name for name in names if name.startswith(TRACK_PREFIX) and _TRACK_OFFSETS in group}
    hit_columns = {name for name in names if columns[name].is_list} - track_columns
    n_hits, n_tracks = (len(group[next(iter(found))]) if found else 0 for found in (hit_columns, track_columns))
    for first in range(0, n_events, ROWS_PER_BLOCK):
        n_now = min(ROWS_PER_BLOCK, n_events - first)
        is_last = first + n_now == n_events
        offsets = _offsets(group[_OFFSETS], first, n_now, n_hits, is_last)
        track_offsets = _offsets(group[_TRACK_OFFSETS], first, n_now, n_tracks, is_last) if track_columns else offsets
        for bounds in (offsets, track_offsets):
            largest = int(np.diff(bounds).argmax())
            request.limits.check_hits(int(bounds[largest + 1] - bounds[largest]), f"event {first + largest}")
        for start, stop in pairwise(event_cuts(offsets, chunk_hits=request.chunk_hits)):
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
        for name in (_OFFSETS, _TRACK_OFFSETS):
            if name in types.hit or name in types.event:
                raise ColumnNameError(f"column {name!r} cannot be written to HDF5 under this name")
        self._output = self.enter_context(Hdf5Output(path))
        file = self.enter_context(h5py.File(path, "w", driver="fileobj", fileobj=self._output))
        table = types.layout.table or _GROUP
        self._group = file.create_group(table, track_order=True) if table != "/" else file
        for per, columns in (("hit", types.hit), ("event", types.event), ("track", types.track or {})):
            for name, dtype in columns.items():
                self._make(name, dtype).attrs[_PER] = per
        if types.event:
            for name in (_OFFSETS, *[_TRACK_OFFSETS] * (types.track is not None)):
                self._append(self._make(name, np.dtype(np.int64)), np.zeros(1, np.int64))
        self._n_hits = self._n_tracks = 0

    def _make(self, name: str, dtype: np.dtype) -> Any:
        return self._group.create_dataset(name, (0,), dtype, chunks=(_CHUNK_ROWS,), maxshape=(None,), **_FILTERS)

    def _append(self, dataset: Any, values: np.ndarray) -> None:
        n_before = len(dataset)
        dataset.resize((n_before + len(values),))
        dataset[n_before:] = values

    def write(self, rows: OutputRows) -> None:
        """Append the events to the datasets."""
        columns = {**rows.hit, **rows.event, **rows.track}
        if rows.event:
            columns[_OFFSETS] = rows.offsets[1:] + self._n_hits
            if rows.track_offsets is not None:
                columns[_TRACK_OFFSETS] = rows.track_offsets[1:] + self._n_tracks
                self._n_tracks += int(rows.track_offsets[-1])
        self._n_hits += rows.n_hits
        for name, values in columns.items():
            self._append(self._group[name], values)
            self._output.check()


FORMAT = Format(
    (".h5", ".hdf5"),
    "HDF5 group or dataset of records",
    open_table=_open_table,
    column_names=_column_names_of,
    writer=_Writer,
    begins=(b"\x89HDF\r\n\x1a\n",),
    libraries=("h5py",),
    extra="hdf5",
    has_trees=True,
    has_offsets=True,
)
