"""Tables of hits in files of every kind that has them: both layouts, units, names, bad values, and what is written."""

import importlib
import tempfile
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hit_files import (
    COUNTS,
    LARGE,
    ROWS,
    SMALL,
    assert_refused,
    assert_same_events,
    columns_of,
    events_with_tables,
    kill_while_writing,
    lists_of,
    read,
    rows_of,
    write,
    write_flat,
    write_lists,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tofae_jax.cli import app
from tofae_jax.config import Config
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset, write_dataset
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import only_writable
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import writable_endings
from tofae_jax.data.files.units import Tally, check_units, in_pixels
from tofae_jax.data.files.write import open_hit_file

KINDS = (".root", ".parquet", ".arrow", ".feather", ".h5")
WRITTEN = (".root", ".parquet", ".arrow", ".h5")


def lists_file(path: Path, *, rows: np.ndarray = ROWS, **changes) -> Path:
    """The events of `ROWS` with one row per event; a changed column replaces or, if None, leaves out."""
    lists = {name: lists_of(rows[:, axis + 1]) for axis, name in enumerate("xyt")}
    numbers = {"event": np.unique(rows[:, 0])}
    for name, values in changes.items():
        for columns in (lists, numbers):
            columns.pop(name, None)
        if values is not None:
            (lists if isinstance(values, list) else numbers)[name] = values
    return write_lists(path, lists, numbers)


# Layouts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_hits", [1, 3, 1000])
def test_both_layouts_give_the_same_events(tmp_path, kind, chunk_hits):
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
def test_types_of_coordinates(tmp_path, kind, dtype):
    lists = {name: lists_of(ROWS[:, axis + 1].astype(dtype)) for axis, name in enumerate("xyt")}
    assert np.array_equal(read(lists_file(tmp_path / f"a{kind}", **lists)).hits, ROWS[:, 1:])
    assert np.array_equal(rows_of(read(write_flat(tmp_path / f"b{kind}", columns_of(ROWS.astype(dtype))))), ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_renamed_columns_and_a_choice_of_further_ones(tmp_path, kind):
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
    assert sorted(events.hit_columns) == ["charge"]  # the file's own x has no name left
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
def test_events_without_hits_and_without_numbers(tmp_path, kind):
    counts = np.array([0, 2, 0, 4, 0])
    lists = {name: lists_of(ROWS[:, axis + 1], counts) for axis, name in enumerate("xyt")}
    path = write_lists(tmp_path / f"a{kind}", lists, {"weight": np.arange(5.0)})
    for chunk_hits in (1, 1000):
        events = read(path, chunk_hits=chunk_hits)
        assert events.counts.tolist() == counts.tolist()
        assert events.event_columns["event"].tolist() == [0, 1, 2, 3, 4]
        assert np.array_equal(events.hits, ROWS[:, 1:])


@pytest.mark.parametrize("kind", KINDS)
def test_no_events(tmp_path, kind):
    assert list(read_events(write_flat(tmp_path / f"a{kind}", columns_of(ROWS[:0])), detector=SMALL)) == []


# Bad files


@pytest.mark.parametrize("kind", KINDS)
def test_bad_values_are_named_with_their_row(tmp_path, kind):
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
def test_columns_that_cannot_be_right(tmp_path, kind):
    path = write_flat(tmp_path / f"a{kind}", {name: v for name, v in columns_of(ROWS).items() if name != "t"})
    assert_refused(path, r"no column 't'; it has event, x, y")
    path = write_flat(tmp_path / f"b{kind}", {name: v for name, v in columns_of(ROWS).items() if name != "event"})
    assert_refused(path, r"no column 'event'; it has [xyt, ]+ ")
    assert_refused(path, r"no column '' for event", columns={"event": ""})
    path = write_flat(tmp_path / f"c{kind}", {**columns_of(ROWS), "x": ROWS[:, 1] > 0})
    assert_refused(path, r"column x is of type bool; integers or floats expected")


@pytest.mark.parametrize("kind", [".root", ".parquet", ".arrow"])
def test_lists_that_cannot_be_right(tmp_path, kind):
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
def test_cut_damaged_and_other_files(tmp_path, kind):
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
def test_a_missing_library_is_named(tmp_path, kind):
    path = lists_file(tmp_path / f"a{kind}")
    library, extra = {".root": ("uproot", "root"), ".h5": ("h5py", "hdf5")}.get(kind, ("pyarrow", "columns"))

    def without(name, *rest):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    real = importlib.import_module
    with mock.patch("importlib.import_module", without):
        words = rf"\{kind} files need {library}: pip install 'tofae-jax\[{extra}\]'"
        assert_refused(path, words)
        with pytest.raises(DataError, match=words), open_hit_file(tmp_path / f"b{kind}"):
            pass
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_options_that_do_not_fit(tmp_path):
    table = lists_file(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("event,x,y,t\n1,1,1,1\n")
    assert_refused(table, "tree 'a' chosen, but only .root, .h5, .hdf5 files have trees or groups", tree="a")
    assert_refused(table, "array 'a' chosen, but only .npz", array="a")
    for options in ({"units": "physical"}, {"columns": {"x": "px"}}, {"further": []}):
        assert_refused(tmp_path / "a.csv", "columns and units can be chosen for .root, .parquet", **options)
    with pytest.raises(ValueError, match="units = 'cm': pixels or physical allowed"):
        check_units("cm", "edge")
    with pytest.raises(ValueError, match="origin = 'centre': only for units 'physical'"):
        read(table, origin="centre")


# Units


def test_known_conversions():
    columns = {
        "x": np.array([0.0, 1.999, 2.0, 7.999, 8.0, -1e-9, 4.0, 4.0]),
        "y": np.array([0.0, 2.0, 4.0, 5.999, 1.0, 1.0, 6.0, np.nan]),
        "t": np.array([0.0, 0.5, 0.499, 4.999, 1.0, 1.0, 1.0, 1.0]),
        "n": np.arange(8),
    }
    found, is_inside = in_pixels(columns, detector=SMALL, origin="edge")
    assert is_inside.tolist() == [True] * 4 + [False] * 4
    assert np.column_stack([found[name] for name in "xyt"]).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 1], [3, 2, 10]]
    assert found["n"].tolist() == [0, 1, 2, 3]
    centred = {**columns, "x": columns["x"] - 4, "y": columns["y"] - 3}
    again, is_inside = in_pixels(centred, detector=SMALL, origin="centre")
    assert is_inside.tolist() == [True] * 4 + [False] * 4
    assert np.array_equal(again["x"][:4], found["x"])


def test_edges_of_bins_begin_their_bin():
    detector = Detector()
    bins = np.arange(1, 1001)
    t = (bins - 1) * 0.025
    columns = {"x": np.zeros(1000), "y": np.zeros(1000), "t": t}
    found, is_inside = in_pixels(columns, detector=detector, origin="edge")
    assert is_inside.all()
    assert np.array_equal(found["t"], bins)
    assert not np.array_equal(np.floor(t / detector.bin_ns) + 1, bins)  # what dividing first would give


@given(st.integers(1, 300), st.floats(0.1, 1e4), st.integers(0, 2**32))
def test_centres_of_pixels_come_back(n, length, seed):
    detector = Detector(n_x=n, n_y=n, n_t=n, width_mm=length, height_mm=length / 3, window_ns=length * 2)
    pixel = np.random.default_rng(seed).integers(0, n, (50, 3))
    for origin, shift in (("edge", 0.0), ("centre", 0.5)):
        columns = {
            "x": ((pixel[:, 0] + 0.5) / n - shift) * detector.width_mm,
            "y": ((pixel[:, 1] + 0.5) / n - shift) * detector.height_mm,
            "t": (pixel[:, 2] + 0.5) / n * detector.window_ns,
        }
        found, is_inside = in_pixels(columns, detector=detector, origin=origin)
        assert is_inside.all()
        assert np.array_equal(np.column_stack([found[name] for name in "xyt"]), pixel + np.array([0, 0, 1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["lists", "flat"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_physical_units_drop_and_count_what_is_outside(tmp_path, kind, layout, dtype):
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
    tally = Tally()
    events = read(path, units="physical", tally=tally)
    assert np.array_equal(rows_of(events), ROWS[[0, 3, 4, 5]])
    assert events.hit_columns["number"].tolist() == [0, 3, 4, 5]
    assert events.event_columns["event"].tolist() == ([2, 5, 9] if layout == "lists" else [2, 9])
    assert (tally.n_hits, tally.n_outside) == (6, 2)
    assert str(tally) == "2 of 6 hits outside the detector, dropped"
    assert_refused(path, "x = nan|x = 1; whole|x = 0.* whole|t = 0")


def test_bad_events_in_physical_units_are_named_with_the_files_row(tmp_path):
    columns = columns_of(ROWS * [1.0, 1.0, 1.0, 0.4])
    columns["x"][:2] = np.nan
    columns["event"][4] = 3
    path = write_flat(tmp_path / "a.parquet", columns)
    assert_refused(path, r"row 4 \(the first is 0\): event 3 comes after event 9", units="physical")


# Writing


def some_events(n_events: int = 3) -> Events:
    counts = np.arange(n_events) % 4
    hits = np.ones((int(counts.sum()), 3), np.int16)
    return Events(hits, np.append(0, np.cumsum(counts)), {"score": np.linspace(0, 1, len(hits), dtype=np.float32)})


@settings(max_examples=60)
@given(events_with_tables(), st.sampled_from([*WRITTEN, ".npz"]), st.sampled_from([1, 7, 1000]))
def test_what_is_written_is_read(events, kind, chunk_hits):
    if kind == ".npz" and not events.n_hits:  # nothing shows which columns hits would have had
        events = events._replace(hit_columns={})
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"hits{kind}", events)
        found = read(path, detector=LARGE, chunk_hits=chunk_hits)
        assert_same_events(found, events, has_float16=kind != ".root")


@settings(max_examples=30)
@given(events_with_tables())
def test_text_keeps_values_per_hit_and_event(events):
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


def test_text_with_several_values_for_an_event(tmp_path):
    (tmp_path / "a.csv").write_text("event,x,y,t,event.p\n1,1,1,1,5\n2,1,1,1,7\n2,1,1,1,8\n")
    assert_refused(tmp_path / "a.csv", r"event 2 has several values of event\.p; one for all its hits expected")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"event.event": [2, 5]}, "event.event has to rise and to have every number"),
        ({"event.event": [2, 5, 5, 9]}, "event.event has to rise"),
        ({"event.event": [9, 5, 2]}, "event.event has to be of integers that never fall"),
        ({"event.event": [2, 5, 9], "event.p": [1, 2]}, r"array event.p has shape \[2\]; as long as event.event"),
        ({"event.event": [2, 5, 9], "track.event": [3], "track.p": [1.0]}, "track.event has numbers that event.event"),
    ],
)
def test_bad_arrays_of_events(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **columns_of(ROWS), **{name: np.array(values) for name, values in arrays.items()})
    assert_refused(tmp_path / "a.npz", words)


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz", ".csv"])
def test_killed_while_writing_leaves_no_such_file(tmp_path, kind):
    kill_while_writing(tmp_path / f"hits{kind}")
    assert not (tmp_path / f"hits{kind}").exists()


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_error_while_writing_leaves_nothing(tmp_path, kind):
    path = tmp_path / f"hits{kind}"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), open_hit_file(path, overwrite=True) as writer:
        writer.append(some_events(200_000))
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="exists already; choose another name, or give --overwrite"):
        write(path, some_events())
    with pytest.raises(ValueError, match="hit columns are none, expected score float32"):
        write(tmp_path / f"b{kind}", some_events(), some_events()._replace(hit_columns={}))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz"])
def test_columns_of_the_same_name(tmp_path, kind):
    """An event's own x, and a column of hits that is a column of events too."""
    events = some_events()._replace(
        event_columns={"event": np.arange(3), "x": np.arange(3.0), "score": np.arange(3), "n_hits": np.arange(3)}
    )
    assert_same_events(read(write(tmp_path / f"a{kind}", events)), events)


@pytest.mark.parametrize("kind", WRITTEN)
def test_memory_is_bounded(tmp_path, kind):
    """In chunks, both ways, measured where NumPy allocates; the libraries' own memory is measured by hand."""
    n_parts, n_hits = 12, 100_000
    part = Events(np.ones((n_hits, 3), np.int16), np.arange(0, n_hits + 1, 250), {"score": np.zeros(n_hits)})
    path = tmp_path / f"hits{kind}"
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


# The command


def run(capsys, *words):
    code = app.main([str(word) for word in words])
    answer = capsys.readouterr()
    return code, answer.out, answer.err


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz"])
def test_convert_a_dataset_to_a_file_and_back(tmp_path, capsys, kind):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 500)
    n_hits = int(counts.sum())
    hits = np.column_stack([rng.integers(0, 88, n_hits), rng.integers(0, 128, n_hits), rng.integers(1, 1001, n_hits)])
    events = Events(
        hits.astype(np.int16),
        np.append(0, np.cumsum(counts)),
        {"is_signal": rng.random(n_hits) < 0.5, "track": rng.integers(-1, 2, n_hits).astype(np.int8)},
        {"event": np.arange(500) * 3, "window_ns": rng.random(500)},
        np.append(0, np.cumsum(np.arange(500) % 3)),
        {"momentum_gev": rng.random(int((np.arange(500) % 3).sum())).astype(np.float32)},
    )
    write_dataset(tmp_path / "d", [events], detector=Detector(), provenance={}, shard_events=64)
    path = tmp_path / f"out{kind}"
    assert run(capsys, "convert", tmp_path / "d", path) == (0, f"500 events, {n_hits} hits: {path}\n", "")
    assert_same_events(read(path, detector=Detector()), events)
    assert run(capsys, "convert", path, tmp_path / "again")[0] == 0
    (again,) = Dataset(tmp_path / "again").events()
    assert_same_events(again, events)
    code, _, err = run(capsys, "convert", tmp_path / "d", path)
    assert (code, "exists already" in err) == (2, True)
    assert run(capsys, "convert", path, tmp_path / "other.csv")[0] == 0
    code, _, err = run(capsys, "convert", path, path, "--overwrite")
    assert (code, "is the input too" in err) == (2, True)


def test_convert_physical_units(tmp_path, capsys):
    columns = columns_of(ROWS.astype(float))
    columns["x"][0] = -1
    path = write_flat(tmp_path / "a.parquet", {{"x": "px"}.get(name, name): v for name, v in columns.items()})
    words = ("convert", path, tmp_path / "d", "--columns.x", "px", "--units", "physical")
    code, out, err = run(capsys, *words)
    assert (code, out) == (0, f"3 events, 5 hits: {tmp_path / 'd'}\n")
    assert err == f"{path}: 1 of 6 hits outside the detector, dropped\n"
    code, _, err = run(capsys, *words[:2], tmp_path / "e", *words[3:], "--detector.window-ns", "0.1")
    assert code == 2
    assert "holds no events (6 of 6 hits outside the detector, dropped)" in err
    assert not (tmp_path / "e").exists()


def test_mistakes_of_convert(tmp_path, capsys):
    write_dataset(tmp_path / "d", [some_events()], detector=Detector(), provenance={})
    for words, expected in (
        (("d", "out.npy"), ".npy files cannot be written; .csv, .npz, .root"),
        (("d", "out"), "a dataset is written to files that end in .csv, .npz, .root"),
        (("d", "out.root", "--units", "physical"), "is a dataset, for which units cannot be chosen"),
        (("d", "out.root", "--columns.x", "px"), "is a dataset, for which columns cannot be chosen"),
        (("none.root", "out"), "none.root: does not exist"),
        (("d", "out.root", "--units", "cm"), "units"),
    ):
        code, _, err = run(capsys, "convert", tmp_path / words[0], tmp_path / words[1], *words[2:])
        assert code == 2
        assert expected in err
        assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert writable_endings()[:3] == (".csv", ".npz", ".root")


class FakeDenoiser:
    """Keeps every other hit."""

    def __init__(self, *_, **__) -> None:
        pass

    def __call__(self, parts):
        for events in parts:
            number = np.arange(events.n_hits)
            found = {"score": (number / 8).astype(np.float32), "kept": number % 2 == 0, "visible": number >= 0}
            yield events._replace(hit_columns={**events.hit_columns, **found})


@pytest.fixture
def fake_run(monkeypatch):
    from tofae_jax.engine import denoise

    run = mock.MagicMock(epoch=1)
    used = run.setup._replace.return_value
    used.model.takes_tracks, used.config = False, Config(detector=SMALL)
    monkeypatch.setattr(denoise, "load_run", lambda *_, **__: run)
    monkeypatch.setattr(denoise, "Denoiser", FakeDenoiser)
    monkeypatch.setattr(denoise, "with_cut", lambda *_, **__: None)
    monkeypatch.setattr(denoise.DenoiseReport, "_asdict", lambda self: {"hits_outside": self.hits_outside})


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz", ".csv"])
def test_denoise_keeps_the_columns_of_its_input(tmp_path, capsys, fake_run, kind):
    truth = lists_of(np.arange(6, dtype=np.int8))
    old = lists_of(np.full(6, 9.0))
    path = lists_file(tmp_path / "in.root", is_signal=truth, score=old, weight=np.array([1.5, 2, 3]))
    for words, rows, names in (
        ((), [0, 2, 4], ["is_signal", "score"]),
        (("--all-hits",), [0, 1, 2, 3, 4, 5], ["is_signal", "score", "kept"]),
    ):
        out = tmp_path / f"out{kind}"
        assert run(capsys, "denoise", "run", path, out, "--overwrite", *words)[0] == 0
        events = read(out)
        assert np.array_equal(rows_of(events), ROWS[rows])
        assert list(events.hit_columns) == names
        assert events.hit_columns["is_signal"].tolist() == rows
        assert events.hit_columns["score"].tolist() == [row / 8 for row in rows]
        assert events.event_columns["weight"].tolist() == [1.5, 2, 3]
        assert kind == ".csv" or events.hit_columns["score"].dtype == np.float32


def test_columns_that_cannot_be_written_do_not_stop_denoising():
    events = some_events()
    n = events.n_hits
    odd = {
        "text": np.array(["a"] * n),
        "pair": np.zeros((n, 2)),
        "x": np.zeros(n),
        "a/b": np.zeros(n),
        "c": np.zeros(n),
    }
    kept = only_writable(events._replace(hit_columns=odd, event_columns={"event": np.arange(3), "z": np.zeros((3, 2))}))
    assert list(kept.hit_columns) == ["c"]
    assert list(kept.event_columns) == ["event"]


@pytest.mark.parametrize("kind", [".parquet", ".h5", ".npz"])
def test_changed_values_are_noticed(tmp_path, kind):
    """By check sums; ROOT and Arrow files have none."""
    path = write(tmp_path / f"a{kind}", some_events(20_000))
    content = bytearray(path.read_bytes())
    place = len(content) // 3
    if kind == ".h5":  # which has gaps
        import h5py

        with h5py.File(path) as file:
            place = file["events/score"].id.get_chunk_info(0).byte_offset + 20
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert_refused(path, "cut, damaged")


def test_denoise_physical_units_and_mistakes(tmp_path, capsys, fake_run):
    columns = columns_of(ROWS * [1, 2, 2, 0.4])
    columns["t"][5] = np.nan
    path = write_flat(tmp_path / "in.parquet", columns)
    code, out, err = run(capsys, "denoise", "run", path, tmp_path / "out.h5", "--units", "physical")
    assert (code, out) == (0, '{"hits_outside":1}\n')
    assert err == f"{path}: 1 of 6 hits outside the detector, dropped\n"
    assert read(tmp_path / "out.h5").n_hits == 3
    for words, expected in (
        ((path, tmp_path / "a.root"), "x = 6.0; whole"),
        ((path, tmp_path / "a.txt"), "unknown ending '.txt'; known are .csv, .npz, .root"),
        ((path, path, "--overwrite"), "is the input too"),
        ((path, tmp_path / "a.root", "--tree", "t"), "only .root, .h5, .hdf5 files have trees"),
    ):
        code, _, err = run(capsys, "denoise", "run", *words)
        assert code == 2
        assert expected in err
        assert len(err.splitlines()) == 1
    assert sorted(left.name for left in tmp_path.iterdir()) == ["in.parquet", "out.h5"]
