"""Trees of ROOT files, as TTree or RNTuple, as tables.

Errors raised here name the place but not the file: `readers.py` puts its name in front.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tofae_jax.datasets.events import DataError
from tofae_jax.datasets.extras import libraries
from tofae_jax.datasets.readers_lists import one_line
from tofae_jax.datasets.readers_tables import Column, Lists, Rows, SeveralTables, Table

_TREE_CLASSES = ("TTree", "TNtuple", "TNtupleD", "TChain")
_NTUPLE_CLASSES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")
_BYTES_PER_HIT = 24  # of all columns together, roughly: how much to read at once
_MAX_LISTED = 12  # trees named in a message


def root_table(path: Path, tree: str | None, *, chunk_hits: int) -> Table:
    """A tree of a ROOT file: the one called `tree`, by default the only one there is.

    Branches of numbers and of lists of numbers can be read, whether a counter branch or a `std::vector` makes them
    lists; a counter is no column of its own.
    """
    uproot, awkward = libraries(".root")
    with uproot.open({path: None}) as file:
        classes = file.classnames(cycle=False)
        name = _chosen(classes, tree)
        is_ntuple = classes[name] in _NTUPLE_CLASSES
        columns = _ntuple_columns(file[name]) if is_ntuple else _tree_columns(file[name])

    def read(names: Sequence[str]) -> Generator[Rows, None, None]:
        wanted = set(names)
        choice = {"filter_field" if is_ntuple else "filter_branch": lambda column: column.name in wanted}
        with uproot.open({path: None}) as file:
            for part in file[name].iterate(step_size=f"{chunk_hits * _BYTES_PER_HIT} B", library="ak", **choice):
                yield {name: _values(awkward, part[name]) for name in names}

    return Table(f"tree {one_line(name)}", columns, read)


def _chosen(classes: Mapping[str, str], tree: str | None) -> str:
    trees = [name for name, kind in classes.items() if kind in _TREE_CLASSES + _NTUPLE_CLASSES]
    shown = ", ".join(map(one_line, trees[:_MAX_LISTED])) + ", ..." * (len(trees) > _MAX_LISTED)
    if tree is not None:
        if tree.partition(";")[0] not in trees:
            raise DataError(f"no tree {tree!r}; it has {shown or 'none'}")
        return tree.partition(";")[0]
    if not trees:
        raise DataError(f"no tree; it has {one_line(', '.join(classes)) or 'nothing'}")
    if len(trees) > 1:
        raise SeveralTables(f"{len(trees)} trees", shown)
    return trees[0]


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
