"""Convert between Arrow record batches, which Parquet and Arrow files hold, and rows of a table.

All functions take the module `pyarrow`, imported with `pyarrow.compute`, since it is an optional library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import ColumnTypes, hit_values
from tofae_jax.data.files.tables import Column, Lists, Rows

LIBRARIES = ("pyarrow", "pyarrow.compute")
EXTRA = "columns"


def schema_columns(pyarrow: Any, schema: Any) -> dict[str, Column]:
    """Return what the columns of a schema hold, by name."""
    if len(set(schema.names)) < len(schema.names):
        raise DataError("two columns of the same name; every column needs its own")
    return {field.name: _column(pyarrow, field.type) for field in schema}


def _column(pyarrow: Any, kind: Any) -> Column:
    types = pyarrow.types
    is_list = is_list_type(pyarrow, kind)
    value = kind.value_type if is_list else kind
    is_number = types.is_integer(value) or types.is_floating(value) or types.is_boolean(value)
    return Column(np.dtype(value.to_pandas_dtype()) if is_number else None, is_list, str(kind))


def is_list_type(pyarrow: Any, kind: Any) -> bool:
    """Whether a column of this type has a list per row."""
    types = pyarrow.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def batch_rows(pyarrow: Any, batch: Any, names: Sequence[str]) -> Rows:
    """Return the named columns of a record batch."""
    return {name: _values(pyarrow, batch.column(name), name) for name in names}


def _values(pyarrow: Any, column: Any, name: str) -> np.ndarray | Lists:
    if not is_list_type(pyarrow, column.type):
        return _numbers(column, name)
    compute = pyarrow.compute
    # A missing list counts as an empty one.
    counts = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    return Lists(counts.astype(np.int64), _numbers(column.flatten(), name))


def _numbers(values: Any, name: str) -> np.ndarray:
    """Return the numbers; missing ones turn a column of integers into floats with NaN, which `tables` refuses."""
    found = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "O":
        raise DataError(f"column {one_line(name)} lacks {values.null_count} of its {values.type} values; fill them")
    return found


class BatchMaker:
    """Make record batches of events: a row per event, with lists in hit and track columns."""

    def __init__(self, pyarrow: Any, types: ColumnTypes) -> None:
        self._pyarrow = pyarrow
        self._types = types
        self._names = hit_names, event_names, track_names = types.table_names()
        kinds = {event_names[name]: pyarrow.from_numpy_dtype(dtype) for name, dtype in types.event.items()}
        for names, columns in ((hit_names, types.hit), (track_names, types.track or {})):
            kinds |= {names[name]: pyarrow.list_(pyarrow.from_numpy_dtype(dtype)) for name, dtype in columns.items()}
        self.schema = pyarrow.schema(list(kinds.items()))

    def batch(self, events: Events) -> Any:
        """Return the events as one record batch."""
        hit_names, event_names, track_names = self._names
        columns = {event_names[name]: self._pyarrow.array(events.event_columns[name]) for name in self._types.event}
        hits = hit_values(events)
        columns |= {hit_names[name]: self._lists(events.offsets, hits[name]) for name in self._types.hit}
        if events.track_offsets is not None:
            tracks = events.track_columns
            columns |= {track_names[name]: self._lists(events.track_offsets, tracks[name]) for name in tracks}
        return self._pyarrow.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _lists(self, offsets: np.ndarray, values: np.ndarray) -> Any:
        numbers = self._pyarrow.array(np.ascontiguousarray(values))
        return self._pyarrow.ListArray.from_arrays(self._pyarrow.array(offsets.astype(np.int32)), numbers)
