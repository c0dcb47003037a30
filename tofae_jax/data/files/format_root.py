"""Trees of ROOT files, TTree or RNTuple, as tables; written as a TTree, compressed with zstd (ROOT 6.20 and later)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.format import Format, FormatWriter, ReadRequest
from tofae_jax.data.files.layout import OutputRows
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
        columns = _tree_columns(file[name]) if not is_ntuple else {}
        places: dict[str, tuple[str, str | None]] = {column: (column, None) for column in columns}
        if is_ntuple:
            columns, places = _ntuple_columns(file[name])

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        chosen = {places[name][0] for name in names}

        def is_chosen(column: Any) -> bool:
            return column.name in chosen or getattr(column, "path", "").partition(".")[0] in chosen

        choice = {"filter_field" if is_ntuple else "filter_branch": is_chosen}
        step_size: str | int = f"{request.chunk_hits * _BYTES_PER_HIT} B"
        with uproot.open({path: None}) as file:
            tree = file[name]
            if not is_ntuple:
                branches = [branch for branch in tree.itervalues() if is_chosen(branch) and not branch.branches]
                step_size = _entries_at_once(branches, request)
            for part in tree.iterate(step_size=step_size, library="ak", **choice):
                found = {}
                for column in names:
                    outer, inner = places[column]
                    found[column] = _values(awkward, part[outer] if inner is None else part[outer][inner])
                yield found

    own_name = name.partition(";")[0]
    return Table(f"tree {one_line(own_name if request.tree != name else name)}", columns, read, own_name=own_name)


def _entries_at_once(branches: Sequence[Any], request: ReadRequest) -> int:
    """Return how many entries to read at once, by the sizes that the baskets declare; those of branches can be wrong.

    Raises:
        DataError: these would take more memory than is allowed, as a basket is unpacked as a whole.
    """
    n_entries = max((int(branch.num_entries) for branch in branches), default=0)
    sizes = [[branch.basket_uncompressed_bytes(n) for n in range(branch.num_baskets)] for branch in branches]
    total = max(1, sum(map(sum, sizes)))
    at_once = max(1, min(n_entries, int(n_entries * request.chunk_hits * _BYTES_PER_HIT / total)))
    starts = np.arange(0, n_entries, at_once)
    n_bytes = np.zeros(len(starts), np.int64)
    for branch, of_branch in zip(branches, sizes, strict=True):
        bounds = np.asarray(branch.entry_offsets, np.int64)
        if len(of_branch) and len(bounds) == len(of_branch) + 1:
            ends = np.append(0, np.cumsum(of_branch))
            first = np.searchsorted(bounds, starts, side="right") - 1
            last = np.searchsorted(bounds, np.minimum(starts + at_once, n_entries), side="left")
            n_bytes += ends[np.clip(last, 0, len(of_branch))] - ends[np.clip(first, 0, len(of_branch))]
    request.limits.check_bytes(int(n_bytes.max(initial=0)), f"a part of {at_once} entries")
    return at_once


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
        raise SeveralTables(f"{len(cycles)} trees", list(cycles))
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


def _ntuple_columns(ntuple: Any) -> tuple[dict[str, Column], dict[str, tuple[str, str | None]]]:
    """Return the columns, and the field and the field of its records that each is.

    A field of lists of records, as awkward writes hits, has a column for each field of the records.
    """
    form = ntuple.to_akform()[0]
    columns: dict[str, Column] = {}
    places: dict[str, tuple[str, str | None]] = {}
    records = []
    for name, content in zip(form.fields, form.contents, strict=True):
        is_list = type(content).__name__ == "ListOffsetForm" and content.parameter("__array__") is None
        if is_list and type(content.content).__name__ == "RecordForm":
            records.append((name, content.content))
            continue
        shown = str(ntuple[name].typename or content.type)
        columns[name] = Column(_dtype_of(content.content if is_list else content), is_list, shown)
        places[name] = (name, None)
    inner = [field for _, record in records for field in record.fields]
    for name, record in records:
        for field, content in zip(record.fields, record.contents, strict=True):
            is_taken = field in form.fields or inner.count(field) > 1
            column = f"{name}.{field}" if is_taken else field
            columns[column] = Column(_dtype_of(content), True, f"list of {content.type}")
            places[column] = (name, field)
    return columns, places


def _dtype_of(form: Any) -> np.dtype | None:
    is_number = type(form).__name__ == "NumpyForm" and not form.inner_shape
    return np.dtype(form.primitive) if is_number and form.parameter("__array__") is None else None


def _values(awkward: Any, values: Any) -> np.ndarray | Lists:
    if values.ndim == 1:
        return awkward.to_numpy(values)
    return Lists(
        awkward.to_numpy(awkward.num(values)).astype(np.int64), awkward.to_numpy(awkward.flatten(values, axis=1))
    )


class _Writer(FormatWriter):
    """Write a TTree with branches of lists, and of numbers per event; or of numbers per hit.

    Branches `n_hits` and `n_tracks` count; they get another name where a column has it. ROOT has no float16:
    it becomes float32.
    """

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        uproot, self._awkward = import_libraries(FORMAT)
        branches: dict[str, Any] = {name: _stored(dtype) for name, dtype in types.event.items()}
        columns = {*types.hit, *types.event, *(types.track or {})}
        self._hits, self._tracks = _free(_HITS, columns), _free(_TRACKS, columns)
        if types.event:
            branches[self._hits] = self._lists_type(types.hit)
            if types.track:
                branches[self._tracks] = self._lists_type(types.track)
        else:
            branches |= {name: _stored(dtype) for name, dtype in types.hit.items()}
        self._file = self.enter_context(uproot.recreate(path, compression=uproot.ZSTD(1)))
        self._tree = self._file.mktree(
            types.layout.table or _TREE,
            branches,
            counter_name=lambda counted: _free(f"n_{counted}", columns),
            field_name=lambda outer, inner: inner or outer,
        )

    def write(self, rows: OutputRows) -> None:
        """Write a basket of each branch."""
        if not self.types.event:
            self._tree.extend(_all_stored(rows.hit))
            return
        columns: dict[str, Any] = _all_stored(rows.event)
        columns[self._hits] = self._lists(rows.offsets, _all_stored(rows.hit))
        if self.types.track and rows.track_offsets is not None:
            columns[self._tracks] = self._lists(rows.track_offsets, _all_stored(rows.track))
        self._tree.extend(columns)

    def _lists_type(self, types: Mapping[str, np.dtype]) -> Any:
        nothing = {name: np.zeros(0, _stored(dtype)) for name, dtype in types.items()}
        return self._lists(np.zeros(1, np.int64), nothing).layout.form.type

    def _lists(self, offsets: np.ndarray, columns: dict[str, np.ndarray]) -> Any:
        contents = self._awkward.contents
        records = contents.RecordArray([contents.NumpyArray(values) for values in columns.values()], list(columns))
        return self._awkward.Array(contents.ListOffsetArray(self._awkward.index.Index64(offsets), records))


def _all_stored(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values.astype(_stored(values.dtype), copy=False) for name, values in columns.items()}


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
    begins=(b"root",),
    libraries=("uproot", "awkward"),
    extra="root",
    has_trees=True,
)
