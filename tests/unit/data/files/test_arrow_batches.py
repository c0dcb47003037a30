"""Types of columns in Parquet and Arrow files of other programs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pyarrow = pytest.importorskip("pyarrow")

from arrow_files import LISTS, stored, table_of  # noqa: E402
from hit_files import ROWS, assert_refused, columns_of, read, rows_of, write_arrow  # noqa: E402


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
@pytest.mark.parametrize("lists", ["list_", "large_list"])
def test_batch_rows_kinds_of_lists(tmp_path, kind, lists):
    assert np.array_equal(rows_of(read(stored(tmp_path / f"a{kind}", table_of(lists)))), ROWS)


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_batch_rows_lists_of_fixed_length(tmp_path, kind):
    pairs = pyarrow.list_(pyarrow.int32(), 2)
    columns = {name: pyarrow.array(ROWS[:, axis + 1].reshape(3, 2).tolist(), pairs) for axis, name in enumerate("xyt")}
    events = read(stored(tmp_path / f"a{kind}", pyarrow.table(columns)), chunk_hits=2)
    assert np.array_equal(events.hits, ROWS[:, 1:])
    assert events.counts.tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_batch_rows_missing_values_are_found(tmp_path, kind):
    def table(**changes) -> Path:
        columns = {name: pyarrow.array(values) for name, values in columns_of(ROWS).items()} | changes
        return stored(tmp_path / f"a{kind}", pyarrow.table(columns))

    gaps = np.array([0, 1, 0, 0, 0, 0], bool)
    assert_refused(table(x=pyarrow.array(ROWS[:, 1], mask=gaps)), r"row 1 \(the first is 0\): x = nan; whole")
    charge = pyarrow.array(np.arange(6), mask=gaps)
    assert_refused(table(charge=charge), "column charge lacks values, which a column of int64 cannot; fill them")
    assert len(rows_of(read(table(charge=charge), further=[]))) == 6
    flags = pyarrow.array([True, None] * 3)
    assert_refused(table(flag=flags), "column flag lacks 3 of its bool values; fill them")
    weight = pyarrow.array(np.arange(6.0, dtype=np.float32), mask=gaps)
    found = read(table(weight=weight)).hit_columns["weight"]
    assert found.dtype == np.float32
    assert np.isnan(found).tolist() == gaps.tolist()
    nothing = {name: [value.tolist() for value in values] for name, values in LISTS.items()}
    for values in nothing.values():
        values[1] = None
    assert read(stored(tmp_path / f"b{kind}", pyarrow.table(nothing))).counts.tolist() == [2, 0, 3]


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_schema_columns_wrong_types_raise(tmp_path, kind):
    def table(**changes) -> Path:
        return stored(tmp_path / f"a{kind}", pyarrow.table({**columns_of(ROWS), **changes}))

    assert_refused(table(x=list("012345")), "column x is of type string; integers or floats expected")
    assert_refused(table(t=pyarrow.array(ROWS[:, 3]).cast(pyarrow.timestamp("ns"))), "column t is of type timestamp")
    assert_refused(table(y=[{"a": 1}] * 6), "column y is of type struct<a: int64>; integers or floats expected")
    assert_refused(table(y=[[[1]]] * 6), "x, y and t have to be lists, one row per event, or all numbers")
    events = read(table(note=list("abcdef"), when=pyarrow.array(ROWS[:, 3]).cast(pyarrow.timestamp("ns"))))
    assert not events.hit_columns
    names = ["event", "x", "y", "t", "t"]
    twice = pyarrow.Table.from_arrays([pyarrow.array(ROWS[:, 0])] * 5, names=names)
    if kind == ".arrow":
        assert_refused(stored(tmp_path / "b.arrow", twice), "two columns of the same name")


def test_batch_rows_names_with_dots_and_spaces(tmp_path):
    """Parquet would take the dot for a part of a nested column."""
    names = {"event": "n.event", "x": "hit.x", "y": "hit y", "t": "x-t+0"}
    columns = {names[name]: values for name, values in columns_of(ROWS).items()}
    for kind in (".parquet", ".arrow", ".feather"):
        path = write_arrow(tmp_path / f"a{kind}", {**columns, "hit": np.arange(6)})
        events = read(path, columns=names)
        assert np.array_equal(rows_of(events), ROWS)
        assert events.hit_columns["hit"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
@pytest.mark.parametrize("is_imported", [True, False])
def test_batch_rows_records_of_awkward_whether_it_is_imported_or_not(tmp_path, kind, is_imported):
    """Once imported, awkward has extension types of its own for columns and what they hold."""
    awkward = pytest.importorskip("awkward")
    events = [{"event": 2, "hits": [{"x": 0, "y": 0, "t": 1}, {"x": 3, "y": 2, "t": 10}]}, {"event": 5, "hits": []}]
    table = awkward.to_arrow_table(awkward.Array(events), extensionarray=True)
    path = stored(tmp_path / f"a{kind}", table)
    if is_imported:
        found = read(path)
        assert (rows_of(found).tolist(), found.counts.tolist()) == (ROWS[:2].tolist(), [2, 0])
        return
    code = (
        "import sys; from tofae_jax.core.detector import Detector; from tofae_jax.data.files.read import read_events;"
        f"(e,) = read_events({str(path)!r}, detector=Detector()); assert 'awkward' not in sys.modules; print(e.n_hits)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


@pytest.mark.parametrize("kind", [".parquet", ".arrow"])
def test_batch_rows_names_of_fields_do_not_depend_on_what_is_read(tmp_path, kind):
    hits = pyarrow.array([[{"x": 0, "y": 0, "t": 1, "e": 3}], []])
    tracks = pyarrow.array([[{"e": 4}], []])
    columns = {"event": [2, 5], "hits": hits, "trk": tracks, "x": [7, 8], "hits.x": [5, 6]}
    path = stored(tmp_path / f"a{kind}", pyarrow.table(columns))
    for further in (None, [], ["hits.e"], ["trk.e", "hits.x"]):
        events = read(path, columns={"x": "hits.x_"}, further=further)
        assert rows_of(events).tolist() == ROWS[:1].tolist()
        assert {name: v.tolist() for name, v in events.hit_columns.items()} == {
            name: value for name, value in {"hits.e": [3], "trk.e": [4]}.items() if further is None or name in further
        }
        assert further not in (None, ["trk.e", "hits.x"]) or events.event_columns["hits.x"].tolist() == [5, 6]
