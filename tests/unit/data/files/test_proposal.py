"""Options that `inspect` proposes read the file, whatever its form."""

import shlex

import h5py
import numpy as np
import pyarrow
import pytest
from hit_files import CSV_ROWS, ROWS, SMALL, columns_of, lists_of, read, rows_of, run_command, write_npz
from pyarrow import parquet

from tofae_jax.data.files.inspect_file import describe_file
from tofae_jax.data.files.proposal import guess

D = ("--detector.n-x", 4, "--detector.n-y", 3, "--detector.n-t", 10)
OWN = {"evt": ROWS[:, 0], "posX": ROWS[:, 1], "posY": ROWS[:, 2], "toa": ROWS[:, 3]}


def options_of(lines):
    (line,) = (line for line in lines if line.startswith("  options"))
    words = line.removeprefix("  options").partition(" (if")[0].strip()
    return [] if words == "none needed" else shlex.split(words)


def hdf5_file(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def text_file(path, text):
    path.write_text(text)
    return path


def parquet_file(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


def lists(prefix=""):
    return {f"{prefix}{name}": lists_of(ROWS[:, axis + 1]) for axis, name in enumerate("xyt")}


OFFSETS = {"offsets": np.array([0, 2, 3, 6])}
RUNS = "run,event,x,y,t\n" + "".join(f"{run},{event},1,1,5\n" for run in (1, 2) for event in (2, 5, 9))
FILES = {
    "npz_arrays": lambda folder: write_npz(folder / "a.npz", **OWN),
    "hdf5_offsets": lambda folder: hdf5_file(folder / "a.h5", **OWN | {"evt": [2, 5, 9]}, **OFFSETS),
    "hdf5_index": lambda folder: hdf5_file(folder / "a.h5", **OWN, **OFFSETS),
    "hdf5_as_many": lambda folder: hdf5_file(
        folder / "a.h5", **{name: values[::2] for name, values in OWN.items()}, w=[1, 2, 3], offsets=[0, 1, 2, 3]
    ),
    "other_lengths": lambda folder: parquet_file(
        folder / "a.parquet", event=[2, 5, 9], **lists(), jets=[[1.0], [], [2.0, 3.0]], w=[1, 2, 3]
    ),
    "only_other_lengths": lambda folder: parquet_file(
        folder / "a.parquet", event=[2, 5, 9], **lists("hits_"), jets=[[1.0], [], [2.0, 3.0]]
    ),
    "names_to_quote": lambda folder: text_file(
        folder / "a.csv", "event;Hit X;Hit $Y;'Hit T'\n" + CSV_ROWS.replace(",", ";")
    ),
    "decimal_comma": lambda folder: text_file(folder / "a.csv", "event;x;y;t\n2;0,5;0,5;0,1\n"),
    "runs": lambda folder: text_file(folder / "a.csv", RUNS),
    "runs_that_meet": lambda folder: text_file(folder / "a.csv", "run,event,x,y,t\n1,2,0,0,1\n2,2,0,0,1\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_proposed_options_read_the_file(tmp_path, capsys, name):
    path = FILES[name](tmp_path)
    code, out, err = run_command(capsys, "inspect", path, *D)
    assert (code, err) == (0, "")
    assert "problem" not in out
    words = options_of(out.splitlines())
    code, _, err = run_command(capsys, "convert", path, tmp_path / "out.csv", *words, "--output-units", "pixels", *D)
    assert code == 0, err
    if name.startswith("runs"):
        assert words == ["--columns.event", "run,event"]
    elif name != "decimal_comma":
        rows = ROWS[::2] if name == "hdf5_as_many" else ROWS
        assert np.array_equal(rows_of(read(tmp_path / "out.csv")), rows)


def test_proposed_files_that_meet(tmp_path):
    for name in ("a", "b"):
        text_file(tmp_path / f"{name}.csv", "event,x,y,t\n2,0,0,1\n")
    assert options_of(describe_file(tmp_path, detector=SMALL)) == ["--columns.event", "file,event"]


def test_proposed_several_arrays_are_a_choice(tmp_path, capsys):
    images = np.zeros((2, 3, 4), int)
    lines = describe_file(write_npz(tmp_path / "a.npz", a=ROWS, b=ROWS), detector=SMALL)
    assert [line for line in lines if "--array" in line] == ["  options    --array a", "  options    --array b"]
    path = write_npz(tmp_path / "b.npz", a=images, b=images)
    assert "images       a" in describe_file(path, detector=SMALL)
    assert run_command(capsys, "convert", path, tmp_path / "d", "--array", "a", *D)[0] == 0


def test_proposed_options_that_do_not_read_the_file_say_why(tmp_path):
    path = text_file(tmp_path / "a.csv", "event,x,y,t\n5,0,0,1\n2,0,0,1\n")
    lines = describe_file(path, detector=SMALL)
    assert lines[-1].startswith("  problem    with these options: line 3: event 2 comes after event 5; sort the rows")
    lines = describe_file(write_npz(tmp_path / "a.npz", **columns_of(ROWS + 100)), detector=SMALL)
    assert "row 0 (the first is 0): x = 100; whole numbers from 0 to 3 allowed" in lines[-1]
    lines = describe_file(write_npz(tmp_path / "b.npz", **columns_of(ROWS) | {"t": ROWS[:, 3] * 1.0}), detector=SMALL)
    assert lines[-1] == "  outside    5 of 6 hits outside the detector, dropped"
    path = text_file(tmp_path / "b.csv", "event,x,y,t\n5,a,b,1\n")
    assert "x, y: no numbers, so that they cannot be the hits" in describe_file(path, detector=SMALL)[-1]


@pytest.mark.parametrize(
    ("name", "columns", "found"),
    [
        ("x", ["px", "py", "pz"], None),  # momenta
        ("x", ["px", "py"], "px"),
        ("x", ["hits_x"], "hits_x"),
        ("t", ["t [ns]"], "t [ns]"),
        ("y", ["posY_mm"], "posY_mm"),
    ],
)
def test_guess_of_hits(name, columns, found):
    assert guess(name, dict.fromkeys(columns)) == found
