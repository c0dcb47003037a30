"""Hit files with one row per hit: text, and NumPy arrays."""

from __future__ import annotations

import csv
import shutil
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tofae_jax.datasets.event_columns import EVENT_PREFIX, TRACK_EVENTS, TRACK_PREFIX
from tofae_jax.datasets.events import Events, event_of_hit
from tofae_jax.datasets.written_columns import ColumnTypes

_ROWS_AT_ONCE = 8192  # of text: more is no faster
_COPY_BYTES = 2**20


class CsvFile(ExitStack):
    """Text with a header line; event columns are repeated for each hit as `event.NAME`, tracks are left out."""

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        super().__init__()
        self._path = folder / "hits.csv"
        self._file = self.enter_context(self._path.open("w", encoding="utf-8", newline=""))
        repeated = {f"{EVENT_PREFIX}{name}": dtype for name, dtype in types.event.items() if name != "event"}
        self._types = {"event": types.event["event"], **types.hit, **repeated}
        csv.writer(self._file, lineterminator="\n").writerow(self._types)
        self._row = ",".join(map(_text_format, self._types.values())) + "\n"

    def write(self, events: Events) -> None:
        """Write further events."""
        event = event_of_hit(events)
        once = {"event" if name == "event" else f"{EVENT_PREFIX}{name}": v for name, v in events.event_columns.items()}
        columns = {**dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}
        n_columns = len(self._types)
        for start in range(0, events.n_hits, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            parts = [(once[n][event[rows]] if n in once else columns[n][rows]).tolist() for n in self._types]
            # One format for all rows together takes a third of np.savetxt's time.
            values: list = [None] * (n_columns * len(parts[0]))
            for number, part in enumerate(parts):
                values[number::n_columns] = part
            self._file.write(self._row * len(parts[0]) % tuple(values))

    def finish(self) -> Path:
        """Complete the file; where it is."""
        self.close()
        return self._path


def _text_format(dtype: np.dtype) -> str:
    """How to print numbers of a type so that reading them gives the same ones, and floats look like floats."""
    if dtype.kind != "f":
        return "%d"
    n_bits = np.finfo(dtype).nmant + 1
    return f"%#.{int(np.ceil(1 + n_bits * np.log10(2)))}g"  # "#" keeps the decimal point: 1.0 is no integer


class NpzFile(ExitStack):
    """One array per column, uncompressed.

    `event, x, y, t` and the hit columns have a value per hit; see `event_columns` for the others. Those are there only
    if they say more: if there are event or track columns, or events without hits.

    A header comes first and tells the length, which only the end shows: columns wait in files of their own.
    """

    def __init__(self, folder: Path, types: ColumnTypes) -> None:
        super().__init__()
        self._path = folder / "hits.npz"
        self._needs_events = len(types.event) > 1 or types.track is not None
        hits = {"event": types.event["event"], **types.hit}
        events = {f"{EVENT_PREFIX}{name}": dtype for name, dtype in types.event.items()}
        tracks = {f"{TRACK_PREFIX}{name}": dtype for name, dtype in (types.track or {}).items()}
        if types.track is not None:
            tracks[TRACK_EVENTS] = types.event["event"]
        self._types = {**hits, **events, **tracks}
        parts = [folder / f"column_{number}" for number in range(len(self._types))]
        self._files = {
            name: self.enter_context(part.open("w+b")) for name, part in zip(self._types, parts, strict=True)
        }

    def write(self, events: Events) -> None:
        """Write further events."""
        event = events.event_columns["event"]
        columns = {
            "event": event[event_of_hit(events)],
            **dict(zip("xyt", events.hits.T, strict=True)),
            **events.hit_columns,
            **{f"{EVENT_PREFIX}{name}": values for name, values in events.event_columns.items()},
        }
        if events.track_offsets is not None:
            columns |= {f"{TRACK_PREFIX}{name}": values for name, values in events.track_columns.items()}
            columns[TRACK_EVENTS] = np.repeat(event, np.diff(events.track_offsets))
        self._needs_events |= not events.counts.all()
        for name, dtype in self._types.items():
            self._files[name].write(np.ascontiguousarray(columns[name], dtype).data)

    def finish(self) -> Path:
        """Complete the file; where it is."""
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, dtype in self._types.items():
                if name.startswith(EVENT_PREFIX) and not self._needs_events:
                    continue
                with self._files[name] as column:
                    n_rows = column.tell() // dtype.itemsize
                    header = {
                        "descr": np.lib.format.dtype_to_descr(dtype),
                        "fortran_order": False,
                        "shape": (n_rows,),
                    }
                    # The same date for all files (1980), so that the same hits give the same bytes.
                    member = zipfile.ZipInfo(f"{name}.npy")
                    with archive.open(member, "w", force_zip64=True) as target:
                        np.lib.format.write_array_header_1_0(target, header)
                        column.seek(0)
                        shutil.copyfileobj(column, target, _COPY_BYTES)
        self.close()
        return self._path
