"""Write `.npz` files array by array, column by column."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from tofae_jax.data.files.column_types import ColumnTypes
from tofae_jax.data.files.format import FormatWriter
from tofae_jax.data.files.layout import OutputRows

_COPY_BYTES = 2**20


class NpzWriter(FormatWriter):
    """Write one array per column, uncompressed.

    `event, x, y, t` and the hit columns have one value per hit. Arrays of events are written only if they are needed:
    with event or track columns, or with events without hits.

    The header of an array tells its length, which is known only at the end; so columns are collected in temporary
    files.
    """

    def __init__(self, path: Path, types: ColumnTypes) -> None:
        super().__init__(path, types)
        self._needs_events = len(types.event) > 1 or types.track is not None
        self._types = {**types.hit, **types.event, **(types.track or {})}
        parts = [path.parent / f"column_{number}" for number in range(len(self._types))]
        self._files = {
            name: self.enter_context(part.open("w+b")) for name, part in zip(self._types, parts, strict=True)
        }

    def write(self, rows: OutputRows) -> None:
        """Append the events to the temporary files."""
        columns = {**rows.hit, **rows.event, **rows.track}
        self._needs_events |= bool(rows.event) and not np.diff(rows.offsets).all()
        for name in self._types:
            self._files[name].write(np.ascontiguousarray(columns[name]).data)

    def finish(self) -> None:
        """Join the columns in one zip file."""
        with zipfile.ZipFile(self.path, "w") as archive:
            for name, dtype in self._types.items():
                if name in self.types.event and not self._needs_events:
                    continue
                with self._files[name] as column:
                    header = {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": (column.tell() // dtype.itemsize,),
                    }
                    # ZipInfo has the same date in all files (1980), so that the same hits give the same bytes.
                    member = zipfile.ZipInfo(f"{name}.npy")
                    with archive.open(member, "w", force_zip64=True) as target:
                        np.lib.format.write_array_header_1_0(target, header)
                        column.seek(0)
                        shutil.copyfileobj(column, target, _COPY_BYTES)
        super().finish()
