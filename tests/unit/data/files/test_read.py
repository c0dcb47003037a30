import io
import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hit_files import ROWS, assert_refused, columns_of
from hypothesis import given, settings
from hypothesis import strategies as st
from places import REFERENCE

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError, Events, concatenate, event_of_hit
from tofae_jax.data.files import format_csv, format_npz
from tofae_jax.data.files.format_pt import load_tensors
from tofae_jax.data.files.hit_rows import HitBlock, complete_events, not_whole
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import readable_endings

SMALL = Detector(n_x=4, n_y=3, n_t=10)
TABLES = (".root", ".parquet", ".pq", ".arrow", ".feather", ".h5", ".hdf5")
CSV_ROWS = "".join(",".join(map(str, row)) + "\n" for row in ROWS.tolist())


def read(path: Path, **options) -> Events:
    return concatenate(read_events(path, detector=options.pop("detector", SMALL), **options))


def rows_of(events: Events) -> np.ndarray:
    return np.column_stack([events.event_columns["event"][event_of_hit(events)], events.hits]).astype(np.int64)


def write_npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


# Which files are read at all


def test_readable_endings():
    assert readable_endings() == (".csv", ".npz", ".npy", ".pt", *TABLES)


@pytest.mark.parametrize("ending", readable_endings())
def test_missing_empty_and_folder(tmp_path, ending):
    assert_refused(tmp_path / f"missing{ending}", "does not exist")
    (tmp_path / f"empty{ending}").touch()
    assert_refused(tmp_path / f"empty{ending}", "is empty")
    (tmp_path / f"folder{ending}").mkdir()
    assert_refused(tmp_path / f"folder{ending}", "is no file")


def test_unknown_ending_and_settings(tmp_path):
    assert_refused(tmp_path / "hits.txt", r"unknown ending '\.txt'; known are \.csv, \.npz, \.npy, \.pt, \.root")
    assert_refused(tmp_path / "hits.csv", "only .npz files have named arrays", array="rdt")
    with pytest.raises(ValueError, match="chunk_hits must be at least 1, got 0"):
        read_events(tmp_path / "hits.csv", detector=SMALL, chunk_hits=0)


def test_ending_in_capitals(tmp_path):
    path = tmp_path / "HITS.CSV"
    path.write_text("event,x,y,t\n" + CSV_ROWS)
    assert np.array_equal(rows_of(read(path)), ROWS)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt", ".csv"])
def test_other_content_than_the_ending_says(tmp_path, ending):
    path = tmp_path / f"file{ending}"
    path.write_bytes(b"\x93not at all\n" * 20 if ending == ".csv" else b"event,x,y,t\n1,2,3,4\n" * 20)
    assert_refused(path, "cut|damaged")


def image_file(folder: Path, ending: str) -> Path:
    images = np.zeros((50, 3, 4), np.float32)
    images[:, 1, 2] = np.arange(50) % 10 + 1
    path = folder / f"images{ending}"
    if ending == ".npy":
        np.save(path, images)
    elif ending == ".npz":
        np.savez_compressed(path, images=np.concatenate([images] * 20))
    else:
        path.write_bytes(bundle(tensor_pickle("FloatStorage", images.shape), {"0": images.tobytes()}))
    return path


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt"])
def test_cut_anywhere(tmp_path, ending):
    path = image_file(tmp_path, ending)
    content = path.read_bytes()
    assert read(path).n_hits % 50 == 0
    for length in np.linspace(1, len(content) - 1, 23).astype(int):
        path.write_bytes(content[:length])
        assert_refused(path, "cut|damaged|is cut|bytes")


@pytest.mark.parametrize("ending", [".npz", ".pt"])
def test_changed_bytes_are_noticed(tmp_path, ending):
    path = image_file(tmp_path, ending)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    assert_refused(path, "cut|damaged|images of|tensor|images")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".npy", ".npz", ".pt"]), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
def test_any_damage_reads_or_is_refused(tmp_path_factory, ending, changes):
    path = image_file(tmp_path_factory.mktemp("damage"), ending)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        read(path)
    except DataError as error:
        assert "\n" not in str(error)


# Images


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64, ">f8", ">i4"])
@pytest.mark.parametrize("has_channel", [False, True])
@pytest.mark.parametrize("name", ["images.npy", "images.npz"])
def test_images_give_their_hits(tmp_path, dtype, has_channel, name):
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 11, (7, 3, 4)) * (rng.random((7, 3, 4)) < 0.5)).astype(dtype)
    images[2] = 0
    stored = images[:, None] if has_channel else images
    path = tmp_path / name
    np.save(path, stored) if name.endswith("npy") else np.savez(path, images=stored)
    expected = [
        (event, x, y, int(images[event, y, x]))
        for event in range(7)
        for y in range(3)
        for x in range(4)
        if images[event, y, x]
    ]
    for chunk_hits in (1, 12, 30, 1000):
        events = read(path, chunk_hits=chunk_hits)
        assert events.hits.dtype == np.int16
        assert events.offsets.dtype == np.int64
        assert events.n_events == 7
        assert np.array_equal(events.event_columns["event"], np.arange(7))
        assert np.array_equal(rows_of(events), expected)
        assert all(
            chunk.n_hits <= max(12, chunk_hits) for chunk in read_events(path, detector=SMALL, chunk_hits=chunk_hits)
        )


def test_images_in_fortran_order(tmp_path):
    images = np.asfortranarray(np.arange(24).reshape(2, 3, 4) % 11)
    np.save(tmp_path / "images.npy", images)
    assert read(tmp_path / "images.npy").n_hits == np.count_nonzero(images)
    assert_refused(write_npz(tmp_path / "images.npz", images=images), "Fortran order; save np.ascontiguousarray of it")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.nan, "f4"), (np.inf, "f8"), (-1, "i2"), (11, "u1"), (2.5, "f2"), (-0.5, "f4"), (2**63, "u8"), (1e300, "f8")],
)
def test_bad_pixel_is_named(tmp_path, value, dtype):
    images = np.zeros((9, 3, 4), dtype)
    images[0, 0, 0] = 10
    images[6, 2, 1] = value
    np.save(tmp_path / "images.npy", images)
    for chunk_hits in (12, 1000):
        words = r"event 6, pixel x=1 y=2: .*; whole numbers from 0 \(no hit\) to 10 allowed"
        assert_refused(tmp_path / "images.npy", words, chunk_hits=chunk_hits)


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (2, 2, 3, 4), (2, 1, 1, 3, 4), (), (12,)])
def test_images_of_another_shape(tmp_path, shape):
    np.save(tmp_path / "images.npy", np.zeros(shape))
    words = re.escape(f"images of shape {list(shape)}; [n, 3, 4] or [n, 1, 3, 4] allowed")
    assert_refused(tmp_path / "images.npy", words)


@pytest.mark.parametrize("dtype", [bool, complex, "U3", "S3", [("x", "i4")], "M8[s]"])
def test_images_that_are_no_numbers(tmp_path, dtype):
    np.save(tmp_path / "images.npy", np.zeros((2, 3, 4), dtype))
    assert_refused(tmp_path / "images.npy", "images of type .*; integer or float allowed")


def test_no_images(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((0, 3, 4)))
    assert read(tmp_path / "images.npy").n_events == 0


def test_signalling_nan_is_refused_without_a_warning(tmp_path):
    images = np.zeros((1, 3, 4), np.float32)
    images.view(np.uint32)[0, 1, 2] = 0x7FA00000
    np.save(tmp_path / "images.npy", images)
    assert_refused(tmp_path / "images.npy", "event 0, pixel x=2 y=1: nan")


def test_largest_time_bin_is_not_passed_in_float16():
    assert not_whole(np.array([32768], np.float16), 1, 32767).all()


# Hit lists


@st.composite
def blocks_of_rows(draw) -> list[HitBlock]:
    counts = draw(st.lists(st.integers(1, 9), max_size=12))
    event = np.repeat(np.cumsum(draw(st.lists(st.integers(1, 3), min_size=len(counts), max_size=len(counts)))), counts)
    event = event.astype(np.int64)
    cuts = sorted(set(draw(st.lists(st.integers(1, max(1, len(event) - 1)), max_size=8))) & set(range(1, len(event))))
    number = np.arange(len(event))
    hits = np.stack([number] * 3, axis=1).astype(np.int16)
    parts = [np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, len(event)], strict=True) if b > a]
    return [HitBlock(event[part], hits[part], {"number": number[part]}) for part in parts]


@given(blocks_of_rows(), st.integers(1, 30))
def test_chunks_are_complete_events_within_the_limit(blocks, chunk_hits):
    chunks = list(complete_events(blocks, chunk_hits=chunk_hits))
    event = np.concatenate([np.zeros(0, np.int64), *[block.event for block in blocks]])
    seen = [number for chunk in chunks for number in chunk.event_columns["event"]]
    assert seen == sorted(set(event.tolist()))
    for chunk in chunks:
        assert 0 < chunk.n_hits <= chunk_hits or chunk.n_events == 1
        assert (chunk.counts > 0).all()
        assert chunk.offsets[-1] == chunk.n_hits
    if chunks:
        whole = concatenate(chunks)
        assert np.array_equal(rows_of(whole)[:, 0], event)
        assert np.array_equal(whole.hits[:, 0], np.arange(len(event)))
        assert np.array_equal(whole.hit_columns["number"], np.arange(len(event)))


@pytest.mark.parametrize("rows_per_block", [1, 2, 5, 1000])
@pytest.mark.parametrize("chunk_hits", [1, 3, 1000])
@pytest.mark.parametrize("layout", ["columns", "table", "fortran", "csv", "reordered"])
def test_hit_lists_give_their_rows(tmp_path, layout, rows_per_block, chunk_hits):
    path = tmp_path / ("hits.csv" if layout == "csv" else "hits.npz")
    if layout == "csv":
        path.write_text("event,x,y,t\n" + CSV_ROWS)
    elif layout == "columns":
        write_npz(path, **columns_of(ROWS.astype(np.uint16)))
    elif layout == "reordered":
        write_npz(path, hits=ROWS[:, ::-1].astype(">f4"), columns=np.array(["t", "y", "x", "event"]))
    else:
        write_npz(path, hits=np.asfortranarray(ROWS) if layout == "fortran" else ROWS, shape_xyt=np.array([1, 2, 3]))
    with (
        mock.patch.object(format_csv, "ROWS_PER_BLOCK", rows_per_block),
        mock.patch.object(format_npz, "ROWS_PER_BLOCK", rows_per_block),
    ):
        events = read(path, chunk_hits=chunk_hits)
        assert np.array_equal(rows_of(events), ROWS)
        assert events.event_columns["event"].tolist() == [2, 5, 9]
        assert events.offsets.tolist() == [0, 2, 3, 6]
        assert events.hits.dtype == np.int16
        assert events.hit_columns == {}


BAD_ROWS = [
    ("event", -1, "event = -1; whole numbers from 0 to 9223372036854775807 allowed"),
    ("event", 1, "event 1 comes after event 5; sort the rows by event"),
    ("x", 4, "x = 4; whole numbers from 0 to 3 allowed"),
    ("x", -1, "x = -1; whole numbers from 0 to 3 allowed"),
    ("y", 3, "y = 3; whole numbers from 0 to 2 allowed"),
    ("t", 0, "t = 0; whole numbers from 1 to 10 allowed"),
    ("t", 11, "t = 11; whole numbers from 1 to 10 allowed"),
    ("t", 1.5, r"t = 1\.5; whole numbers from 1 to 10 allowed"),
    ("t", np.nan, "t = nan; whole numbers from 1 to 10 allowed"),
    ("y", np.inf, "y = inf; whole numbers from 0 to 2 allowed"),
]


@pytest.mark.parametrize(("column", "value", "words"), BAD_ROWS)
@pytest.mark.parametrize("rows_per_block", [1, 2, 1000])
def test_bad_row_is_named(tmp_path, column, value, words, rows_per_block):
    columns = columns_of(ROWS)
    if not isinstance(value, int):
        columns[column] = columns[column].astype(float)
    else:
        columns[column] = columns[column].copy()
    columns[column][3] = value
    write_npz(tmp_path / "hits.npz", **columns)
    lines = [",".join(str(columns[name][row]) for name in columns) for row in range(6)]
    (tmp_path / "hits.csv").write_text("# made by hand\n\nevent,x,y,t\n" + "\n\n".join(lines))
    with (
        mock.patch.object(format_csv, "ROWS_PER_BLOCK", rows_per_block),
        mock.patch.object(format_npz, "ROWS_PER_BLOCK", rows_per_block),
    ):
        assert_refused(tmp_path / "hits.npz", r"row 3 \(the first is 0\): " + words)
        assert_refused(tmp_path / "hits.csv", "line 10: " + words)


def test_further_columns_of_npz(tmp_path):
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


def test_further_columns_of_a_table(tmp_path):
    table = np.column_stack([ROWS, np.arange(6) / 4])
    path = write_npz(tmp_path / "hits.npz", a=table, columns=np.array(["event", "x", "y", "t", "score"]))
    assert read(path).hit_columns["score"].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]


def test_choice_of_array(tmp_path):
    images = np.zeros((2, 3, 4), int)
    images[1, 2, 3] = 4
    path = write_npz(tmp_path / "hits.npz", a=ROWS, b=ROWS[:2], c=images, d=np.zeros(3), e=np.zeros((2, 3)))
    assert np.array_equal(rows_of(read(path, array="a")), ROWS)
    assert np.array_equal(rows_of(read(path, array="b")), ROWS[:2])
    assert np.array_equal(rows_of(read(path, array="c")), [[1, 3, 2, 4]])
    assert_refused(path, r"more than one array to read; choose one by its name among a int64\[6, 4\], b int64\[2, 4\]")
    assert_refused(path, r"no array 'z'; it has a int64\[6, 4\], b .*, d float64\[3\]", array="z")
    assert_refused(path, "d .* is neither a 2-D hit list nor images", array="d")
    assert_refused(path, r"array e float64\[2, 3\]; integers or floats with 4 columns \(event, x, y, t\)", array="e")


def test_images_are_found_where_they_are_alone(tmp_path):
    path = write_npz(tmp_path / "a.npz", images=np.ones((2, 3, 4), int), n=np.array(3))
    assert read(path).n_hits == 24
    assert_refused(
        write_npz(tmp_path / "b.npz", n=np.array(3)), r"neither 1-D arrays event, x, y, t.*it has n int64\[\]"
    )
    assert_refused(write_npz(tmp_path / "c.npz", **columns_of(ROWS) | {"t": np.array([1])}), r"lengths \[6, 6, 6, 1\]")
    assert_refused(write_npz(tmp_path / "d.npz", **columns_of(ROWS) | {"t": np.array(["1"] * 6)}), "t <U1.* is not of")
    names = np.array(["event", "x", "y", "time"])
    assert_refused(write_npz(tmp_path / "e.npz", a=ROWS, columns=names), "array columns says .*'time'")


def test_objects_are_never_unpickled(tmp_path, canary):
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


def test_npz_compressed_in_other_ways(tmp_path):
    content = io.BytesIO()
    np.save(content, ROWS)
    with zipfile.ZipFile(tmp_path / "hits.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("hits.npy", content.getvalue())
    assert_refused(tmp_path / "hits.npz", "compressed in a way that NumPy does not use")


def test_npz_header_that_promises_more(tmp_path):
    content = io.BytesIO()
    np.save(content, ROWS)
    with zipfile.ZipFile(tmp_path / "hits.npz", "w") as archive:
        archive.writestr("hits.npy", content.getvalue()[:-8])
    assert_refused(tmp_path / "hits.npz", r"array hits int64\[6, 4\] has 312 bytes; 320 expected")


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_is_bounded(tmp_path, compressed):
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


# Text


@pytest.mark.parametrize(
    "text",
    [
        "event,x,y,t\r\n" + CSV_ROWS.replace("\n", "\r\n"),
        "\ufeffevent,x,y,t\n" + CSV_ROWS,
        "# a comment, with commas\n\n event , x,y,t\n#\n" + CSV_ROWS.replace("\n", "\n\n"),
        '"event","x","y","t"\n' + CSV_ROWS.rstrip("\n"),
        "event,x,y,t\n" + CSV_ROWS.replace("5", "5.0").replace("7", "7e0"),
        "event,x,y,t\n" + CSV_ROWS.replace(",", ", "),
        "event,x,y,t\n" + CSV_ROWS.replace("\n", ".0\n"),
    ],
)
@pytest.mark.parametrize("rows_per_block", [1, 3, 1000])
def test_ways_to_write_the_same_table(tmp_path, text, rows_per_block):
    (tmp_path / "hits.csv").write_bytes(text.encode())
    with mock.patch.object(format_csv, "ROWS_PER_BLOCK", rows_per_block):
        assert np.array_equal(rows_of(read(tmp_path / "hits.csv")), ROWS)


def test_text_columns_in_any_order_and_further_ones(tmp_path):
    lines = ["t,score,y,x,n,event"]
    lines += [
        f"{t},{index / 8},{y},{x},{2**60 + index},{event}" for index, (event, x, y, t) in enumerate(ROWS.tolist())
    ]
    (tmp_path / "hits.csv").write_text("\n".join(lines))
    events = read(tmp_path / "hits.csv", chunk_hits=1)
    assert np.array_equal(rows_of(events), ROWS)
    assert events.hit_columns["score"].tolist() == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8]
    assert events.hit_columns["n"].tolist() == [2**60 + index for index in range(6)]


def test_text_column_types_hold_for_the_whole_file(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("event,x,y,t,s\n1,1,1,1,0\n1,1,1,1,3.0\n1,1,1,1,0.5\n")
    assert read(path).hit_columns["s"].tolist() == [0, 3, 0.5]
    with mock.patch.object(format_csv, "ROWS_PER_BLOCK", 1):
        assert_refused(path, r"line 4: s = 0\.5 in a column of whole numbers; .* write its first value with a decimal")
        path.write_text("event,x,y,t,s\n1,1,1,1,0\n1,1,1,1,3.0\n")
        assert read(path).hit_columns["s"].dtype == np.int64


@pytest.mark.parametrize("text", ["event,x,y,t\n", "# nothing\nevent,x,y,t,score", "event,x,y,t\n\n#end\n"])
def test_header_only(tmp_path, text):
    (tmp_path / "hits.csv").write_text(text)
    assert list(read_events(tmp_path / "hits.csv", detector=SMALL)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("event,x,y,t\n1,1,1,1\n\n1,abc,1,1\n", "line 4: x = 'abc'; a number expected"),
        ("event,x,y,t\n1,1,1,1\n1,1,,1\n", "line 3: y = ''; a number expected"),
        ("event,x,y,t\n1,1,1,1\n1,1,1\n", r"line 3: 3 values; 4 expected \(event, x, y, t\)"),
        ("event,x,y,t\n1,1,1,1,1\n", "line 2: 5 values; 4 expected"),
        ("event,x,y,t\n1,1,1,1\n1,1,1,1,\n", "line 3: 5 values; 4 expected"),
        ("event,x,y,t,s\n1,1,1,1,True\n", "line 2: s = 'True'; a number expected"),
        ("event,x,y,t\n1,99999999999999999999,1,1\n", r"line 2: x = 1e\+20; whole numbers from 0 to 3 allowed"),
        ("event,x,y,t\n99999999999999999999,1,1,1\n", r"line 2: event = 1e\+20; whole"),
        ("\n1,2,3,4\n1,2,3,4\n", "line 2: no column event, x, y, t in the header '1,2,3,4'"),
        ("event;x;y;t\n1;1;1;1\n", "line 1: no column event, x, y, t in the header 'event;x;y;t'; names separated by"),
        ("event,x,y,time\n1,1,1,1\n", "line 1: no column t in the header"),
        ("event,x,y,t,x\n1,1,1,1,1\n", "line 1: a column without a name, or two of the same name"),
        (",event,x,y,t\n0,1,1,1,1\n", "line 1: a column without a name"),
        ("# only a comment\n\n", "no header; a first line with the columns event, x, y, t expected"),
        ("event,x,y,t\n" + "1" * 10_000, "a line from line 1 on has 8192 characters or more"),
        ("event,x,y,t\n1,1,1,1 # note\n", "line 2: t = '1 # note'; a number expected"),
        ("event,x,y,t\n1,1,1,1_0\n", "line 2: t = '1_0'; a number expected"),
        ('event,x,y,t\n1,1,1,"1"\n', "line 2: t = '\"1\"'; a number expected"),
        ("event,x,y,t\n1,1,1,1\x00\n", "line 2"),
        ("\x00event,x,y,t\n1,1,1,1\n", "line 1|damaged"),
        ("PK\x03\x04 binary", "no column"),
    ],
)
def test_bad_text_is_named(tmp_path, text, words):
    (tmp_path / "hits.csv").write_text(text)
    assert_refused(tmp_path / "hits.csv", words)


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "hits.csv").write_bytes("event,x,y,t\n1,1,1,1\n#é\n".encode("latin-1"))
    assert_refused(tmp_path / "hits.csv", "damaged or not a .csv file .*utf-8")


def test_integers_through_floats_are_refused_by_older_numpy_too(tmp_path):
    """Before 2.4 `loadtxt` only warned when it cut "3.5" down to 3."""
    (tmp_path / "hits.csv").write_text("event,x,y,t\n1,1,1,1\n1,1,1,3.5\n")

    def old_loadtxt(rows, dtype, **options):
        try:
            return np_loadtxt(rows, dtype, **options)
        except ValueError as error:
            raise DeprecationWarning("Parsing an integer via a float is deprecated") from error

    np_loadtxt = np.loadtxt
    with mock.patch.object(np, "loadtxt", old_loadtxt):
        assert_refused(tmp_path / "hits.csv", r"line 3: t = 3\.5; whole numbers from 1 to 10 allowed")


# PyTorch's files


def bundle(
    data: bytes,
    storages: dict[str, bytes],
    *,
    byteorder: bytes | None = b"little",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr("bundle/data.pkl", data)
        if byteorder is not None:
            archive.writestr("bundle/byteorder", byteorder)
        for key, values in storages.items():
            archive.writestr(f"bundle/data/{key}", values)
    return content.getvalue()


def number(value: int) -> bytes:
    return b"I%d\n" % value


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def tensor(
    storage: str, shape: tuple[int, ...], *, strides=None, offset: int = 0, count: int | None = None, key: str = "0"
) -> bytes:
    """Opcodes of a tensor, as PyTorch writes them."""
    count = int(np.prod(shape)) if count is None else count
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage")
        + b"ctorch\n%s\n" % storage.encode()
        + text(key)
        + text("cpu")
        + number(count)
        + b"tQ"
        + number(offset)
        + numbers(shape)
        + numbers(strides_of(shape) if strides is None else strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def tensor_pickle(storage: str, shape: tuple[int, ...], **options) -> bytes:
    return b"\x80\x02" + tensor(storage, shape, **options) + b"."


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self._canary}'",)


@pytest.fixture
def canary(tmp_path) -> Path:
    return tmp_path / "canary"


def load(path: Path, data: bytes, storages: dict[str, bytes] | None = None, **options) -> object:
    path.write_bytes(bundle(data, {} if storages is None else storages, **options))
    return load_tensors(path)


def assert_not_loaded(path: Path, data: bytes, words: str, storages: dict[str, bytes] | None = None, **options) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(path, data, storages, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_small_bundle_of_the_predecessor():
    detector = Detector()
    expected = np.loadtxt(REFERENCE / "small_bundle_hits.csv", int, delimiter=",", skiprows=1)
    events = read(REFERENCE / "small_bundle.pt", detector=detector)
    assert np.array_equal(rows_of(events), expected)
    assert events.counts.tolist() == [81, 23, 63, 31]
    assert np.array_equal(rows_of(read(REFERENCE / "small_bundle.pt", detector=detector, chunk_hits=1)), expected)
    assert np.array_equal(rows_of(read(REFERENCE / "small_bundle_hits.csv", detector=detector)), expected)
    assert_refused(REFERENCE / "small_bundle.pt", r"images of shape \[4, 1, 128, 88\]; \[n, 3, 4\]")


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [
        ("FloatStorage", "f4"),
        ("DoubleStorage", "f8"),
        ("HalfStorage", "f2"),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_storage_types(tmp_path, storage, dtype, order):
    values = np.array([[0, 1, 2], [3, 4, 100]]).astype(dtype)
    stored = values.astype(values.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    found = load(tmp_path / "a.pt", tensor_pickle(storage, (2, 3)), {"0": stored}, byteorder=order.encode())
    assert isinstance(found, np.ndarray)
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)
    assert not found.flags.writeable


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3e38, np.inf], np.float32)
    stored = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    found = load(tmp_path / "a.pt", tensor_pickle("BFloat16Storage", (4,)), {"0": stored})
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    assert np.allclose(found, values, rtol=2**-7)


def test_views_of_a_storage(tmp_path):
    stored = {"0": np.arange(24, dtype="<i8").tobytes()}
    values = np.arange(24)

    def view(shape, strides, offset) -> np.ndarray:
        data = tensor_pickle("LongStorage", shape, strides=strides, offset=offset, count=24)
        found = load(tmp_path / "a.pt", data, stored, byteorder=None)
        assert isinstance(found, np.ndarray)
        return found

    assert np.array_equal(view((4, 6), (1, 4), 0), values.reshape(6, 4).T)
    assert np.array_equal(view((2, 3), (12, 2), 5), values[5:].take([[0, 2, 4], [12, 14, 16]]))
    assert view((), (), 23) == 23
    assert view((3, 0, 2), (0, 2, 1), 24).shape == (3, 0, 2)
    assert view((5,), (0,), 7).tolist() == [7] * 5


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((25,), {"count": 24}),
        ((24,), {"count": 24, "offset": 1}),
        ((2, 2), {"count": 24, "strides": (23, 1), "offset": 0}),
        ((1, 1), {"count": 24, "strides": (1, 1), "offset": 24}),
        ((10**6, 10**6), {"count": 24, "strides": (0, 0)}),
        ((25,), {"count": 24, "strides": (0,)}),
        ((2**40, 2**40), {"count": 24, "strides": (2**40, 1)}),
        ((2**62, 2**62, 4), {"count": 24}),
        ((24,), {"count": 24, "strides": (-1,), "offset": 23}),
        ((-1,), {"count": 24, "strides": (1,)}),
        ((24,), {"count": 24, "offset": -1}),
        ((24,), {"count": 24, "strides": (1, 1)}),
        ((24,), {"count": 25}),
        ((24,), {"count": -1}),
        ((1,) * 40, {"count": 24}),
        ((0, 2**40, 2**40), {"count": 24}),
        ((24,), {"count": 24, "key": "1"}),
        ((24,), {"count": 24, "key": "../../../etc/passwd"}),
    ],
)
def test_tensors_outside_their_storage(tmp_path, shape, options):
    data = tensor_pickle("LongStorage", shape, **options)
    assert_not_loaded(tmp_path / "a.pt", data, "tensor|storage|member", {"0": bytes(24 * 8)})


def test_nested_values(tmp_path):
    plain = {"a": [1, 2.5, None, True, -(2**70)], 3: ("text ü", (), (1,), (1, 2), b"bytes"), "empty": {}}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        if protocol == 2:  # there bytes are made by a call
            del (plain := dict(plain))[3]
        found = load(tmp_path / "a.pt", pickle.dumps(plain, protocol))
        assert found == plain
        plain = {"a": [1, 2.5, None, True, -(2**70)], 3: ("text ü", (), (1,), (1, 2), b"bytes"), "empty": {}}


def test_weights_of_a_module(tmp_path):
    """Module weights are an OrderedDict with an attribute, which BUILD sets."""
    empty, weights = b"ccollections\nOrderedDict\n)R", tensor("FloatStorage", (2,))
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + weights + b"\x88" + empty + b"tR"
    items = b"(" + text("weight") + weights + text("bias") + parameter + b"u"
    data = b"\x80\x02" + empty + items + b"}" + text("_metadata") + empty + b"sb."
    found = load(tmp_path / "a.pt", data, {"0": np.array([1, 2], "<f4").tobytes()})
    assert isinstance(found, dict)
    assert {name: values.tolist() for name, values in found.items()} == {"weight": [1, 2], "bias": [1, 2]}


def test_shape_and_device(tmp_path):
    data = b"\x80\x02(ctorch\nSize\n(" + numbers((2, 3)) + b"tRctorch\ndevice\n(" + text("cuda") + number(0) + b"tRt."
    assert load(tmp_path / "a.pt", data) == ((2, 3), "cuda:0")


@pytest.mark.backlog("B21")
def test_hostile_pickles_run_nothing(tmp_path, canary):
    command = text(f"touch '{canary}'")
    name = "posix.system" if os.name == "posix" else "nt.system"
    path = tmp_path / "a.pt"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert_not_loaded(path, pickle.dumps(Hostile(canary), protocol), f"asks to run '{name}'; only tensors are read")
    call = b"cos\nsystem\n(" + command + b"tR"
    assert_not_loaded(path, call + b".", "asks to run 'os.system'")
    source = text(f"open({str(canary)!r}, 'w')")
    assert_not_loaded(path, b"\x80\x02cbuiltins\neval\n(" + source + b"tR.", "asks to run 'builtins.eval'")
    assert_not_loaded(path, b"c__builtin__\nexec\n(" + source + b"tR.", "asks to run '__builtin__.exec'")
    hidden_in_state = b"\x80\x02ccollections\nOrderedDict\n)R}" + text("_metadata") + call + b"sb."
    assert_not_loaded(path, hidden_in_state, "asks to run 'os.system'")
    assert_not_loaded(path, b"(ios\nsystem\n" + command + b".", "INST os system|asks to run")
    assert_not_loaded(path, b"(" + command + b"ios\nsystem\n.", "asks to run 'INST os system'")
    assert_not_loaded(path, b"(cos\nsystem\n" + command + b"o.", "asks to run 'os.system'")
    assert_not_loaded(path, b"(ccollections\nOrderedDict\no.", "asks to run 'OBJ'")
    assert_not_loaded(path, b"(icollections\nOrderedDict\n.", "asks to run 'INST collections OrderedDict'")
    assert_not_loaded(path, b"\x80\x02ccollections\nOrderedDict\n)\x81.", "asks to run 'NEWOBJ'")
    assert_not_loaded(path, b"\x80\x04" + text("os") + text("path.os.system") + b"\x93.", "'os.path.os.system'")
    assert_not_loaded(path, b"ctorch\n_utils.os.system\n.", "asks to run 'torch._utils.os.system'")
    assert_not_loaded(path, b"ctorch._utils _rebuild_tensor_v2\n\n.", "asks to run")
    assert_not_loaded(path, b"\x80\x04" + number(1) + text("x") + b"\x93.", "asks to run")
    assert_not_loaded(path, b"\x80\x02\x82\x01.", "asks to run 'EXT1'")
    assert_not_loaded(path, b"P0\n.", "asks to run 'PERSID'")
    assert not canary.exists()
    pickle.loads(call + b".")  # the control: this file would have run it
    assert canary.exists()


def test_hostile_pickles_break_nothing(tmp_path):
    path = tmp_path / "a.pt"
    function = b"ccollections\nOrderedDict\n"
    assert_not_loaded(
        path, b"\x80\x02" + function + b"}" + text("call") + number(1) + b"sb.", "treats a function as a dict"
    )
    assert_not_loaded(path, b"\x80\x02" + function + b".", "something else than tensors")
    assert_not_loaded(path, b"\x80\x02" + text("storage") + b"Q.", "describes a storage other than")
    assert_not_loaded(path, b"\x80\x02" + number(3) + b")R.", "treats a int as a function")
    assert_not_loaded(path, b"\x80\x02]}b.", "treats a list as a dict")
    assert_not_loaded(path, b"\x80\x02})" + number(1) + b"s.", "dictionary key of type tuple")
    assert_not_loaded(path, b"\x80\x02]2a.", "asks to run 'DUP'")
    assert_not_loaded(path, b"\x80\x02ctorch\ndevice\n]\x85R.", "describes a device other than by its kind and number")
    assert_not_loaded(path, b"\x80\x02" + function + b"]\x85R.", "cannot be read as tensors")
    assert_not_loaded(path, b"\x80\x02]q\x00h\x00a.", "nested more than 100 deep")  # a list within itself
    assert_not_loaded(path, b"\x80\x02)" + b"\x85" * 100_000 + b".", "nested more than 100 deep")
    doubled = b"]r\x00\x00\x00\x00" + b"".join(
        b"](j" + (n - 1).to_bytes(4, "little") + b"j" + (n - 1).to_bytes(4, "little") + b"er" + n.to_bytes(4, "little")
        for n in range(1, 60)
    )
    assert_not_loaded(path, b"\x80\x02(" + doubled + b"t.", "more than 1000000 parts")
    assert load(path, b"\x80\x02]r\xff\xff\xff\x7f.") == []  # a memo index of 2^31 takes no memory
    for data in (
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02a.",
        b"\x80\x02h\x00.",
        b"\x80\x02t.",
        b"(((",
        b"\x80\x02NN.",
        b"\xff.",
    ):
        assert_not_loaded(path, data, "cannot be read as tensors|treats|end with one value")
    assert_not_loaded(path, b"\x80\x02I" + b"9" * 10_000 + b"\n.", "cannot be read as tensors")
    assert_not_loaded(path, b"\x80\x04\x8e" + b"\xff" * 8 + b"abc.", "cannot be read as tensors")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 150))
def test_any_pickle_loads_or_is_refused(tmp_path_factory, junk, place):
    path = tmp_path_factory.getbasetemp() / "junk.pt"
    data = tensor_pickle("FloatStorage", (2, 3))
    for changed in (junk, data[:place] + junk + data[place:], data[:place] + junk + data[place + len(junk) :]):
        try:
            load(path, changed, {"0": bytes(24)})
        except DataError as error:
            assert "\n" not in str(error)


def test_hostile_archives(tmp_path):
    path = tmp_path / "a.pt"
    data = tensor_pickle("FloatStorage", (2,))
    stored = {"0": bytes(8)}
    assert_not_loaded(path, data, "compressed or encrypted member", stored, compression=zipfile.ZIP_DEFLATED)
    assert_not_loaded(path, data, "byte order b'middle'; little or big", stored, byteorder=b"middle")
    assert_not_loaded(path, data, "a multiple of 4 expected", {"0": bytes(9)})
    assert_not_loaded(path, data, "no member 'bundle/data/0'", {})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("b/data.pkl", data)
    assert_refused(path, "2 members named data.pkl")
    path.write_bytes(bundle(data, stored))
    with pytest.raises(DataError, match=r"has .* bytes; at most 100 allowed"):
        load_tensors(path, max_bytes=100)


def test_members_that_overlap(tmp_path):
    """Many entries of the list for the same bytes: each is stored plainly, together they exceed the file."""
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps([1], 2))
        archive.writestr("a/data/0", bytes(10_000))
        info = archive.getinfo("a/data/0")
        archive.filelist.extend([info] * 3)
        for index in range(3):
            other = zipfile.ZipInfo(f"a/data/{index + 1}")
            other.file_size = other.compress_size = 10_000
            other.CRC, other.header_offset = info.CRC, info.header_offset
            archive.filelist.append(other)
    assert_refused(path, "members of .* bytes together, yet only")


def test_bundle_has_one_tensor(tmp_path):
    path = tmp_path / "a.pt"
    images = np.zeros((2, 3, 4), "<f4")
    images[1, 2, 3] = 7
    stored = {"0": images.tobytes()}
    one = tensor("FloatStorage", (2, 3, 4))
    for data in (one + b".", b"}" + text("images") + one + b"s.", b"](" + one + text("note") + b"e."):
        path.write_bytes(bundle(b"\x80\x02" + data, stored))
        assert np.array_equal(rows_of(read(path)), [[1, 3, 2, 7]])
    path.write_bytes(bundle(b"\x80\x02(" + one + one + b"t.", stored))
    assert_refused(path, "2 tensors; one tensor of images expected")
    path.write_bytes(bundle(b"\x80\x02}.", stored))
    assert_refused(path, "0 tensors; one tensor of images expected")
    path.write_bytes(bundle(tensor_pickle("BoolStorage", (2, 3, 4)), {"0": bytes(24)}))
    assert_refused(path, "images of type bool; integer or float allowed")
