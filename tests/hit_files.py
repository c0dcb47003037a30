"""What the tests of hit files of all kinds share: events with columns of every type, and how files are checked."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError, Events, concatenate, event_of_hit
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.write import open_hit_file

SMALL = Detector(n_x=4, n_y=3, n_t=10, width_mm=8.0, height_mm=6.0, window_ns=5.0)  # 2 mm pixels, 0.5 ns bins
LARGE = Detector(n_x=32767, n_y=32767, n_t=32767)
ROWS = np.array([[2, 0, 0, 1], [2, 3, 2, 10], [5, 1, 1, 5], [9, 1, 1, 5], [9, 1, 1, 6], [9, 0, 2, 7]])
COUNTS = np.array([2, 1, 3])
"""hits of the three events in `ROWS`"""
TYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


def read(path: Path, **options) -> Events:
    return concatenate(read_events(path, detector=options.pop("detector", SMALL), **options))


def rows_of(events: Events) -> np.ndarray:
    return np.column_stack([events.event_columns["event"][event_of_hit(events)], events.hits]).astype(np.int64)


def columns_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column.copy() for name, column in zip(("event", "x", "y", "t"), rows.T, strict=True)}


def write(path: Path, *parts: Events) -> Path:
    with open_hit_file(path) as writer:
        for events in parts:
            writer.append(events)
    return path


def assert_refused(path: Path, words: str, **options) -> None:
    """The file gives a one-line `DataError` that names it and says `words` (a regular expression)."""
    with pytest.raises(DataError, match=words) as caught:
        for _ in read_events(path, detector=options.pop("detector", SMALL), **options):
            pass
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def some_columns(draw, rng, n_rows: int, prefix: str) -> dict[str, np.ndarray]:
    """Columns of any types and values, NaN and infinity too, with names that some formats could stumble over."""
    columns = {}
    for index, kind in enumerate(draw(st.lists(st.sampled_from(TYPES), max_size=3))):
        bits = rng.integers(0, 256, n_rows * np.dtype(kind).itemsize, dtype=np.uint8)
        name = f"{prefix}{('_', ' ', '.', '-', '+')[index]}{np.dtype(kind).name}"
        columns[name] = rng.random(n_rows) < 0.5 if kind == "?" else bits.view(kind)
    return columns


@st.composite
def events_with_tables(draw) -> Events:
    """Events, with and without hits, with columns of hits, events and perhaps tracks."""
    counts = np.array(draw(st.lists(st.integers(0, 5), min_size=1, max_size=6)), np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_events, n_hits = len(counts), int(counts.sum())
    hits = np.stack([rng.integers(0, 32767, n_hits), rng.integers(0, 32767, n_hits), rng.integers(1, 32768, n_hits)], 1)
    gaps = draw(st.lists(st.integers(1, 2**59), min_size=n_events, max_size=n_events))
    events = Events(
        hits.astype(np.int16),
        np.append(0, np.cumsum(counts)),
        some_columns(draw, rng, n_hits, "hit"),
        {"event": np.cumsum(np.array(gaps, np.int64)) - 1, **some_columns(draw, rng, n_events, "of event")},
    )
    if draw(st.booleans()):
        return events
    n_tracks = rng.integers(0, 3, n_events)
    columns = {"momentum": rng.random(int(n_tracks.sum())), **some_columns(draw, rng, int(n_tracks.sum()), "of track")}
    return events._replace(track_offsets=np.append(0, np.cumsum(n_tracks)), track_columns=columns)


def assert_same_events(found: Events, expected: Events, *, has_float16: bool = True) -> None:
    """All hits, offsets and columns are the same, types included."""
    np.testing.assert_array_equal(found.hits, expected.hits)
    assert found.hits.dtype == np.int16
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert (found.track_offsets is None) == (expected.track_offsets is None)
    if expected.track_offsets is not None:
        np.testing.assert_array_equal(found.track_offsets, expected.track_offsets)
    for field in ("hit_columns", "event_columns", "track_columns"):
        columns, expected_columns = getattr(found, field), getattr(expected, field)
        assert sorted(columns) == sorted(expected_columns)
        for name, values in expected_columns.items():
            kind = np.dtype(np.float32) if values.dtype == np.float16 and not has_float16 else values.dtype
            assert columns[name].dtype == kind
            np.testing.assert_array_equal(columns[name], values.astype(kind))


def kill_while_writing(path: Path) -> None:
    """Write to `path` in another process that is killed before the end."""
    code = f"""
        import os, signal
        from pathlib import Path
        import numpy as np
        from tofae_jax.data.events import Events
        from tofae_jax.data.files.write import open_hit_file
        many = Events(np.ones((250_000, 3), np.int16), np.arange(0, 250_001, 250))
        with open_hit_file(Path({str(path)!r})) as writer:
            writer.append(many)
            writer.append(many)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    answer = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True)
    assert answer.returncode == -9, answer.stderr


# Files as other programs write them


def lists_of(values: np.ndarray, counts: np.ndarray = COUNTS) -> list[np.ndarray]:
    return np.split(values, np.cumsum(counts)[:-1])


def write_lists(path: Path, lists: dict[str, list], numbers: dict[str, np.ndarray]) -> Path:
    """A file with one row per event, made by the format's own library."""
    if path.suffix == ".root":
        import awkward
        import uproot

        branches = {name: awkward.unflatten(np.concatenate(v), list(map(len, v))) for name, v in lists.items()}
        with uproot.recreate(path) as file:
            file.mktree(
                "tree", {**{n: b.type for n, b in branches.items()}, **{n: v.dtype for n, v in numbers.items()}}
            )
            file["tree"].extend({**branches, **numbers})
    elif path.suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            for name, values in lists.items():
                file[name] = np.concatenate(values)
            for name, values in numbers.items():
                file[name] = values
            file["offsets"] = np.append(0, np.cumsum([len(value) for value in next(iter(lists.values()))]))
    else:
        write_arrow(path, {**lists, **numbers})
    return path


def write_flat(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """A file with one row per hit, made by the format's own library."""
    if path.suffix == ".root":
        import uproot

        with uproot.recreate(path) as file:
            file.mktree("tree", {name: values.dtype for name, values in columns.items()})
            file["tree"].extend(columns)
    elif path.suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
    else:
        write_arrow(path, columns)
    return path


def write_arrow(path: Path, columns: dict) -> Path:
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    table = pyarrow.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        with pyarrow.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=2)
    return path
