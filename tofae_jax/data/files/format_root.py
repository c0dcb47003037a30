"""Trees of ROOT files, TTree or RNTuple, as tables; written as a TTree, compressed with zstd (ROOT 6.20 and later)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import ColumnTypes, hit_values
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.optional_libraries import import_libraries
from tofae_jax.data.files.tables import Column, Lists, Rows, SeveralTables, Table

_TREE_CLASSES = ("TTree", "TNtuple", "TNtupleD", "TChain")
_NTUPLE_CLASSES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")
_BYTES_PER_HIT = 24  # of all columns together, roughly; decides how much is read at once
_TREE = "events"
_HITS, _TRACKS = "hits", "tracks"  # names of the counters, after "n_"; the branches themselves are called by the column


def _open_table(request: ReadRequest) -> Table:
    """Open the tree called `request.tree`, by default the only one in the file.

    Branches of numbers and of lists of numbers can be read, with a counter branch or as `std::vector`; a counter is
    no column of its own.
    """
    path = request.path
    uproot, awkward = import_libraries(FORMAT)
    with uproot.open({path: None}) as file:
        classes = file.classnames(cycle=True)
        name = _chosen(classes, request.tree)
        is_ntuple = classes[name] in _NTUPLE_CLASSES
        columns = _ntuple_columns(file[name]) if is_ntuple else _tree_columns(file[name])

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        chosen = set(names)
        choice = {"filter_field" if is_ntuple else "filter_branch": lambda column: column.name in chosen}
        step_size = f"{request.chunk_hits * _BYTES_PER_HIT} B"
        with uproot.open({path: None}) as file:
            for part in file[name].iterate(step_size=step_size, library="ak", **choice):
                yield {name: _values(awkward, part[name]) for name in names}

    return Table(f"tree {one_line(name.partition(';')[0] if request.tree != name else name)}", columns, read)


def _chosen(classes: Mapping[str, str], tree: str | None) -> str:
    """Return the name with its cycle (`NAME;N`) of a tree: the one asked for, or the newest cycle of the only one."""
    cycles: dict[str, list[int]] = {}
    for key, kind in classes.items():
        name, _, cycle = key.rpartition(";")
        if kind in _TREE_CLASSES + _NTUPLE_CLASSES:
            cycles.setdefault(name, []).append(int(cycle))
    if tree is not None:
        name, _, cycle = tree.partition(";")
        if name not in cycles:
            raise DataError(f"no tree {tree!r}; it has {listing(list(cycles)) or 'none'}")
        if cycle and cycle not in {str(known) for known in cycles[name]}:
            raise DataError(f"no tree {tree!r}; it has {', '.join(f'{name};{n}' for n in sorted(cycles[name]))}")
        return f"{name};{cycle or max(cycles[name])}"
    if not cycles:
        others = {key.rpartition(";")[0]: None for key in classes}
        raise DataError(f"no tree; it has {one_line(', '.join(others)) or 'nothing'}")
    if len(cycles) > 1:
        raise SeveralTables(f"{len(cycles)} trees", listing(list(cycles)))
    ((name, known),) = cycles.items()
    return f"{name};{max(known)}"


def _tree_columns(tree: Any) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    counters = set()
    for name, branch in tree.iteritems(full_paths=False):
        if len(branch.branches):
            continue
        counters.add(getattr(branch.count_branch, "name", None))
        kind = branch.interpretation
        is_list = hasattr(kind, "content")
        dtype = getattr(kind.content if is_list else kind, "to_dtype", None)
        is_number = isinstance(dtype, np.dtype) and not dtype.shape and not dtype.names
        columns.setdefault(name, Column(dtype if is_number else None, is_list, str(branch.typename)))
    return {name: column for name, column in columns.items() if name not in counters}


def _ntuple_columns(ntuple: Any) -> dict[str, Column]:
    columns = {}
    form = ntuple.to_akform()[0]
    for name, content in zip(form.fields, form.contents, strict=True):
        is_list = type(content).__name__ == "ListOffsetForm" and content.parameter("__array__") is None
        value = content.content if is_list else content
        is_number = type(value).__name__ == "NumpyForm" and not value.inner_shape
        dtype = np.dtype(value.primitive) if is_number and value.parameter("__array__") is None else None
        columns[name] = Column(dtype, is_list, str(ntuple[name].typename or content.type))
    return columns


def _values(awkward: Any, values: Any) -> np.ndarray | Lists:
    if values.ndim == 1:
        return awkward.to_numpy(values)
    return Lists(
        awkward.to_numpy(awkward.num(values)).astype(np.int64), awkward.to_numpy(awkward.flatten(values, axis=1))
    )


class _Writer(FormatWriter):
    """Write a TTree with branches of lists, and of numbers per event.

    Branches `n_hits` and `n_tracks` count; they get another name where a column has it. ROOT has no float16:
    it becomes float32.
    """

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        uproot, self._awkward = import_libraries(FORMAT)
        self._names = hit_names, event_names, track_names = types.table_names()
        branches: dict[str, Any] = {event_names[name]: _stored(dtype) for name, dtype in types.event.items()}
        columns = {*hit_names.values(), *event_names.values(), *track_names.values()}
        branches[_free(_HITS, columns)] = self._lists_type(hit_names, types.hit)
        self._hits = list(branches)[-1]
        if types.track:
            branches[_free(_TRACKS, columns)] = self._lists_type(track_names, types.track)
        self._tracks = list(branches)[-1]
        self._file = self.enter_context(uproot.recreate(path, compression=uproot.ZSTD(1)))
        self._tree = self._file.mktree(
            _TREE,
            branches,
            counter_name=lambda counted: _free(f"n_{counted}", columns),
            field_name=lambda outer, inner: inner or outer,
        )

    def write(self, events: Events) -> None:
        """Write a basket of each branch."""
        hit_names, event_names, track_names = self._names
        columns: dict[str, Any] = {
            event_names[name]: events.event_columns[name].astype(_stored(dtype), copy=False)
            for name, dtype in self.types.event.items()
        }
        hits = hit_values(events)
        columns[self._hits] = self._lists(
            events.offsets, {hit_names[name]: hits[name].astype(_stored(d)) for name, d in self.types.hit.items()}
        )
        if self.types.track and events.track_offsets is not None:
            tracks = events.track_columns
            columns[self._tracks] = self._lists(
                events.track_offsets,
                {track_names[name]: tracks[name].astype(_stored(d)) for name, d in self.types.track.items()},
            )
        self._tree.extend(columns)

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


FORMAT = Format(
    (".root",),
    "ROOT tree",
    open_table=_open_table,
    writer=_Writer,
    libraries=("uproot", "awkward"),
    extra="root",
    has_trees=True,
)
