"""NumPy files of several arrays: hit lists and images, read and written."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hit_files import ROWS, SMALL, assert_refused, columns_of, full_events, read, rows_of, write, write_npz
from torch_files import Hostile

from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Reading
from tofae_jax.data.files.write import open_hit_file


def test_read_further_columns_keep_types(tmp_path):
    further = {
        "score": np.linspace(0, 1, 6, dtype=">f4"),
        "is_signal": np.arange(6) % 2 == 0,
        "charge": np.arange(6, dtype=np.uint8),
    }
    others = {"names": np.array(["a"] * 6), "short": np.arange(5), "image": np.zeros((6, 6))}
    events = read(write_npz(tmp_path / "hits.npz", **columns_of(ROWS), **further, **others), chunk_hits=2)
    assert sorted(events.hit_columns) == sorted(further)
    for name, values in further.items():
        assert np.array_equal(events.hit_columns[name], values)
        assert events.hit_columns[name].dtype == values.dtype.newbyteorder("=")


def test_read_further_columns_of_2d_array(tmp_path):
    table = np.column_stack([ROWS, np.arange(6) / 4])
    path = write_npz(tmp_path / "hits.npz", a=table, columns=np.array(["event", "x", "y", "t", "score"]))
    assert read(path).hit_columns["score"].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_read_several_arrays_need_a_choice(tmp_path):
    images = np.zeros((2, 3, 4), int)
    images[1, 2, 3] = 4
    path = write_npz(tmp_path / "hits.npz", a=ROWS, b=ROWS[:2], c=images, d=np.zeros(3), e=np.zeros((2, 3)))
    assert np.array_equal(rows_of(read(path, array="a")), ROWS)
    assert np.array_equal(rows_of(read(path, array="b")), ROWS[:2])
    assert np.array_equal(rows_of(read(path, array="c")), [[1, 3, 2, 4]])
    assert_refused(path, r"2 arrays to read; choose one with --array: a int64\[6, 4\], b int64\[2, 4\]")
    assert_refused(path, r"no array 'z'; it has a int64\[6, 4\], b .*, d float64\[3\]", array="z")
    assert_refused(path, "d .* is neither a 2-D hit list nor images", array="d")
    assert_refused(path, r"array e float64\[2, 3\]; integers or floats with 4 columns \(event, x, y, t\)", array="e")


def test_read_array_alone_needs_no_choice(tmp_path):
    path = write_npz(tmp_path / "a.npz", images=np.ones((2, 3, 4), int), n=np.array(3))
    assert read(path).n_hits == 24
    assert_refused(
        write_npz(tmp_path / "b.npz", n=np.array(3)), r"neither 1-D arrays event, x, y, t.*it has n int64\[\]"
    )
    assert_refused(write_npz(tmp_path / "c.npz", **columns_of(ROWS) | {"t": np.array([1])}), r"lengths \[6, 6, 6, 1\]")
    assert_refused(
        write_npz(tmp_path / "d.npz", **columns_of(ROWS) | {"t": np.array(["1"] * 6)}), "column t is of type t <U1"
    )
    names = np.array(["event", "x", "y", "time"])
    assert_refused(write_npz(tmp_path / "e.npz", a=ROWS, columns=names), "no column 't'; it has event, x, y, time")


def test_read_objects_are_never_unpickled(tmp_path):
    canary = tmp_path / "canary"
    hostile = np.empty((6, 4), object)
    hostile[:] = Hostile(canary)
    np.save(tmp_path / "a.npy", hostile, allow_pickle=True)
    assert_refused(tmp_path / "a.npy", "images of type object; integer or float allowed")
    np.savez(tmp_path / "a.npz", hits=hostile, allow_pickle=True)
    assert_refused(tmp_path / "a.npz", "neither 1-D arrays")
    assert_refused(tmp_path / "a.npz", "array hits object.*integers or floats", array="hits")
    np.savez(tmp_path / "b.npz", note=hostile, hits=ROWS, allow_pickle=True)
    assert np.array_equal(rows_of(read(tmp_path / "b.npz")), ROWS)
    assert not canary.exists()


def test_read_unusual_compression_raises(tmp_path):
    content = io.BytesIO()
    np.save(content, ROWS)
    with zipfile.ZipFile(tmp_path / "hits.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("hits.npy", content.getvalue())
    assert_refused(tmp_path / "hits.npz", "compressed in a way that NumPy does not use")


def test_read_header_longer_than_data_raises(tmp_path):
    content = io.BytesIO()
    np.save(content, ROWS)
    with zipfile.ZipFile(tmp_path / "hits.npz", "w") as archive:
        archive.writestr("hits.npy", content.getvalue()[:-8])
    assert_refused(tmp_path / "hits.npz", r"array hits int64\[6, 4\] has 312 bytes; 320 expected")


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_read_large_file_memory_is_bounded(tmp_path, compressed):
    n_hits, chunk_hits = 3_000_000, 100_000
    event = np.arange(n_hits) // 250
    columns = {"event": event, "x": event % 4, "y": event % 3, "t": event % 10 + 1, "score": event.astype(np.float32)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "hits.npz", **columns)
    n_bytes = sum(values.nbytes for values in columns.values())
    tracemalloc.start()
    try:
        n_seen = sum(c.n_hits for c in read_events(tmp_path / "hits.npz", detector=SMALL, chunk_hits=chunk_hits))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_seen == n_hits
    assert peak < 40e6 < n_bytes


def test_write_numpy_reads_the_arrays(tmp_path):
    score = np.linspace(0, 1, 6, dtype=np.float32)
    with open_hit_file(tmp_path / "hits.npz") as writer:
        writer.append(full_events(3, score=score))
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


def test_write_same_hits_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        with open_hit_file(tmp_path / name) as writer:
            writer.append(full_events())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


EVENTS = {"event.event": np.array([2, 5, 9, 11]), "event.w": np.arange(4.0)}
TRACKS = {"track.event": np.array([2, 9]), "track.p": np.array([0.5, 1.5])}


def test_read_arrays_of_tracks_are_never_dropped(tmp_path):
    path = write_npz(tmp_path / "a.npz", **columns_of(ROWS), **TRACKS)
    assert_refused(path, "array track.event .* has no array event.event beside it")
    path = write_npz(tmp_path / "b.npz", **columns_of(ROWS), **EVENTS, **TRACKS | {"track.event": np.array([2, 30])})
    assert_refused(path, "array track.event has 30, which event.event lacks")


@pytest.mark.parametrize(
    ("further", "hit", "event", "track"),
    [
        (None, ["q"], ["event", "w"], ["p"]),
        ([], [], ["event"], []),
        (["q"], ["q"], ["event"], []),
        (["event.w"], [], ["event", "w"], []),
        (["track.p", "q"], ["q"], ["event"], ["p"]),
    ],
)
def test_read_arrays_of_events_are_chosen_like_other_columns(tmp_path, further, hit, event, track):
    path = write_npz(tmp_path / "a.npz", **columns_of(ROWS), q=np.arange(6.0), **EVENTS, **TRACKS)
    events = read(path, further=further)
    assert [list(events.hit_columns), list(events.event_columns), list(events.track_columns)] == [hit, event, track]
    assert (events.track_offsets is not None) == bool(track)
    assert events.event_columns["event"].tolist() == [2, 5, 9, 11]  # with the event without hits
    assert_refused(path, "no column 'event.z'", further=["event.z"])


def test_read_what_cannot_be_read_is_left_out_and_said(tmp_path):
    texts = {"event.name": np.array(["a"] * 4), "track.name": np.array(["b"] * 2)}
    wide = {"wide": np.zeros(6, np.longdouble)}
    path = write_npz(tmp_path / "a.npz", **columns_of(ROWS), **EVENTS, **TRACKS, **texts, **wide)
    reading = Reading()
    events = read(path, reading=reading)
    assert list(events.event_columns) == ["event", "w"]
    assert sorted(reading.left_out) == ["event.name", "track.name", "wide"]
    write(tmp_path / "b.npz", events)


def test_read_keys_of_several_columns_beside_arrays_of_events_raise(tmp_path):
    path = write_npz(tmp_path / "a.npz", **columns_of(ROWS), run=np.ones(6, int), **EVENTS)
    assert_refused(path, "array event.event numbers the events; run, event cannot", columns={"event": "run,event"})
