"""Tables of hits in files of all kinds that have them: both layouts, units, names and bad values."""

import numpy as np
import pytest
from hit_files import (
    COUNTS,
    KINDS,
    ROWS,
    SMALL,
    assert_refused,
    assert_same_events,
    columns_of,
    lists_file,
    lists_of,
    read,
    rows_of,
    some_events,
    write,
    write_flat,
    write_lists,
)

from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Reading


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_hits", [1, 3, 1000])
def test_table_events_both_layouts_give_same_events(tmp_path, kind, chunk_hits):
    score = np.linspace(0, 1, 6).astype(np.float32)
    one = lists_file(tmp_path / f"lists{kind}", score=lists_of(score), weight=np.array([0.5, 1, 2]))
    two = write_flat(tmp_path / f"flat{kind}", {**columns_of(ROWS), "score": score})
    for path in (one, two):
        events = read(path, chunk_hits=chunk_hits)
        assert np.array_equal(rows_of(events), ROWS)
        assert events.event_columns["event"].tolist() == [2, 5, 9]
        assert np.array_equal(events.offsets, np.append(0, np.cumsum(COUNTS)))
        assert {name: values.dtype for name, values in events.hit_columns.items()} == {"score": np.float32}
        assert np.array_equal(events.hit_columns["score"], score)
        chunks = list(read_events(path, detector=SMALL, chunk_hits=chunk_hits))
        assert all(chunk.n_hits <= chunk_hits or chunk.n_events == 1 for chunk in chunks)
    assert read(one).event_columns["weight"].tolist() == [0.5, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["i2", "u1", "i4", "u8", "f4", "f8"])
def test_table_events_all_number_types_are_read(tmp_path, kind, dtype):
    lists = {name: lists_of(ROWS[:, axis + 1].astype(dtype)) for axis, name in enumerate("xyt")}
    assert np.array_equal(read(lists_file(tmp_path / f"a{kind}", **lists)).hits, ROWS[:, 1:])
    assert np.array_equal(rows_of(read(write_flat(tmp_path / f"b{kind}", columns_of(ROWS.astype(dtype))))), ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_columns_renamed_and_chosen(tmp_path, kind):
    charge = lists_of(np.arange(6.0))
    lists = {name: lists_of(ROWS[:, axis + 1]) for axis, name in enumerate("xyt")}
    path = write_lists(
        tmp_path / f"a{kind}",
        {"px": lists["x"], "py": lists["y"], "tof": lists["t"], "x": charge, "charge": charge},
        {"run": np.array([1, 1, 2]), "number": np.array([2, 5, 9])},
    )
    names = {"event": "number", "x": "px", "y": "py", "t": "tof"}
    events = read(path, columns=names)
    assert np.array_equal(rows_of(events), ROWS)
    assert sorted(events.hit_columns) == ["charge", "x_"]  # the name of the file's own x is taken
    assert sorted(events.event_columns) == ["event", "run"]
    events = read(path, columns={**names, "event": ""}, further=["number"])
    assert events.event_columns["event"].tolist() == [0, 1, 2]
    assert events.event_columns["number"].tolist() == [2, 5, 9]
    assert not events.hit_columns
    assert list(read(path, columns=names, further=[]).event_columns) == ["event"]
    assert_refused(path, r"no column 'z'; it has .*px", columns=names, further=["z"])
    assert_refused(path, r"no column 'pz' for x; it has .*px", columns={**names, "x": "pz"})
    with pytest.raises(ValueError, match="columns has z; event, x, y, t allowed"):
        read(path, columns={"z": "x"})


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_empty_lists_are_empty_events(tmp_path, kind):
    counts = np.array([0, 2, 0, 4, 0])
    lists = {name: lists_of(ROWS[:, axis + 1], counts) for axis, name in enumerate("xyt")}
    path = write_lists(tmp_path / f"a{kind}", lists, {"weight": np.arange(5.0)})
    for chunk_hits in (1, 1000):
        events = read(path, chunk_hits=chunk_hits)
        assert events.counts.tolist() == counts.tolist()
        assert events.event_columns["event"].tolist() == [0, 1, 2, 3, 4]
        assert np.array_equal(events.hits, ROWS[:, 1:])


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_no_rows_no_events(tmp_path, kind):
    assert list(read_events(write_flat(tmp_path / f"a{kind}", columns_of(ROWS[:0])), detector=SMALL)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_bad_value_is_named_with_row(tmp_path, kind):
    def flat(words, **columns):
        assert_refused(write_flat(tmp_path / f"a{kind}", {**columns_of(ROWS), **columns}), words)

    def changed(axis, row, value, dtype=np.int64):
        values = ROWS[:, axis].astype(dtype)
        values[row] = value
        return values

    flat(r"row 3 \(the first is 0\): x = 4; whole numbers from 0 to 3 allowed", x=changed(1, 3, 4))
    flat(r"row 4 .*: x = nan; whole", x=changed(1, 4, np.nan, float))
    flat(r"row 1 .*: y = 0\.5; whole", y=changed(2, 1, 0.5, np.float32))
    flat(r"row 5 .*: t = -1; whole numbers from 1 to 10", t=changed(3, 5, -1))
    flat(r"row 0 .*: t = 0; whole", t=changed(3, 0, 0))
    flat(r"row 2 .*: t = inf; whole", t=changed(3, 2, np.inf, float))
    flat(r"row 3 .*: event 1 comes after event 5; sort the rows", event=changed(0, 3, 1))
    flat(r"row 0 .*: event = -1; whole numbers", event=changed(0, 0, -1))

    def lists(words, **columns):
        assert_refused(lists_file(tmp_path / f"b{kind}", **columns), words)

    lists(r"row 2 \(the first is 0\), value 1: x = 4; whole", x=lists_of(changed(1, 4, 4)))
    lists(r"row 1 .*, value 0: y = nan; whole", y=lists_of(changed(2, 2, np.nan, float)))
    lists(r"row 0 .*, value 1: t = -3; whole", t=lists_of(changed(3, 1, -3)))
    lists(r"row 2 .*: event 5 comes after event 5; numbers that rise expected", event=np.array([2, 5, 5]))
    lists(r"row 1 .*: event = nan; whole", event=np.array([2, np.nan, 5]))
    lists(r"row 0 .*: event = -2; whole", event=np.array([-2, 1, 5]))


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_missing_or_wrong_column_raises(tmp_path, kind):
    path = write_flat(tmp_path / f"a{kind}", {name: v for name, v in columns_of(ROWS).items() if name != "t"})
    assert_refused(path, r"no column 't'; it has event, x, y")
    path = write_flat(tmp_path / f"b{kind}", {name: v for name, v in columns_of(ROWS).items() if name != "event"})
    assert_refused(path, r"no column 'event'; it has [xyt, ]+ ")
    assert_refused(path, r"has one row per hit: a column that numbers the events is needed", columns={"event": ""})
    path = write_flat(tmp_path / f"c{kind}", {**columns_of(ROWS), "x": ROWS[:, 1] > 0})
    assert_refused(path, r"column x is of type bool; integers or floats expected")


@pytest.mark.parametrize("kind", [".root", ".parquet", ".arrow"])
def test_table_events_lists_that_differ_raise(tmp_path, kind):
    shorter = lists_of(ROWS[:5, 2], np.array([2, 1, 2]))
    assert_refused(
        lists_file(tmp_path / f"a{kind}", y=shorter),
        r"row 2 \(the first is 0\): y has 2 values, x has 3; lists of equal length expected$",
    )
    path = lists_file(tmp_path / f"b{kind}", charge=shorter)
    assert_refused(path, r"row 2 .*: charge has 2 values, x has 3; .*--columns.further names the columns to read")
    assert np.array_equal(rows_of(read(path, further=[])), ROWS)
    path = lists_file(tmp_path / f"c{kind}", y=np.array([1, 2, 3]))
    assert_refused(
        path, "x, y and t have to be lists, one row per event, or all numbers, one row per hit: x .*, y .*, t "
    )
    path = lists_file(tmp_path / f"d{kind}", event=lists_of(ROWS[:, 0]))
    assert_refused(path, "column event has a list per row, x, y and t too; one event number per row expected")


@pytest.mark.parametrize("kind", KINDS)
def test_table_events_damaged_file_raises(tmp_path, kind):
    path = write(tmp_path / f"whole{kind}", some_events(2000))
    content = path.read_bytes()
    for length in np.linspace(1, len(content) - 1, 9).astype(int):
        (tmp_path / f"cut{kind}").write_bytes(content[:length])
        if kind == ".root" and length == len(content) - 1:  # a list of free places comes last, which nobody needs
            assert_same_events(read(tmp_path / f"cut{kind}"), read(path))
        else:
            assert_refused(tmp_path / f"cut{kind}", "cut, damaged")
    for other in (b"event,x,y,t\n1,2,3,4\n" * 30, b"\x00" * 1000, content[:4] + b"?" * 500):
        (tmp_path / f"other{kind}").write_bytes(other)
        assert_refused(tmp_path / f"other{kind}", "cut, damaged")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["lists", "flat"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_table_events_physical_hits_outside_are_counted(tmp_path, kind, layout, dtype):
    mm = (ROWS[:, 1:].astype(dtype) - [0, 0, 1] + 0.5) * [2, 2, 0.5]
    mm[1, 0] = np.nan
    mm[2, 2] = -1.0
    columns = dict(zip("xyt", mm.T.astype(dtype), strict=True))
    number = np.arange(6)
    path = tmp_path / f"a{kind}"
    if layout == "lists":
        lists_file(path, number=lists_of(number), **{name: lists_of(values) for name, values in columns.items()})
    else:
        write_flat(path, {**columns_of(ROWS), **columns, "number": number})
    about = Reading()
    events = read(path, units="physical", reading=about)
    assert np.array_equal(rows_of(events), ROWS[[0, 3, 4, 5]])
    assert events.hit_columns["number"].tolist() == [0, 3, 4, 5]
    assert events.event_columns["event"].tolist() == ([2, 5, 9] if layout == "lists" else [2, 9])
    assert (about.tally.n_hits, about.tally.n_outside) == (6, 2)
    assert str(about.tally) == "2 of 6 hits outside the detector, dropped"
    assert_refused(path, "x = nan|x = 1; whole|x = 0.* whole|t = 0")


def test_table_events_physical_bad_event_names_row(tmp_path):
    columns = columns_of(ROWS * [1.0, 1.0, 1.0, 0.4])
    columns["x"][:2] = np.nan
    columns["event"][4] = 3
    path = write_flat(tmp_path / "a.parquet", columns)
    assert_refused(path, r"row 4 \(the first is 0\): event 3 comes after event 9", units="physical")
