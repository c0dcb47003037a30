"""Hit lists as text, read and written."""

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hit_files import (
    CSV_ROWS,
    LARGE,
    ROWS,
    SMALL,
    assert_refused,
    events_with_tables,
    full_events,
    read,
    rows_of,
    write,
)
from hypothesis import given, settings

from tofae_jax.data.files import format_csv
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.write import open_hit_file


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
def test_read_same_table_written_differently(tmp_path, text, rows_per_block):
    (tmp_path / "hits.csv").write_bytes(text.encode())
    with mock.patch.object(format_csv, "ROWS_PER_BLOCK", rows_per_block):
        assert np.array_equal(rows_of(read(tmp_path / "hits.csv")), ROWS)


def test_read_order_of_columns_does_not_matter(tmp_path):
    lines = ["t,score,y,x,n,event"]
    lines += [
        f"{t},{index / 8},{y},{x},{2**60 + index},{event}" for index, (event, x, y, t) in enumerate(ROWS.tolist())
    ]
    (tmp_path / "hits.csv").write_text("\n".join(lines))
    events = read(tmp_path / "hits.csv", chunk_hits=1)
    assert np.array_equal(rows_of(events), ROWS)
    assert events.hit_columns["score"].tolist() == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8]
    assert events.hit_columns["n"].tolist() == [2**60 + index for index in range(6)]


def test_read_column_types_hold_for_whole_file(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("event,x,y,t,s\n1,1,1,1,0\n1,1,1,1,3.0\n1,1,1,1,0.5\n")
    assert read(path).hit_columns["s"].tolist() == [0, 3, 0.5]
    with mock.patch.object(format_csv, "ROWS_PER_BLOCK", 1):
        assert_refused(path, r"line 4: s = 0\.5 in a column of whole numbers; .* write its first value with a decimal")
        path.write_text("event,x,y,t,s\n1,1,1,1,0\n1,1,1,1,3.0\n")
        assert read(path).hit_columns["s"].dtype == np.int64


@pytest.mark.parametrize("text", ["event,x,y,t\n", "# nothing\nevent,x,y,t,score", "event,x,y,t\n\n#end\n"])
def test_read_header_only_gives_no_events(tmp_path, text):
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
        ("event,x,y,t\n99999999999999999999,1,1,1\n", r"line 2: event = 1(0){20}; whole"),
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
def test_read_bad_text_is_named_with_line(tmp_path, text, words):
    (tmp_path / "hits.csv").write_text(text)
    assert_refused(tmp_path / "hits.csv", words)


def test_read_text_not_utf8_raises(tmp_path):
    (tmp_path / "hits.csv").write_bytes("event,x,y,t\n1,1,1,1\n#é\n".encode("latin-1"))
    assert_refused(tmp_path / "hits.csv", "damaged or not a .csv file .*utf-8")


def test_read_float_as_integer_old_numpy_raises(tmp_path):
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


def test_write_text_is_plain(tmp_path):
    events = full_events(1, score=np.array([1, 0.1], np.float32), is_signal=np.array([True, False]))
    with open_hit_file(tmp_path / "hits.csv") as writer:
        writer.append(events)
    expected = "event,x,y,t,score,is_signal\n0,0,1,2,1.00000000,1\n0,3,4,5,0.100000001,0\n"
    assert (tmp_path / "hits.csv").read_bytes().decode() == expected


@settings(max_examples=30)
@given(events_with_tables())
def test_write_values_per_hit_and_event_are_kept(events):
    with tempfile.TemporaryDirectory() as folder:
        found = read(write(Path(folder) / "hits.csv", events), detector=LARGE) if events.n_hits else None
    if found is None:
        return
    has_hits = events.counts > 0
    np.testing.assert_array_equal(found.hits, events.hits)
    np.testing.assert_array_equal(found.counts, events.counts[has_hits])
    for name, values in events.hit_columns.items():
        if values.dtype != np.uint64:  # text knows int64 and float64
            np.testing.assert_array_equal(found.hit_columns[name].astype(values.dtype), values)
    for name, values in events.event_columns.items():
        if values.dtype != np.uint64:
            np.testing.assert_array_equal(found.event_columns[name].astype(values.dtype), values[has_hits])
