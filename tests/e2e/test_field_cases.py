"""Inputs from the field that were read wrongly or not at all, and their neighbours; files in tests/reference/cases."""

import os
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest
from hit_files import assert_refused, read, rows_of, write
from hypothesis import given
from hypothesis import strategies as st
from places import REFERENCE, ROOT

from tofae_jax.core.detector import Detector
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.units import in_pixels

CASES = REFERENCE / "cases"
WHOLE = Detector()
HITS = np.array([[0, 80, 10, 100], [0, 81, 20, 200], [1, 82, 30, 300], [2, 83, 40, 400]])


@pytest.mark.parametrize("name", ["hits_text.npz", "hits_bytes.npz"])
def test_npz_column_names_as_text_or_bytes_are_obeyed(name):
    np.testing.assert_array_equal(rows_of(read(CASES / name, detector=WHOLE)), HITS)


@pytest.mark.parametrize(
    "columns",
    [
        np.array(["event", "y", "x", "t"]),
        np.array([["event", "y", "x", "t"]]),
        np.array([["event"], ["y"], ["x"], ["t"]], "S"),
        np.array("event,y,x,t"),
        np.array([b"event; y; x; t"]),
        np.array("['event' 'y' 'x' 't']"),
    ],
)
def test_npz_column_names_in_any_form_swap_nothing(tmp_path, columns):
    np.savez(tmp_path / "a.npz", hits=HITS[:, [0, 2, 1, 3]], columns=columns)
    np.testing.assert_array_equal(rows_of(read(tmp_path / "a.npz", detector=WHOLE)), HITS)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (np.array(["event", "y", "x", "t"], object), "array columns .* objects are not read, as they could run code"),
        (np.arange(4), "array columns .* has to name the columns of the hit list; text expected"),
        (np.array(["event", "y", "x"]), "neither 1-D arrays|with 3 columns"),
        (np.array([b"event", b"\xff", b"x", b"t"]), "names that are not UTF-8"),
    ],
)
def test_npz_column_names_that_cannot_be_read_are_refused(tmp_path, columns, expected):
    np.savez(tmp_path / "a.npz", hits=HITS[:, [0, 2, 1, 3]], columns=columns)
    assert_refused(tmp_path / "a.npz", expected, detector=WHOLE)


def test_npz_column_named_columns_beside_1d_arrays_is_a_column(tmp_path):
    event, x, y, t = HITS.T
    np.savez(tmp_path / "a.npz", event=event, x=x, y=y, t=t, columns=np.arange(4.0))
    assert read(tmp_path / "a.npz", detector=WHOLE).hit_columns["columns"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("window_ns", "n_t"), [(25.0, 1000), (12.5, 1000), (10.0, 3), (7.0, 1000), (100.0, 32767)])
def test_physical_time_on_an_edge_begins_its_bin(dtype, window_ns, n_t):
    detector = Detector(n_t=n_t, window_ns=window_ns)
    number = np.arange(n_t)
    times = (number * (window_ns / n_t)).astype(dtype)
    ones = np.ones(n_t, dtype)
    found, is_inside = in_pixels({"x": ones, "y": ones, "t": times}, detector=detector, origin="edge")
    assert is_inside.all()
    np.testing.assert_array_equal(found["t"], number + 1)


@given(st.integers(1, 999), st.floats(0.01, 0.99))
def test_physical_time_a_clear_part_below_an_edge_stays_below(number, part):
    time = np.array([(number - part) * 0.025], np.float32)
    one = np.ones(1, np.float32)
    found, _ = in_pixels({"x": one, "y": one, "t": time}, detector=WHOLE, origin="edge")
    assert found["t"] == number


def test_physical_places_on_edges_of_any_detector_begin_their_pixel():
    detector = Detector(n_x=66, n_y=113, width_mm=655.3, height_mm=53.7)
    x, y = (np.arange(n) * np.float32(length / n) for n, length in ((66, 655.3), (113, 53.7)))
    for column, other, n in (("x", "y", 66), ("y", "x", 113)):
        values = (x if column == "x" else y).astype(np.float32)
        columns = {column: values, other: np.ones(n, np.float32), "t": np.ones(n)}
        found, _ = in_pixels(columns, detector=detector, origin="edge")
        np.testing.assert_array_equal(found[column], np.arange(n))


def test_physical_times_of_a_25_ps_tdc_in_a_file(tmp_path):
    with h5py.File(tmp_path / "tdc.h5", "w") as file:
        file["event"] = np.arange(1000)
        file["t"] = (np.arange(1000) * 0.025).astype(np.float32)
        file["x"] = file["y"] = np.ones(1000, np.float32)
    events = read(tmp_path / "tdc.h5", detector=WHOLE, units="physical")
    np.testing.assert_array_equal(events.hits[:, 2], np.arange(1, 1001))


@pytest.mark.parametrize("name", ["tntuple.root", "table_f4.npz"])
def test_float_event_numbers_that_merge_are_refused(name):
    assert_refused(CASES / name, "event = 167772.*float32 cannot tell numbers above that apart", detector=WHOLE)


@pytest.mark.parametrize(("dtype", "limit"), [("f2", 2**11 - 1), ("f4", 2**24 - 1), ("f8", 2**53 - 1)])
@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_float_event_numbers_up_to_the_limit_of_their_type(tmp_path, dtype, limit, ending):
    path = tmp_path / f"a{ending}"

    def save(event):
        columns = {"event": np.array([event], dtype), **dict.fromkeys("xyt", np.ones(1, "i2"))}
        if ending == ".npz":
            np.savez(path, **columns)
        else:
            with h5py.File(path, "w") as file:
                for name, values in columns.items():
                    file[name] = values

    save(limit)
    assert read(path).event_columns["event"].tolist() == [limit]
    save(limit + 1)
    assert_refused(path, f"event = {limit + 1}; whole numbers from 0 to {limit} allowed; float")


@pytest.mark.parametrize(
    ("tree", "events"), [("events;1", [0, 1]), ("events;2", [100, 101, 102, 103]), ("events", [100, 101, 102, 103])]
)
def test_root_cycle_that_was_asked_for_is_read(tree, events):
    found = read(CASES / "cycles.root", detector=WHOLE, tree=tree)
    assert found.event_columns["event"].tolist() == events
    assert read(CASES / "cycles.root", detector=WHOLE).event_columns["event"].tolist() == [100, 101, 102, 103]


def test_root_cycle_that_is_not_there_is_refused():
    assert_refused(CASES / "cycles.root", "no tree 'events;7'; it has events;1, events;2", tree="events;7")
    assert_refused(CASES / "cycles.root", "no tree 'event;1'; it has events", tree="event;1")


def test_root_column_called_hits_is_written(tmp_path):
    (events,) = read_events(CASES / "column_hits.npz", detector=WHOLE)
    write(tmp_path / "out.root", events)
    back = read(tmp_path / "out.root", detector=WHOLE)
    np.testing.assert_array_equal(back.hits, events.hits)
    np.testing.assert_array_equal(back.hit_columns["hits"], events.hit_columns["hits"])


@pytest.mark.parametrize("names", [("hits",), ("tracks",), ("n_hits", "hits", "hits_"), ("n_hits_", "n_tracks")])
def test_root_columns_with_names_of_counters_are_written(tmp_path, names):
    columns = {name: np.arange(3.0) for name in names}
    events = next(read_events(CASES / "column_hits.npz", detector=WHOLE))._replace(hit_columns=columns)
    write(tmp_path / "out.root", events)
    back = read(tmp_path / "out.root", detector=WHOLE)
    assert {name: values.tolist() for name, values in back.hit_columns.items()} == {name: [0, 1, 2] for name in names}


def test_pt_uint16_images_are_read():
    assert rows_of(read(CASES / "uint16.pt", detector=WHOLE)).tolist() == [[0, 4, 3, 7], [1, 87, 127, 1000]]


def test_h5_enum_column_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events = read(CASES / "enum.h5", detector=WHOLE)
        write(tmp_path / "out.npz", events)
    (values,) = events.hit_columns.values()
    assert values.dtype == np.int8 and values.dtype.metadata is None
    assert values.tolist() == [0, 1, 0]


def run(*command, **environment):
    """Run Python with other variables in the environment; None removes one."""
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    known = {name: value for name, value in known.items() if environment.get(name, "") is not None}
    known |= {name: value for name, value in environment.items() if value is not None}
    return subprocess.run([sys.executable, *command], env=known, capture_output=True, text=True, check=False)


def test_backend_of_a_notebook_that_is_not_installed_is_ignored(tmp_path):
    (tmp_path / "hits.csv").write_text("event,x,y,t\n0,1,2,3\n")
    code = "import sys; from tofae_jax.cli import app; app.main(sys.argv[1:]); import tofae_jax.plots"
    answer = run(
        "-c",
        code,
        "convert",
        str(tmp_path / "hits.csv"),
        str(tmp_path / "d"),
        MPLBACKEND="module://no_such_package.backend_inline",
    )
    assert (answer.returncode, answer.stderr) == (0, ""), answer
    assert answer.stdout.startswith("1 events, 1 hits")


def test_process_without_home_keeps_programs_in_the_temporary_folder(tmp_path):
    code = (
        "import pathlib, jax; from tofae_jax.engine import process\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = home; process.use_compilation_cache(); print(jax.config.jax_compilation_cache_dir)"
    )
    answer = run("-c", code, XDG_CACHE_HOME=None, JAX_COMPILATION_CACHE_DIR=None, TMPDIR=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(tmp_path))


def test_csv_big_integers_are_read_exactly():
    ids = read(CASES / "u64.csv", detector=WHOLE).hit_columns["geometry_id"]
    assert ids.tolist() == [9295429630892703745, 9295429630892703746, 9295429630892703999]
    orbits = read(CASES / "u64_event_column.csv", detector=WHOLE).event_columns["orbit"]
    assert orbits.tolist() == [2**64 - 1, 2**64 - 2]
    assert ids.dtype == orbits.dtype == np.uint64


@pytest.mark.parametrize("name", ["i64_nan.csv", "i64_mixed.csv"])
def test_csv_big_integers_among_floats_are_refused_with_the_line(name):
    assert_refused(CASES / name, r"line \d+: \w+ = \d+ cannot be held exactly in a column of floats", detector=WHOLE)


def test_csv_big_integers_survive_the_way_through_text(tmp_path):
    events = read(CASES / "u64.csv", detector=WHOLE)
    back = read(write(tmp_path / "a.csv", events), detector=WHOLE)
    for name, values in events.hit_columns.items():
        np.testing.assert_array_equal(back.hit_columns[name], values)
        assert back.hit_columns[name].dtype == values.dtype
