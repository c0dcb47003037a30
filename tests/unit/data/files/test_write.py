"""Files that are written: complete or absent, with all columns, in bounded memory."""

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from full_disk import largest_file
from hit_files import (
    LARGE,
    SMALL,
    WRITTEN,
    assert_same_events,
    events_with_tables,
    full_events,
    kill_while_writing,
    read,
    some_events,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.write import open_hit_file

ROW_ENDINGS = (".csv", ".npz")
ROW_TYPES = ("?", "i1", "u1", "i2", "u4", "i8", "f2", "f4", "f8")


@pytest.mark.slow
@settings(max_examples=60)
@given(events_with_tables(), st.sampled_from([*WRITTEN, ".npz"]), st.sampled_from([1, 7, 1000]))
def test_open_hit_file_any_events_are_read_back(events, kind, chunk_hits):
    if kind == ".npz" and not events.n_hits:  # nothing shows which columns hits would have had
        events = events._replace(hit_columns={})
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"hits{kind}", events)
        found = read(path, detector=LARGE, chunk_hits=chunk_hits)
        assert_same_events(found, events, has_float16=kind != ".root")


@st.composite
def events_with_columns(draw) -> Events:
    counts = np.array(draw(st.lists(st.integers(1, 5), max_size=6)), np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_hits = int(counts.sum())
    hits = np.stack([rng.integers(0, 32767, n_hits), rng.integers(0, 32767, n_hits), rng.integers(1, 32768, n_hits)], 1)
    columns = {}
    for index, kind in enumerate(draw(st.lists(st.sampled_from(ROW_TYPES), max_size=4))):
        dtype = np.dtype(kind)
        bits = rng.integers(
            0, 256, n_hits * dtype.itemsize, dtype=np.uint8
        )  # every float there is, NaN and infinity too
        columns[f"column {index}, {kind}"] = rng.random(n_hits) < 0.5 if kind == "?" else bits.view(dtype)
    gaps = draw(st.lists(st.integers(1, 2**59), min_size=len(counts), max_size=len(counts)))
    numbers = {"event": np.cumsum(np.array(gaps, np.int64)) - 1}
    return Events(hits.astype(np.int16), np.append(0, np.cumsum(counts)), columns, numbers)


def parts_of(events: Events, n_first: int) -> list[Events]:
    cut = int(events.offsets[n_first])
    halves = ((slice(None, n_first), slice(None, cut)), (slice(n_first, None), slice(cut, None)))
    return [
        Events(
            events.hits[hits],
            np.append(0, np.cumsum(events.counts[part])),
            {name: values[hits] for name, values in events.hit_columns.items()},
            {name: values[part] for name, values in events.event_columns.items()},
        )
        for part, hits in halves
    ]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(events_with_columns(), st.integers(0, 6), st.sampled_from(ROW_ENDINGS))
def test_open_hit_file_events_in_parts_are_read_back(events, n_first, ending):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"hits{ending}"
        with open_hit_file(path) as writer:
            for part in parts_of(events, min(n_first, events.n_events)):
                writer.append(part)
        found = concatenate(read_events(path, detector=LARGE))
    assert np.array_equal(found.hits, events.hits)
    assert np.array_equal(found.offsets, events.offsets)
    if not events.n_hits:
        return
    assert np.array_equal(found.event_columns["event"], events.event_columns["event"])
    assert list(found.hit_columns) == list(events.hit_columns)
    for name, values in events.hit_columns.items():
        read = found.hit_columns[name]
        assert read.dtype == values.dtype or (ending == ".csv" and read.dtype.itemsize == 8)
        assert read.dtype.kind == values.dtype.kind or ending == ".csv"
        assert np.array_equal(read.astype(values.dtype), values, equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz"])
def test_open_hit_file_columns_of_the_same_name(tmp_path, kind):
    """An event's own x, and a column of hits that is a column of events too."""
    events = some_events()._replace(
        event_columns={"event": np.arange(3), "x": np.arange(3.0), "score": np.arange(3), "n_hits": np.arange(3)}
    )
    assert_same_events(read(write(tmp_path / f"a{kind}", events)), events)


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_append_without_numbers_counts_on(tmp_path, ending):
    empty_in_between = Events(np.ones((2, 3), np.int16), np.array([0, 1, 1, 2]))
    numbered = full_events(2)._replace(event_columns={"event": np.array([10, 20], np.int32)})
    with open_hit_file(tmp_path / f"hits{ending}") as writer:
        for part in (empty_in_between, full_events(1), numbered, full_events(1)):
            writer.append(part)
    found = concatenate(read_events(tmp_path / f"hits{ending}", detector=LARGE))
    without_hits = [1] * (ending == ".npz")  # text shows it by the gap alone
    assert found.event_columns["event"].tolist() == [0, *without_hits, 2, 3, 10, 20, 21]


@pytest.mark.parametrize("ending", ROW_ENDINGS)
@pytest.mark.parametrize("columns", [None, {"score": np.float32, "is_signal": np.bool_}])
def test_open_hit_file_no_events_has_the_columns(tmp_path, ending, columns):
    path = tmp_path / f"hits{ending}"
    with open_hit_file(path, columns=columns):
        pass
    assert list(read_events(path, detector=LARGE)) == []
    names = ["event", "x", "y", "t", *(columns or {})]
    if ending == ".csv":
        assert path.read_text() == ",".join(names) + "\n"
    else:
        with np.load(path, allow_pickle=False) as arrays:
            assert list(arrays) == names
            assert all(arrays[name].shape == (0,) for name in names)
            assert columns is None or arrays["score"].dtype == np.float32


@pytest.mark.parametrize("ending", ROW_ENDINGS)
@pytest.mark.parametrize("existed", [False, True])
def test_open_hit_file_error_keeps_the_old_file(tmp_path, ending, existed):
    path = tmp_path / f"hits{ending}"
    before = write(path, full_events()).read_bytes() if existed else b""
    with pytest.raises(KeyboardInterrupt), open_hit_file(path, overwrite=True) as writer:
        writer.append(full_events())
        raise KeyboardInterrupt
    assert [left.name for left in tmp_path.iterdir()] == [path.name] * existed
    assert not existed or path.read_bytes() == before


@pytest.mark.parametrize("kind", WRITTEN)
def test_open_hit_file_table_error_leaves_nothing(tmp_path, kind):
    path = write(tmp_path / f"hits{kind}", some_events())
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), open_hit_file(path, overwrite=True) as writer:
        writer.append(some_events(200_000))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="exists already; give another name, or --overwrite"):
        write(path, some_events())
    with pytest.raises(ValueError, match="hit columns are none, expected score float32"):
        write(tmp_path / f"b{kind}", some_events(), some_events()._replace(hit_columns={}))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*WRITTEN, ".npz", ".csv"])
def test_open_hit_file_killed_leaves_no_file(tmp_path, kind):
    kill_while_writing(tmp_path / f"hits{kind}")
    assert not (tmp_path / f"hits{kind}").exists()


@pytest.mark.parametrize("ending", ROW_ENDINGS)
def test_open_hit_file_existing_needs_overwrite(tmp_path, ending):
    path = write(tmp_path / f"hits{ending}", some_events())
    before = path.read_bytes()
    with (
        pytest.raises(DataError, match="exists already; give another name, or --overwrite"),
        open_hit_file(path),
    ):
        pass
    assert path.read_bytes() == before
    with open_hit_file(path, overwrite=True) as writer:
        writer.append(full_events())
    assert concatenate(read_events(path, detector=LARGE)).n_events == 3
    assert list(tmp_path.iterdir()) == [path]


def test_open_hit_file_file_that_appears_is_kept(tmp_path):
    path = tmp_path / "hits.csv"
    with pytest.raises(DataError, match=r"hits\.csv: appeared meanwhile; it stays"), open_hit_file(path) as file:
        file.append(full_events())
        path.write_text("of someone else")
    assert path.read_text() == "of someone else"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [*WRITTEN, *ROW_ENDINGS])
def test_open_hit_file_overwrites_files_of_its_format_alone(tmp_path, ending):
    path = tmp_path / f"hits{ending}"
    path.write_bytes(b"\0my thesis")
    with pytest.raises(DataError, match="exists already and is a file of another kind"):
        write_over(path)
    assert path.read_bytes() == b"\0my thesis"
    path.write_bytes(b"")
    write_over(path)
    write_over(path)
    assert read(path, detector=LARGE).n_events == 3
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def write_over(path):
    with open_hit_file(path, overwrite=True) as writer:
        writer.append(full_events())


def test_open_hit_file_bad_path_raises(tmp_path):
    with (
        pytest.raises(DataError, match=r"unknown ending '\.dat'; known are \.csv, .*\.npz, \.root"),
        open_hit_file(tmp_path / "a.dat"),
    ):
        pass
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="exists already"), open_hit_file(tmp_path / "folder.csv", overwrite=True):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), open_hit_file(tmp_path / "file" / "a.csv"):
        pass
    with open_hit_file(tmp_path / "new" / "folders" / "a.csv") as writer:
        writer.append(full_events())
    assert (tmp_path / "new" / "folders" / "a.csv").exists()


@pytest.mark.parametrize("ending", ROW_ENDINGS)
@pytest.mark.parametrize(
    ("events", "words"),
    [
        (full_events(), "hit columns are none, expected score float32"),
        (full_events(score=np.zeros(6)), "hit columns are score float64, expected score float32"),
        (full_events(score=np.zeros(5, np.float32)), "one number for each of the 6 hits"),
        (full_events(score=np.zeros((6, 1), np.float32)), "one number for each of the 6 hits"),
        (
            full_events(1, score=np.zeros(2, np.float32))._replace(event_columns={"event": np.array([-1])}),
            "have to rise",
        ),
        (
            full_events(2, score=np.zeros(4, np.float32))._replace(event_columns={"event": np.array([4, 4])}),
            "have to rise",
        ),
    ],
)
def test_append_events_that_do_not_fit_raise(tmp_path, ending, events, words):
    with (
        pytest.raises(ValueError, match=words),
        open_hit_file(tmp_path / f"a{ending}", columns={"score": np.float32}) as writer,
    ):
        writer.append(events)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "columns", [{"x": "f4"}, {"": "f4"}, {" a": "f4"}, {"a\nb": "f4"}, {"a/b": "f4"}, {"a": "U3"}, {"a": "c8"}]
)
def test_open_hit_file_bad_column_raises(tmp_path, columns):
    with (
        pytest.raises(ValueError, match=r"cannot be written|can be written"),
        open_hit_file(tmp_path / "a.csv", columns=columns),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "n_parts"), [(".csv", 60), (".npz", 150)])
def test_open_hit_file_rows_memory_is_bounded(tmp_path, ending, n_parts):
    part = full_events(1_000, score=np.zeros(2_000, np.float32))
    path = tmp_path / f"hits{ending}"
    tracemalloc.start()
    try:
        with open_hit_file(path) as writer:
            for _ in range(n_parts):
                writer.append(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITTEN)
def test_open_hit_file_table_memory_is_bounded(tmp_path, kind):
    """In chunks, both ways, measured where NumPy allocates; the libraries' own memory is measured by hand."""
    n_parts, n_hits = 12, 100_000
    part = Events(np.ones((n_hits, 3), np.int16), np.arange(0, n_hits + 1, 250), {"score": np.zeros(n_hits)})
    path = tmp_path / f"hits{kind}"
    read(write(tmp_path / f"first{kind}", some_events()), detector=LARGE)  # imports the libraries
    tracemalloc.start()
    try:
        with open_hit_file(path) as writer:
            for _ in range(n_parts):
                writer.append(part)
        seen = sum(c.n_hits for c in read_events(path, detector=SMALL, chunk_hits=50_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == n_parts * n_hits
    assert peak < 14 * n_parts * n_hits


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".npz", *WRITTEN])
@pytest.mark.parametrize("limit", [0, 90])
def test_open_hit_file_on_a_full_disk_names_the_file(tmp_path, ending, limit):
    path = tmp_path / f"a{ending}"
    with pytest.raises(OSError, match=f"a{ending}"), largest_file(limit), open_hit_file(path) as file:
        for _ in range(4):
            file.append(some_events(400))
    assert list(tmp_path.iterdir()) == []


def test_open_hit_file_keeps_other_errors_as_they_are(tmp_path):
    with pytest.raises(OSError, match="elsewhere") as caught, largest_file(0), open_hit_file(tmp_path / "a.h5") as file:
        file.append(some_events())
        raise OSError(5, "not of this file", "elsewhere")
    assert caught.value.filename == "elsewhere"
