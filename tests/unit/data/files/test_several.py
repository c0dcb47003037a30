"""Several files, and folders `NAME=VALUE`, read as one table."""

import numpy as np
import pyarrow
import pytest
from hit_files import SMALL, assert_refused, read
from pyarrow import parquet

from tofae_jax.data.events import DataError
from tofae_jax.data.files.inspect_file import describe_file
from tofae_jax.data.files.several import source_files
from tofae_jax.data.files.tables import Reading

HEADER = "event,x,y,t,e\n"


def write_texts(folder, *texts):
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"a{number}.csv").write_text(text)
    return folder


def partitions(folder, values, ending=".csv"):
    for number, value in enumerate(values):
        part = folder / f"cut={value}"
        part.mkdir(parents=True)
        if ending == ".csv":
            (part / "a.csv").write_text(f"event,x,y,t\n{number},0,0,1\n")
        else:
            columns = {"event": [number], "x": [0], "y": [0], "t": [1]}
            parquet.write_table(pyarrow.table(columns), part / f"a{ending}")
    return folder


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2", "10"], np.array([1, 2, 10])),
        (["1", "1.5", "2"], np.array([1, 1.5, 2])),  # a whole number first says nothing of the others
        (["-2.5", "-3"], np.array([-2.5, -3])),
        (["1e-2", "2"], np.array([0.01, 2])),
        (["7", str(2**64 - 1)], np.array([7, 2**64 - 1], np.uint64)),
        (["1", "A"], None),
        (["1", "1_5"], None),  # Python would read 15
        ([str(2**64)], None),
        (["1.5", str(2**53 + 1)], None),
    ],
)
def test_folders_give_a_column_of_numbers_or_say_that_they_do_not(tmp_path, ending, values, expected):
    reading = Reading()
    found = read(partitions(tmp_path / "p", values, ending), reading=reading).hit_columns
    if expected is None:
        assert "cut" not in found
        assert reading.left_out == {"cut": "text in the names of folders"}
        return
    assert reading.left_out == {}
    assert found["cut"].dtype == expected.dtype
    assert found["cut"].tolist() == expected.tolist()


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    names = ["run1.csv", "run1.5.csv", "run2.csv", "run10.csv", "v=1/a.csv", "v=1.5/a.csv", "v=10/a.csv"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(HEADER)
    assert [str(file.path.relative_to(tmp_path)) for file in source_files(tmp_path)] == names


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("5", "6.5", None), np.array([5, 6.5])),
        ((None, "5", "6"), np.array([5, 6])),
        (("5", "", None), np.array([5, np.nan])),
        (("", ""), None),
        (("5", str(2**64 - 1)), np.array([5, 2**64 - 1], np.uint64)),
        (("true", None, "false"), np.array([True, False])),
        (("true", "5"), None),
        (("5", "abc"), None),
    ],
)
def test_text_types_are_those_of_all_files_together(tmp_path, columns, expected):
    rows = ["" if value is None else f"{number},0,0,1,{value}\n" for number, value in enumerate(columns)]
    reading = Reading()
    found = read(write_texts(tmp_path / "d", *(HEADER + row for row in rows)), reading=reading).hit_columns
    assert ("e" in reading.left_out) == (expected is None)
    if expected is not None:
        assert found["e"].dtype == expected.dtype
        np.testing.assert_array_equal(found["e"], expected)


def test_text_integers_that_floats_of_other_files_cannot_hold_raise(tmp_path):
    folder = write_texts(tmp_path / "d", HEADER + "0,0,0,1,0.5\n", HEADER + f"1,0,0,1,{2**53 + 1}\n")
    assert_refused(folder, f"a1.csv: column e = {2**53 + 1} cannot be held exactly as float64")
    assert read(folder, further=[]).n_events == 2
    folder = write_texts(tmp_path / "d", HEADER + f"0,0,0,1,{2**64 - 1}\n", HEADER + "1,0,0,1,-1\n")
    assert_refused(folder, "a1.csv: column e = -1 cannot be held exactly as uint64")
    folder = write_texts(tmp_path / "d", HEADER + "0,0,0,1,0.5\n", HEADER + "1,zero,0,1,1\n")
    assert_refused(folder, "a1.csv, line 2: x = 'zero'; a number expected")


def test_a_column_file_of_the_files_themselves_does_not_join_events(tmp_path):
    folder = write_texts(tmp_path / "d", *["event,x,y,t,file\n3,0,0,1,0\n"] * 2)
    assert_refused(folder, "event 3 has hits of file_ 0 and 1.*--columns.event file_,event")
    assert read(folder, columns={"event": "file_,event"}).n_events == 2


def test_pattern_of_a_single_file_has_a_column_file_where_it_is_a_key(tmp_path):
    folder = write_texts(tmp_path / "d", HEADER + "3,0,0,1,5\n")
    for path in (folder, folder / "*.csv"):
        assert read(path, columns={"event": "file,event"}).event_columns["key.file"].tolist() == [0]
        assert list(read(path).hit_columns) == ["e"]
    assert_refused(folder / "a0.csv", "no column 'file'", columns={"event": "file,event"})


def test_arrays_of_events_in_several_npz_files_are_never_dropped(tmp_path):
    for number in range(2):
        columns = {"event": [2 * number], "x": [0], "y": [0], "t": [1], "q": [number]}
        of_events = {"event.event": [2 * number, 2 * number + 1], "event.w": [0.5, 1.5]}
        np.savez(tmp_path / f"a{number}.npz", **{k: np.array(v) for k, v in {**columns, **of_events}.items()})
    assert_refused(tmp_path, "a0.npz: arrays of events, such as event.event, cannot be read of several files")
    assert read(tmp_path, further=["q"]).hit_columns["q"].tolist() == [0, 1]


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_images_of_several_files_have_the_columns_of_their_folders(tmp_path, ending):
    images = np.zeros((2, 3, 4), np.int16)
    images[0, 1, 2] = 5
    for run in (7, 8):
        folder = tmp_path / f"run={run}"
        folder.mkdir()
        if ending == ".npy":
            np.save(folder / "a.npy", images)
        else:
            np.savez(folder / "a.npz", images=images, temperature=np.array([20.0, 21.0]))
    events = read(tmp_path)
    assert events.event_columns["event"].tolist() == [0, 1, 2, 3]
    assert events.event_columns["run"].tolist() == [7, 7, 8, 8]
    assert (ending == ".npz") == ("temperature" in events.event_columns)
    assert events.counts.tolist() == [1, 0, 1, 0]
    assert any("images       4" in line for line in describe_file(tmp_path, detector=SMALL))


def test_a_link_out_of_a_folder_is_not_followed_but_a_pattern_reads_it(tmp_path):
    (outside := tmp_path / "outside.csv").write_text("event,x,y,t\n0,1,1,1\n")
    (folder := tmp_path / "folder").mkdir()
    (folder / "a.csv").write_text("event,x,y,t\n0,1,1,1\n")
    (folder / "b.csv").symlink_to("a.csv")
    assert len(source_files(folder)) == 2
    (folder / "c.csv").symlink_to(outside)
    with pytest.raises(DataError, match=r"c\.csv: is a link to a file outside .*, which is not followed; a pattern"):
        source_files(folder)
    assert len(source_files(folder / "*.csv")) == 3
