"""Convert between Arrow record batches, which Parquet and Arrow files hold, and rows of a table.

All functions take the module `pyarrow`, imported with `pyarrow.compute`, since it is an optional library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.layout import OutputRows
from tofae_jax.data.files.tables import Column, Lists, Rows

Places = Mapping[str, tuple[str, str | None, Any]]
"""column, field of its records and type by the name of a column in a table"""
LIBRARIES = ("pyarrow", "pyarrow.compute")


def schema_columns(pyarrow: Any, schema: Any) -> dict[str, Column]:
    """Return what the columns of a schema hold, by name.

    A column of lists of records has a column for each field, called by the field, or `COLUMN.FIELD` where another
    column has that name; so it is read as awkward and uproot write hits.
    """
    if len(set(schema.names)) < len(schema.names):
        raise DataError("two columns of the same name; every column needs its own")
    return {name: _column(pyarrow, kind) for name, (_, _, kind) in record_places(pyarrow, schema).items()}


def record_places(pyarrow: Any, schema: Any) -> Places:
    """Return where the columns of a table lie, from the schema of the whole file: its names depend on all columns."""
    schema = [field.with_type(_stored_type(pyarrow, field.type)) for field in schema]
    found: dict[str, tuple[str, str | None, Any]] = {}
    records = [field for field in schema if _is_list_of_records(pyarrow, field.type)]
    for field in schema:
        if field not in records:
            found[field.name] = (field.name, None, field.type)
    for field in records:
        for inner in field.type.value_type:
            is_taken = inner.name in found or any(
                other is not field and inner.name in {part.name for part in other.type.value_type} for other in records
            )
            name = f"{field.name}.{inner.name}" if is_taken else inner.name
            while name in found:
                name += "_"
            found[name] = (field.name, inner.name, pyarrow.list_(inner.type))
    return found


def _stored_type(pyarrow: Any, kind: Any) -> Any:
    """Return a type with those that it stores in place of extension types, which awkward registers when imported."""
    types = pyarrow.types
    while isinstance(kind, pyarrow.BaseExtensionType):
        kind = kind.storage_type
    if is_list_type(pyarrow, kind):
        inner = kind.value_field.with_type(_stored_type(pyarrow, kind.value_type))
        if types.is_fixed_size_list(kind):
            return pyarrow.list_(inner, kind.list_size)
        return pyarrow.large_list(inner) if types.is_large_list(kind) else pyarrow.list_(inner)
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_stored_type(pyarrow, field.type)) for field in kind])
    return kind


def _is_list_of_records(pyarrow: Any, kind: Any) -> bool:
    return is_list_type(pyarrow, kind) and pyarrow.types.is_struct(kind.value_type)


def _column(pyarrow: Any, kind: Any) -> Column:
    types = pyarrow.types
    is_list = is_list_type(pyarrow, kind)
    value = kind.value_type if is_list else kind
    value = value.value_type if types.is_dictionary(value) else value
    is_number = types.is_integer(value) or types.is_floating(value) or types.is_boolean(value)
    return Column(np.dtype(value.to_pandas_dtype()) if is_number else None, is_list, str(kind))


def is_list_type(pyarrow: Any, kind: Any) -> bool:
    """Whether a column of this type has a list per row."""
    types = pyarrow.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def batch_rows(pyarrow: Any, batch: Any, names: Sequence[str], places: Places) -> Rows:
    """Return the named columns of a record batch, whose `places` are those of all columns of the file."""
    return {name: _values(pyarrow, batch.column(places[name][0]), name, places[name][1]) for name in names}


def _values(pyarrow: Any, column: Any, name: str, field: str | None) -> np.ndarray | Lists:
    kind = _stored_type(pyarrow, column.type)
    column = column if column.type == kind else column.cast(kind)
    if not is_list_type(pyarrow, column.type):
        return _numbers(pyarrow, column, name)
    compute = pyarrow.compute
    # A missing list counts as an empty one.
    counts = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = column.flatten()
    values = flat if field is None else compute.struct_field(flat, field)
    return Lists(counts.astype(np.int64), _numbers(pyarrow, values, name))


def _numbers(pyarrow: Any, values: Any, name: str) -> np.ndarray:
    """Return the numbers; missing ones turn a column of integers into floats with NaN, which `tables` refuses."""
    if pyarrow.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    found = values.to_numpy(zero_copy_only=False)
    if found.dtype.kind == "O":
        raise DataError(f"column {one_line(name)} lacks {values.null_count} of its {values.type} values; fill them")
    return found


class BatchMaker:
    """Make record batches of events: a row per event, with lists in hit and track columns; or a row per hit."""

    def __init__(self, pyarrow: Any, types: ColumnTypes) -> None:
        self._pyarrow = pyarrow
        self._has_lists = bool(types.event)
        kinds = {name: pyarrow.from_numpy_dtype(dtype) for name, dtype in types.event.items()}
        for name, dtype in (*types.hit.items(), *(types.track or {}).items()):
            kind = pyarrow.from_numpy_dtype(dtype)
            kinds[name] = pyarrow.list_(kind) if self._has_lists else kind
        order = {name: place for place, name in enumerate(types.layout.order)}
        names = sorted(kinds, key=lambda name: order.get(name, len(order))) if order else list(kinds)
        self.schema = pyarrow.schema([(name, kinds[name]) for name in names])

    def batch(self, rows: OutputRows) -> Any:
        """Return the events as one record batch."""
        columns = {name: self._pyarrow.array(values) for name, values in rows.event.items()}
        columns |= {name: self._lists(rows.offsets, values) for name, values in rows.hit.items()}
        if rows.track_offsets is not None and self._has_lists:
            columns |= {name: self._lists(rows.track_offsets, values) for name, values in rows.track.items()}
        return self._pyarrow.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _lists(self, offsets: np.ndarray, values: np.ndarray) -> Any:
        numbers = self._pyarrow.array(np.ascontiguousarray(values))
        if not self._has_lists:
            return numbers
        return self._pyarrow.ListArray.from_arrays(self._pyarrow.array(offsets.astype(np.int32)), numbers)
