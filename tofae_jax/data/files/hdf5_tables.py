"""Find the tables of an HDF5 file, and where the columns of each lie.

A table is a group of 1-D datasets, a dataset of records, a 2-D dataset of numbers, or a frame that pandas wrote.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import listing
from tofae_jax.data.files.hdf5_objects import all_of, check_dataset, is_own, objects_in, own
from tofae_jax.data.files.hit_rows import HIT_LIST_COLUMNS, ROWS_PER_BLOCK
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.tables import Column, Rows, SeveralTables

_FRAMES = ("frame", "frame_table")
_NAMES = ("columns", "names")
"""attributes of a 2-D dataset that may name its columns"""


class Source(NamedTuple):
    """Where the values of a column lie."""

    dataset: str
    """path in the file"""
    field: str | None = None
    """of a dataset of records"""
    place: int | None = None
    """column of a dataset, or of a field, of several columns"""

    def of(self, block: np.ndarray) -> np.ndarray:
        """Return the values of a block of the dataset, in native byte order."""
        values = block if self.field is None else block[self.field]
        values = values if self.place is None else values[:, self.place]
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def choose_table(h5py: Any, file: Any, tree: str | None) -> str:
    """Return the path of the table called `tree`, or of the only one.

    Raises:
        DataError: there is none.
        SeveralTables: there are several, and none was chosen.
    """
    tables = ["/"] * is_table(h5py, file)

    frames: tuple[str, ...] = ()
    for name, found in objects_in(h5py, file):
        is_index = any(part.startswith("_i_") for part in name.split("/"))  # of PyTables
        is_part = name.startswith(frames)
        frames += (f"{name}/",) * _is_frame(h5py, found)
        if not is_index and not is_part and is_table(h5py, found):
            tables.append(name)
    if tree is not None:
        name = tree.strip("/") or "/"
        if name not in tables:
            raise DataError(f"no group {tree!r} with 1-D datasets; it has {listing(tables) or 'none'}")
        return name
    if not tables:
        raise DataError("no group with 1-D datasets, and no dataset of records or of columns")
    if len(tables) > 1:
        raise SeveralTables(f"{len(tables)} groups of datasets", tables)
    return tables[0]


def is_table(h5py: Any, found: Any) -> bool:
    """Whether an object of a file is a table."""
    if isinstance(found, h5py.Dataset):
        return (found.dtype.names is not None and found.ndim == 1) or bool(_matrix_names(found))
    return isinstance(found, h5py.Group) and (_is_frame(h5py, found) or bool(datasets_of(h5py, found)))


def datasets_of(h5py: Any, group: Any) -> dict[str, Any]:
    """Return the 1-D datasets in the group itself, without those that links point to."""
    found = {name: group[name] for name in group if is_own(h5py, group, name)}
    return {
        name: values
        for name, values in found.items()
        if isinstance(values, h5py.Dataset) and values.ndim == 1 and values.dtype.names is None
    }


def others_of(h5py: Any, group: Any) -> dict[str, str]:
    """Return type and shape, by name, of what else lies in the group itself and is no table of its own."""
    found = {}
    for name in group:
        if not is_own(h5py, group, name):
            found[name] = "link, which is not followed"
        elif isinstance(values := group[name], h5py.Dataset) and values.ndim != 1 and not is_table(h5py, values):
            found[name] = f"{values.dtype}{[*values.shape] if values.shape is not None else ''}"
    return found


def column_of(dtype: np.dtype, *, is_list: bool = False) -> Column:
    """Return the column of values of a type."""
    is_number = dtype.kind in "biuf" and not dtype.shape
    return Column(dtype if is_number else None, is_list, str(dtype))


def flat_columns(h5py: Any, found: Any, limits: Limits) -> tuple[dict[str, Column], dict[str, Source]] | None:
    """Return columns and where they lie of a table of one row per hit; None for a group of datasets."""
    if isinstance(found, h5py.Dataset):
        if found.dtype.names is None:
            names = _matrix_names(found)
            sources = {name: Source(found.name, place=place) for place, name in enumerate(names)}
            return {name: column_of(found.dtype) for name in names}, sources
        columns = {field: column_of(found.dtype[field]) for field in found.dtype.names}
        return columns, {field: Source(found.name, field) for field in columns}
    if not _is_frame(h5py, found):
        return None
    is_fixed = _text(found.attrs["pandas_type"]) == "frame"
    sources = _fixed_frame(h5py, found, limits) if is_fixed else _frame_table(own(h5py, found, "table"))
    file = found.file
    types = {name: file[source.dataset].dtype for name, source in sources.items()}
    fields = {name: types[name][source.field] if source.field else types[name] for name, source in sources.items()}
    objects = [*map(_text, all_of(own(h5py, found, "axis0"), limits))] if is_fixed else []
    texts = {name: Column(None, False, "text or objects") for name in objects if name not in sources}
    return {**{name: column_of(fields[name].base) for name in sources}, **texts}, sources


def flat_rows(
    file: Any, sources: Mapping[str, Source], names: Sequence[str], chunk_hits: int, limits: Limits
) -> Iterator[Rows]:
    """Yield blocks of the named columns."""
    paths = dict.fromkeys(sources[name].dataset for name in names)
    datasets = {path: file[path] for path in paths}
    lengths = {len(values) for values in datasets.values()}
    if len(lengths) > 1:
        raise DataError(f"columns of {' and '.join(map(str, sorted(lengths)))} values; the same number expected")
    n_rows = lengths.pop() if lengths else 0
    at_once = rows_at_once(list(datasets.values()), chunk_hits, limits)
    for start in range(0, n_rows, at_once):
        blocks = {path: values[start : start + at_once] for path, values in datasets.items()}
        yield {name: sources[name].of(blocks[sources[name].dataset]) for name in names}


def rows_at_once(sources: Sequence[Any], chunk_hits: int, limits: Limits) -> int:
    """Return how many rows to read at once: about a chunk of a compressed dataset, which is unpacked as a whole."""
    for source in sources:
        check_dataset(source, limits)
    n_bytes = sum(math.prod(source.shape[1:]) * source.dtype.itemsize for source in sources)
    longest = max((source.chunks[0] for source in sources if source.chunks), default=0)
    most = min(max(ROWS_PER_BLOCK, longest), max(ROWS_PER_BLOCK, chunk_hits))
    return limits.rows_at_once(most, n_bytes, "the table")


def _matrix_names(dataset: Any) -> tuple[str, ...]:
    """Return the names of the columns of a 2-D dataset; none where it is no table of hits."""
    if dataset.ndim != 2 or dataset.dtype.kind not in "iuf":
        return ()
    for attribute in _NAMES:
        if attribute in dataset.attrs:
            given = dataset.attrs[attribute]
            words = _text(given).replace(";", ",").split(",") if np.ndim(given) == 0 else [*map(_text, given)]
            names = tuple(word.strip() for word in words)
            if len(names) != dataset.shape[1] or len(set(names)) < len(names):
                raise DataError(
                    f"dataset {one_line(dataset.name)} has {dataset.shape[1]} columns, but its attribute {attribute} "
                    f"says {one_line(', '.join(names))}"
                )
            return names
    return HIT_LIST_COLUMNS if dataset.shape[1] == len(HIT_LIST_COLUMNS) else ()


def _is_frame(h5py: Any, found: Any) -> bool:
    return isinstance(found, h5py.Group) and _text(found.attrs.get("pandas_type", "")) in _FRAMES


def _fixed_frame(h5py: Any, group: Any, limits: Limits) -> dict[str, Source]:
    """Locate the columns of a frame in the format `fixed`: a 2-D dataset for each type."""
    sources = {}
    for number in range(int(group.attrs["nblocks"])):
        values = own(h5py, group, f"block{number}_values")
        if values.ndim == 2:  # others are pickled objects, such as text
            items = all_of(own(h5py, group, f"block{number}_items"), limits)
            for place, name in enumerate(map(_text, items)):
                sources[name] = Source(values.name, place=place)
    order = [*map(_text, all_of(own(h5py, group, "axis0"), limits))]
    return {name: sources[name] for name in order if name in sources}


def _frame_table(table: Any) -> dict[str, Source]:
    """Locate the columns of a frame in the format `table`: fields of records, or of several columns each."""
    sources = {}
    for field in table.dtype.names:
        if table.dtype[field].shape:
            names = _pickled_names(table.attrs.get(f"{field}_kind", b""))
            if len(names) != table.dtype[field].shape[0]:
                raise DataError(f"{field} of a pandas table does not say what its columns are called")
            sources |= {name: Source(table.name, field, place) for place, name in enumerate(names)}
        elif field != "index":
            sources[field] = Source(table.name, field)
    return sources


def _pickled_names(pickled: Any) -> list[str]:
    """Return the words of a pickled list of words, without running what a pickle could ask for."""
    content = pickled.encode() if isinstance(pickled, str) else bytes(pickled)
    try:
        codes = [(code.name, argument) for code, argument, _ in pickletools.genops(content)]
    except Exception as error:  # whatever a damaged one leads to
        raise DataError(f"names of the columns cannot be read ({one_line(error)})") from None
    if any(name in ("GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "BUILD") for name, _ in codes):
        raise DataError("names of the columns are no plain list of words")
    return [
        argument for name, argument in codes if isinstance(argument, str) and ("STRING" in name or "UNICODE" in name)
    ]


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
