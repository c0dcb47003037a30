"""Hit lists as text, read and written."""

import bz2
import gzip
import lzma
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow
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
    run_command,
    write,
)
from hypothesis import given, settings

from tofae_jax.data.files import text_lines
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Reading
from tofae_jax.data.files.write import open_hit_file


@contextmanager
def blocks_of(n_bytes):
    """Read text in blocks of this size."""
    with mock.patch.object(text_lines, "BLOCK_BYTES", n_bytes):
        yield


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
@pytest.mark.parametrize("block_bytes", [64, 2**20])
def test_read_same_table_written_differently(tmp_path, text, block_bytes):
    (tmp_path / "hits.csv").write_bytes(text.encode())
    with blocks_of(block_bytes):
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


def test_read_column_types_are_those_of_the_whole_file(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("event,x,y,t,s,n\n" + "1,1,1,1,0,0\n" * 40 + "1,1,1,1,3.0,-5\n1,1,1,1,0.5,7\n")
    with blocks_of(64):
        columns = read(path).hit_columns
    assert columns["s"].tolist() == [0] * 40 + [3, 0.5]
    assert columns["n"].dtype == np.int64 and columns["n"][-2:].tolist() == [-5, 7]


@pytest.mark.parametrize("text", ["event,x,y,t\n", "# nothing\nevent,x,y,t,score", "event,x,y,t\n\n#end\n"])
def test_read_header_only_gives_no_events(tmp_path, text):
    (tmp_path / "hits.csv").write_text(text)
    assert list(read_events(tmp_path / "hits.csv", detector=SMALL)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("event,x,y,t\n1,1,1,1\n\n1,abc,1,1\n", "line 4: x = 'abc'; a number expected"),
        ("event,x,y,t\n1,1,1,1\n1,1,,1\n", "line 3: y = nan; whole numbers from 0 to 2 allowed"),
        ("event,x,y,t\n1,1,1,1\n1,1,1\n", r"line 3: 3 values; 4 expected \(event, x, y, t\)"),
        ("event,x,y,t\n1,1,1,1,1\n", "line 2: 5 values; 4 expected"),
        ("event,x,y,t\n1,1,1,1\n1,1,1,1,\n", "line 3: 5 values; 4 expected"),
        ("event,x,y,t\n1,1,True,1\n", "column y is of type true and false; integers or floats expected"),
        ("event,x,y,t\n1,99999999999999999999,1,1\n", "line 2: x = 99999999999999999999 cannot be held exactly"),
        ("event,x,y,t\n99999999999999999999,1,1,1\n", "line 2: event = 99999999999999999999 cannot be held exactly"),
        ("\n1,2,3,4\n1,2,3,4\n", "no header; a first line with the names of the columns expected"),
        ("1;2;3;4\n", "no header"),
        ("event,x,y,time\n1,1,1,1\n", "no column 't'; it has event, x, y, time"),
        ("event,x,y,t,x\n1,1,1,1,1\n", "two columns 'x'"),
        ("event,x,y,t\n1,1,,1\n1,1,,1\n", "column y has no values"),
        ("# only a comment\n\n", "no header"),
        ("event,x,y,t\n" + "1" * 10_000_000, "a line has more than 1048576 bytes"),
        ("event,x,y,t\n1,1,1,1 # note\n", "line 2: t = '1 # note'; a number expected"),
        ("event,x,y,t\n1,1,1,1_0\n", "line 2: t = '1_0'; a number expected"),
        ("event;x;y;t\n1;1;1;1,5\n", "line 2: t = '1,5'; a number expected; --decimal , reads a decimal comma"),
        ("event,x,y,t\n1,1,1,1\x00\n", "line 2"),
        ("\x00event,x,y,t\n1,1,1,1\n", "line 1|damaged"),
        ("PK\x03\x04 binary", "line 1: not text"),
    ],
)
def test_read_bad_text_is_named_with_line(tmp_path, text, words):
    (tmp_path / "hits.csv").write_text(text)
    assert_refused(tmp_path / "hits.csv", words)


HITS_OF_TEXT = [[1, 1, 2, 3], [2, 3, 0, 10]]
TEXT = "event,x,y,t,edep[MeV],θ\n1,1,2,3,0.5,1\n2,3,0,10,1.5,2\n"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TEXT.replace(",", ";"), {}),
        (TEXT.replace(",", "\t"), {}),
        (TEXT.replace(",", "|"), {}),
        ("sep=;\n" + TEXT.replace(",", ";"), {}),
        (TEXT.replace(",", ";").replace(".", ","), {"decimal": ","}),
        (TEXT.replace(",", "  ").replace("\n", "  \n "), {}),
        ("# made by a program\n# " + TEXT.replace(",", " "), {}),
        (TEXT.replace("1,1,2,3,0.5,1", '"1","1","2","+3","0.5"," 1 "'), {}),
        (TEXT.replace("\n", "\r"), {}),
        (TEXT.encode("utf-16"), {}),
        (TEXT.encode("utf-16-le"), {}),
        (TEXT.encode("utf-16-be"), {}),
        (TEXT.replace("θ", "µ").encode("latin-1"), {}),
        (gzip.compress(TEXT.encode(), mtime=0), {}),
        (bz2.compress(TEXT.encode()), {}),
        (lzma.compress(TEXT.encode()), {}),
        (pyarrow.compress(TEXT.encode(), "zstd", asbytes=True), {}),
    ],
)
def test_read_any_common_form_gives_the_same(tmp_path, content, options):
    path = tmp_path / "hits.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    events = read(path, **options)
    np.testing.assert_array_equal(rows_of(events), HITS_OF_TEXT)
    energy, angle = events.hit_columns.values()
    assert energy.tolist() == [0.5, 1.5]
    assert angle.tolist() == [1, 2]


def test_read_columns_of_pandas_and_others_are_left_out_and_noted(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text(",event,x,y,t,name,good,gap,none\n0,1,1,2,3,ab,True,,\n1,2,3,0,10,cd,False,4,\n")
    about = Reading()
    events = read(path, reading=about)
    assert sorted(events.hit_columns) == ["gap", "good"]
    assert events.hit_columns["good"].tolist() == [True, False]
    np.testing.assert_array_equal(events.hit_columns["gap"], [np.nan, 4])
    assert about.left_out == {"name": "text", "none": "empty"}
    assert_refused(path, "line 2: name = 'ab'; a number expected", further=["name"])
    assert_refused(path, "column none has no values", further=["none"])


BIG = 9295429630892703745


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([BIG, BIG + 1, 7], np.array([BIG, BIG + 1, 7], np.uint64)),
        ([-(2**63), 2**63 - 1, 0], np.array([-(2**63), 2**63 - 1, 0], np.int64)),
        ([2**53, "", 1], np.array([2**53, np.nan, 1])),
        ([2**60, 0.5, 1], np.array([2.0**60, 0.5, 1])),  # a power of two: float64 has it
        (["1e30", 3, "inf"], np.array([1e30, 3, np.inf])),
        (["0x10", 3, 4], np.array([16, 3, 4])),
        ([BIG, "", 1], "line 2: id = 9295429630892703745 .* as a value is missing in line 3"),
        ([2**53 + 1, "nan", 1], "line 2: id = 9007199254740993 cannot be held exactly in a column of floats"),
        ([2**60 + 1, "7.0", 1], "line 2: id = 1152921504606846977 cannot be held exactly"),
        ([BIG, -1, 1], "line 2: id = 9295429630892703745 cannot be held exactly"),
        ([-1, 2, BIG], "line 4: id = 9295429630892703745 cannot be held exactly"),
        ([2**64, 1, 2], None),
        ([2**64 + 1, 1, 2], "line 2: id = 18446744073709551617 cannot be held exactly"),
    ],
)
@pytest.mark.parametrize("block_bytes", [48, 2**20])
@pytest.mark.parametrize("column", ["id", "event.id"])
def test_read_integers_are_never_rounded(tmp_path, values, expected, block_bytes, column):
    path = tmp_path / "hits.csv"
    path.write_text(f"event,x,y,t,{column}\n" + "".join(f"{n},1,1,1,{value}\n" for n, value in enumerate(values)))
    with blocks_of(block_bytes):
        if isinstance(expected, str):
            assert_refused(path, expected.replace("id", column.replace(".", r"\.")))
            assert not read(path, further=[]).hit_columns
            return
        events = read(path)
    found = {**events.hit_columns, **events.event_columns}["id"]
    expected = np.array([2.0**64, 1, 2]) if expected is None else expected
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_read_compressed_file_that_is_cut_raises(tmp_path):
    (tmp_path / "hits.csv.gz").write_bytes(gzip.compress(TEXT.encode() * 1)[:-9])
    assert_refused(tmp_path / "hits.csv.gz", "cut, damaged")


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst"])
def test_write_compressed_is_read_back_and_the_same_each_time(tmp_path, ending):
    events = full_events(3, score=np.arange(6.0))
    paths = [write(tmp_path / f"{name}{ending}", events) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()[:4].strip(b"event")) == 4  # not plain text
    np.testing.assert_array_equal(read(paths[0], detector=LARGE).hit_columns["score"], np.arange(6.0))


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
        np.testing.assert_array_equal(found.hit_columns[name].astype(values.dtype), values)
    for name, values in events.event_columns.items():
        np.testing.assert_array_equal(found.event_columns[name].astype(values.dtype), values[has_hits])


def test_write_decimal_comma_between_commas_is_quoted(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text('event,x,y,t,e\n0,1,1,5,"1,5"\n1,2,2,6,"-2,25"\n')
    out = tmp_path / "b.csv"
    assert run_command(capsys, "convert", path, out, "--decimal", ",")[0] == 0
    assert '"1,5' in out.read_text()
    found = read(out, decimal=",")
    assert found.hit_columns["e"].tolist() == [1.5, -2.25]
    assert rows_of(found).tolist() == [[0, 1, 1, 5], [1, 2, 2, 6]]


@pytest.mark.parametrize("values", [("1.000", "2,5"), ("1.000", "2.500"), ("1", "1.000,5")])
def test_read_points_beside_a_decimal_comma_are_no_numbers(tmp_path, values):
    path = tmp_path / "a.csv"
    path.write_text("event;x;y;t;e\n" + "".join(f"{row};1;1;5;{value}\n" for row, value in enumerate(values)))
    reading = Reading()
    assert read(path, decimal=",", reading=reading).hit_columns == {}
    assert reading.left_out == {"e": "text"}
    bad = next(value for value in values if "." in value)
    assert_refused(path, f"e = '{bad}'; a number expected; --decimal , was given", decimal=",", further=["e"])


@pytest.mark.parametrize("ending", [".tsv", ".txt"])
@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst"])
def test_read_any_text_can_be_compressed(tmp_path, ending, packed):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(packed)
    pack = pack or (lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True))
    path = tmp_path / f"a{ending}{packed}"
    path.write_bytes(pack(b"event\tx\ty\tt\n3\t1\t1\t5\n"))
    assert rows_of(read(path)).tolist() == [[3, 1, 1, 5]]
