import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError, Events, concatenate
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.write import open_hit_file

ENDINGS = (".csv", ".npz")
DETECTOR = Detector(n_x=32767, n_y=32767, n_t=32767)
TYPES = ("?", "i1", "u1", "i2", "u4", "i8", "f2", "f4", "f8")


@st.composite
def events_with_columns(draw) -> Events:
    counts = np.array(draw(st.lists(st.integers(1, 5), max_size=6)), np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_hits = int(counts.sum())
    hits = np.stack([rng.integers(0, 32767, n_hits), rng.integers(0, 32767, n_hits), rng.integers(1, 32768, n_hits)], 1)
    columns = {}
    for index, kind in enumerate(draw(st.lists(st.sampled_from(TYPES), max_size=4))):
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


def some_events(n_events: int = 3, **columns) -> Events:
    hits = np.array([[0, 1, 2], [3, 4, 5]] * n_events, np.int16)
    return Events(hits, np.arange(0, 2 * n_events + 1, 2), columns)


@settings(max_examples=80, deadline=None)
@given(events_with_columns(), st.integers(0, 6), st.sampled_from(ENDINGS))
def test_what_is_written_is_read(events, n_first, ending):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"hits{ending}"
        with open_hit_file(path) as writer:
            for part in parts_of(events, min(n_first, events.n_events)):
                writer.append(part)
        found = concatenate(read_events(path, detector=DETECTOR))
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


def test_text_is_plain(tmp_path):
    events = some_events(1, score=np.array([1, 0.1], np.float32), is_signal=np.array([True, False]))
    with open_hit_file(tmp_path / "hits.csv") as writer:
        writer.append(events)
    expected = "event,x,y,t,score,is_signal\n0,0,1,2,1.00000000,1\n0,3,4,5,0.100000001,0\n"
    assert (tmp_path / "hits.csv").read_bytes().decode() == expected


def test_npz_is_read_by_numpy(tmp_path):
    score = np.linspace(0, 1, 6, dtype=np.float32)
    with open_hit_file(tmp_path / "hits.npz") as writer:
        writer.append(some_events(3, score=score))
    with np.load(tmp_path / "hits.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype.str for name in arrays} == {
            "event": "<i8",
            "x": "<i2",
            "y": "<i2",
            "t": "<i2",
            "score": "<f4",
        }
        assert arrays["event"].tolist() == [0, 0, 1, 1, 2, 2]
        assert np.array_equal(arrays["score"], score)


def test_same_hits_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        with open_hit_file(tmp_path / name) as writer:
            writer.append(some_events())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_events_are_counted_on(tmp_path, ending):
    empty_in_between = Events(np.ones((2, 3), np.int16), np.array([0, 1, 1, 2]))
    numbered = some_events(2)._replace(event_columns={"event": np.array([10, 20], np.int32)})
    with open_hit_file(tmp_path / f"hits{ending}") as writer:
        for part in (empty_in_between, some_events(1), numbered, some_events(1)):
            writer.append(part)
    found = concatenate(read_events(tmp_path / f"hits{ending}", detector=DETECTOR))
    without_hits = [1] * (ending == ".npz")  # text shows it by the gap alone
    assert found.event_columns["event"].tolist() == [0, *without_hits, 2, 3, 10, 20, 21]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("columns", [None, {"score": np.float32, "is_signal": np.bool_}])
def test_no_events(tmp_path, ending, columns):
    path = tmp_path / f"hits{ending}"
    with open_hit_file(path, columns=columns):
        pass
    assert list(read_events(path, detector=DETECTOR)) == []
    names = ["event", "x", "y", "t", *(columns or {})]
    if ending == ".csv":
        assert path.read_text() == ",".join(names) + "\n"
    else:
        with np.load(path, allow_pickle=False) as arrays:
            assert list(arrays) == names
            assert all(arrays[name].shape == (0,) for name in names)
            assert columns is None or arrays["score"].dtype == np.float32


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("existed", [False, True])
def test_nothing_is_left_after_an_error(tmp_path, ending, existed):
    path = tmp_path / f"hits{ending}"
    if existed:
        path.write_text("before")
    with pytest.raises(KeyboardInterrupt), open_hit_file(path, overwrite=True) as writer:
        writer.append(some_events())
        raise KeyboardInterrupt
    assert [left.name for left in tmp_path.iterdir()] == [path.name] * existed
    assert not existed or path.read_text() == "before"


@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_file(tmp_path, ending):
    path = tmp_path / f"hits{ending}"
    path.write_text("before")
    with (
        pytest.raises(DataError, match="exists already; choose another name, or give --overwrite"),
        open_hit_file(path),
    ):
        pass
    assert path.read_text() == "before"
    with open_hit_file(path, overwrite=True) as writer:
        writer.append(some_events())
    assert concatenate(read_events(path, detector=DETECTOR)).n_events == 3
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_appears_meanwhile(tmp_path):
    path = tmp_path / "hits.csv"
    with pytest.raises(DataError, match="exists already"), open_hit_file(path):
        path.write_text("of someone else")
    assert path.read_text() == "of someone else"
    assert list(tmp_path.iterdir()) == [path]


def test_paths(tmp_path):
    with (
        pytest.raises(DataError, match=r"unknown ending '\.txt'; known are \.csv, \.npz, \.root"),
        open_hit_file(tmp_path / "a.txt"),
    ):
        pass
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="exists already"), open_hit_file(tmp_path / "folder.csv", overwrite=True):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), open_hit_file(tmp_path / "file" / "a.csv"):
        pass
    with open_hit_file(tmp_path / "new" / "folders" / "a.csv") as writer:
        writer.append(some_events())
    assert (tmp_path / "new" / "folders" / "a.csv").exists()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("events", "words"),
    [
        (some_events(), "hit columns are none, expected score float32"),
        (some_events(score=np.zeros(6)), "hit columns are score float64, expected score float32"),
        (some_events(score=np.zeros(5, np.float32)), "one number for each of the 6 hits"),
        (some_events(score=np.zeros((6, 1), np.float32)), "one number for each of the 6 hits"),
        (
            some_events(1, score=np.zeros(2, np.float32))._replace(event_columns={"event": np.array([-1])}),
            "have to rise",
        ),
        (
            some_events(2, score=np.zeros(4, np.float32))._replace(event_columns={"event": np.array([4, 4])}),
            "have to rise",
        ),
    ],
)
def test_events_that_do_not_fit(tmp_path, ending, events, words):
    with (
        pytest.raises(ValueError, match=words),
        open_hit_file(tmp_path / f"a{ending}", columns={"score": np.float32}) as writer,
    ):
        writer.append(events)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "columns", [{"x": "f4"}, {"": "f4"}, {" a": "f4"}, {"a\nb": "f4"}, {"a/b": "f4"}, {"a": "U3"}, {"a": "c8"}]
)
def test_columns_that_cannot_be_written(tmp_path, columns):
    with (
        pytest.raises(ValueError, match=r"cannot be written|can be written"),
        open_hit_file(tmp_path / "a.csv", columns=columns),
    ):
        pass


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_is_bounded(tmp_path, ending):
    part = some_events(10_000, score=np.zeros(20_000, np.float32))
    path = tmp_path / f"hits{ending}"
    tracemalloc.start()
    try:
        with open_hit_file(path) as writer:
            for _ in range(15):
                writer.append(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 2
