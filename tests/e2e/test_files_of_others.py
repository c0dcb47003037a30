"""Files as other programs write them are read without edits, and outputs speak the language of their inputs."""

import json
from pathlib import Path

import awkward
import h5py
import numpy as np
import pyarrow
import pytest
import uproot
from hit_files import CSV_ROWS, ROWS, SMALL, WRITTEN, assert_refused, read, rows_of, run_command
from places import REFERENCE
from pyarrow import feather, parquet

from tofae_jax.data.dataset import Dataset
from tofae_jax.data.files.proposal import guess
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Reading

D = ("--detector.n-x", 4, "--detector.n-y", 3, "--detector.n-t", 10)
D += ("--detector.width-mm", 8, "--detector.height-mm", 6, "--detector.window-ns", 5)
PHYSICAL = {
    "evt": ROWS[:, 0].astype(np.uint32),
    "posX": ROWS[:, 1] * 2.0 + 0.1 - 4.0,
    "toa": (ROWS[:, 3] * 0.5 - 0.3).astype(np.float32),
    "posY": ROWS[:, 2] * 2.0 + 1.0 - 3.0,
    "track": np.arange(6, dtype=np.int16),
    "score": np.linspace(-1, 1, 6),
}
"""the hits of `ROWS` in mm and ns from the centre, under names and with columns of their own"""
OPTIONS = ("--columns.event", "evt", "--columns.x", "posX", "--columns.y", "posY", "--columns.t", "toa")
OPTIONS += ("--units", "physical", "--origin", "centre")
READING = {
    "columns": {"event": "evt", "x": "posX", "y": "posY", "t": "toa"},
    "units": "physical",
    "origin": "centre",
    "detector": SMALL,
}


def write_flat(path, columns):
    """A table of one row per hit, as the users of each format write it."""
    if path.suffix == ".csv":
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        path.write_text(",".join(columns) + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    elif path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".root":
        with uproot.recreate(path) as file:
            file["raw"] = columns
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".arrow":
        feather.write_feather(pyarrow.table(columns), path, compression="uncompressed")
    else:
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[f"raw/{name}"] = values
    return path


def lists_of(columns):
    """The same as an awkward array of one entry per event."""
    counts = [2, 1, 3]
    offsets = np.append(0, np.cumsum(counts))
    firsts = offsets[:-1]
    return {
        name: values[firsts] if name == "evt" else awkward.unflatten(values, counts) for name, values in columns.items()
    }


def columns_in(path):
    """The columns of a file in order, flat, by the format's own library."""
    if path.suffix == ".root":
        with uproot.open(path) as file:
            (name,) = {key.partition(";")[0] for key in file.keys()}  # noqa: SIM118
            found = file[name].arrays(library="ak")
            return name, {key: awkward.to_numpy(awkward.flatten(found[key], axis=None)) for key in found.fields}
    if path.suffix in (".parquet", ".arrow"):
        table = (parquet.read_table if path.suffix == ".parquet" else feather.read_table)(path)
        columns = {key: table[key].combine_chunks() for key in table.column_names}
        flat = {
            key: values.flatten() if pyarrow.types.is_list(values.type) else values for key, values in columns.items()
        }
        return "", {key: values.to_numpy(zero_copy_only=False) for key, values in flat.items()}
    if path.suffix == ".npz":
        with np.load(path) as file:
            return "", dict(file)
    if path.suffix == ".csv":
        names = path.read_text().splitlines()[0].split(",")
        return "", dict(zip(names, np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T, strict=True))
    with h5py.File(path) as file:
        (group,) = file
        return group, {key: file[group][key][:] for key in file[group]}


@pytest.mark.parametrize("ending", [".csv", ".npz", *WRITTEN])
@pytest.mark.parametrize("source", [".csv", ".npz", *WRITTEN])
def test_convert_between_files_keeps_names_units_and_values(tmp_path, capsys, source, ending):
    path = write_flat(tmp_path / f"a{source}", PHYSICAL)
    assert run_command(capsys, "convert", path, tmp_path / f"b{ending}", *OPTIONS, *D)[0] == 0
    _, found = columns_in(tmp_path / f"b{ending}")
    assert {name for name in found if not name.startswith("event.")} == set(PHYSICAL)
    for name, values in PHYSICAL.items():
        np.testing.assert_array_equal(found[name].astype(values.dtype), values)
        if ".csv" not in (source, ending):
            assert found[name].dtype.kind == values.dtype.kind
    again = read(tmp_path / f"b{ending}", **READING)
    np.testing.assert_array_equal(rows_of(again), ROWS)


@pytest.mark.parametrize("ending", WRITTEN)
def test_convert_keeps_the_layout_order_and_name_of_the_table(tmp_path, capsys, ending):
    flat = write_flat(tmp_path / f"flat{ending}", PHYSICAL)
    run_command(capsys, "convert", flat, tmp_path / f"a{ending}", *OPTIONS, *D)
    about = Reading()
    list(read_events(tmp_path / f"a{ending}", reading=about, **READING))
    assert about.layout.is_list is False
    table, columns = columns_in(tmp_path / f"a{ending}")
    assert table in ("raw", "")
    assert list(columns) == list(columns_in(flat)[1]) or ending == ".h5"  # which sorts
    lists = tmp_path / f"lists{ending}"
    if ending == ".root":
        with uproot.recreate(lists) as file:
            file["raw"] = lists_of(PHYSICAL)
    elif ending == ".h5":
        with h5py.File(lists, "w") as file:
            for name, values in PHYSICAL.items():
                file[f"raw/{name}"] = values[[0, 2, 3]] if name == "evt" else values
            file["raw/offsets"] = [0, 2, 3, 6]
    else:
        columns = {name: pyarrow.array(awkward.to_list(values)) for name, values in lists_of(PHYSICAL).items()}
        table = pyarrow.table(columns)
        (parquet.write_table if ending == ".parquet" else feather.write_feather)(table, str(lists))
    assert run_command(capsys, "convert", lists, tmp_path / f"b{ending}", *OPTIONS, *D)[0] == 0
    about = Reading()
    (events,) = read_events(tmp_path / f"b{ending}", reading=about, **READING)
    assert about.layout.is_list is True
    np.testing.assert_array_equal(rows_of(events), ROWS)
    np.testing.assert_array_equal(events.hit_columns["track"], PHYSICAL["track"])


def test_convert_output_units_pixels_gives_event_x_y_t(tmp_path, capsys):
    path = write_flat(tmp_path / "a.parquet", PHYSICAL)
    code, _, _ = run_command(capsys, "convert", path, tmp_path / "b.csv", *OPTIONS, *D, "--output-units", "pixels")
    assert code == 0
    assert (tmp_path / "b.csv").read_text().startswith("event,x,y,t,track,score\n2,0,0,1,0,-1.0000")


def test_convert_text_keeps_its_delimiter_and_decimal_comma(tmp_path, capsys):
    text = "evt;posX;posY;toa\n2;-3,5;-2,25;0,25\n"
    (tmp_path / "a.csv").write_text(text)
    assert (
        run_command(capsys, "convert", tmp_path / "a.csv", tmp_path / "b.csv", *OPTIONS, "--decimal", ",", *D)[0] == 0
    )
    header, row = (tmp_path / "b.csv").read_text().split()
    assert header == "evt;posX;posY;toa"
    assert [float(value.replace(",", ".")) for value in row.split(";")] == [2, -3.5, -2.25, 0.25]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".root", ".h5"])
def test_denoise_keeps_the_columns_and_adds_its_own(tmp_path, capsys, ending):
    base = ("train", "--data.source", "simulate", "--data.simulate.events", 60)
    more = ("--train.epochs", 1, "--train.batch", 8, "--degradation.n-signal", 5, "--degradation.n-noise", 5)
    code, out, err = run_command(capsys, *base, *more, *D, "--runs.folder", tmp_path / "runs", "--train.plots", "none")
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    path = write_flat(tmp_path / f"a{ending}", PHYSICAL)
    output = tmp_path / f"out{ending}"
    code, out, err = run_command(capsys, "denoise", run, path, output, *OPTIONS, "--all-hits")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["hits"] == 6
    _, found = columns_in(output)
    assert set(found) == {*PHYSICAL, "score_found", "kept"}
    for name, values in PHYSICAL.items():
        np.testing.assert_array_equal(found[name].astype(values.dtype), values)


# Keys of several columns, and several files

RUNS = {
    "run": np.array([1, 1, 1, 2, 2, 2]),
    "lumi": np.array([7, 7, 7, 7, 7, 8]),
    "event": np.array([5, 5, 6, 6, 6, 7]),
}
HITS = {name: ROWS[:, axis + 1] for axis, name in enumerate("xyt")}


@pytest.mark.parametrize("ending", [".csv", ".npz", *WRITTEN])
def test_events_of_several_runs_are_told_apart_by_keys(tmp_path, capsys, ending):
    path = write_flat(tmp_path / f"a{ending}", {**RUNS, **HITS})
    assert_refused(path, r"event 6 has hits of run 1 and 2; .* --columns.event run,event")
    events = read(path, columns={"event": "run,lumi,event"})
    assert events.counts.tolist() == [2, 1, 2, 1]
    assert events.event_columns["event"].tolist() == [0, 1, 2, 3]
    assert events.event_columns["key.run"].tolist() == [1, 1, 2, 2]
    assert events.event_columns["key.event"].tolist() == [5, 6, 6, 7]
    words = ("--columns.event", "run,lumi,event", *D)
    assert run_command(capsys, "convert", path, tmp_path / "d", *words)[0] == 0
    for target in (tmp_path / f"b{ending}", tmp_path / f"c{ending}"):  # from the dataset, and from the file
        source = (tmp_path / "d",) if target.stem == "b" else (path, *words)
        assert run_command(capsys, "convert", source[0], target, *source[1:])[0] == 0
        again = read(target, columns={"event": "run,lumi,event"})
        np.testing.assert_array_equal(rows_of(again), rows_of(events))
        for name in ("run", "lumi", "event"):
            np.testing.assert_array_equal(again.event_columns[f"key.{name}"], events.event_columns[f"key.{name}"])


def test_keys_that_come_again_are_refused(tmp_path):
    again = {"run": np.array([1, 1, 2, 2, 1, 1]), "event": np.array([5, 6, 5, 6, 6, 7])}
    path = write_flat(tmp_path / "a.npz", {**again, **HITS})
    assert_refused(path, "run 1, event 6 comes after event 6 of the same run", columns={"event": "run,event"})
    falls = {"run": np.array([1, 1, 2, 2, 2, 2]), "event": np.array([5, 6, 1, 2, 3, 4])}
    path = write_flat(tmp_path / "b.npz", {**falls, **HITS})
    assert_refused(path, "event 1 comes after event 6; .* --columns.event run,event")


@pytest.mark.parametrize("ending", [".csv", ".npz", *WRITTEN])
def test_several_files_are_read_as_one(tmp_path, capsys, ending):
    for number, rows in ((2, slice(0, 3)), (10, slice(3, 6))):
        write_flat(tmp_path / f"run{number}{ending}", {"event": ROWS[rows, 0], **{n: v[rows] for n, v in HITS.items()}})
    events = read(tmp_path / f"run*{ending}")
    np.testing.assert_array_equal(rows_of(events), ROWS)
    assert events.hit_columns["file"].tolist() == [0, 0, 0, 1, 1, 1]
    assert run_command(capsys, "convert", tmp_path / f"run*{ending}", tmp_path / "d", *D)[0] == 0
    assert len(Dataset(tmp_path / "d")) == 3
    folder = tmp_path / "again"
    folder.mkdir()
    for name in "ab":
        write_flat(folder / f"{name}{ending}", {"event": ROWS[:, 0], **HITS})
    assert_refused(folder, r"event 2 comes after event 9; .* --columns.event file,event")
    assert read(folder, columns={"event": "file,event"}).n_events == 6
    assert_refused(tmp_path / f"none*{ending}", "no file matches")
    (folder / "c.npy").write_bytes(b"")
    assert_refused(folder, "files of several formats")


def test_event_does_not_go_on_in_the_next_file(tmp_path):
    for name in "ab":
        write_flat(tmp_path / f"{name}.parquet", {"event": np.full(6, 3), **HITS})
    assert_refused(tmp_path / "*.parquet", "event 3 has hits of file 0 and 1; .* --columns.event file,event")


def test_partitioned_folder_gives_its_columns(tmp_path):
    for run in (9, 10):
        folder = tmp_path / "parts" / f"run={run}"
        folder.mkdir(parents=True)
        write_flat(folder / "part-0.parquet", {"event": ROWS[:, 0], **HITS})
    (tmp_path / "parts" / "_SUCCESS").write_text("")
    events = read(tmp_path / "parts", columns={"event": "run,event"})
    assert events.event_columns["key.run"].tolist() == [9, 9, 9, 10, 10, 10]
    other = write_flat(tmp_path / "parts" / "run=9" / "part-1.parquet", {"event": ROWS[:, 0], **HITS, "q": ROWS[:, 0]})
    assert_refused(tmp_path / "parts", "has no column q, which the other files have")
    other.unlink()


# Forms of tables

RECORDS = [[{"x": 0, "y": 0, "t": 1}, {"x": 3, "y": 2, "t": 10}], [], [{"x": 1, "y": 1, "t": 5}]]
OF_RECORDS = [[0, 0, 0, 1], [0, 3, 2, 10], [2, 1, 1, 5]]


def test_lists_of_records_are_read(tmp_path):
    parquet.write_table(pyarrow.table({"hits": RECORDS, "n": [2, 0, 1]}), tmp_path / "a.parquet")
    feather.write_feather(pyarrow.table({"hits": RECORDS}), str(tmp_path / "a.feather"))
    awkward.to_parquet(awkward.Array([{"hits": event} for event in RECORDS]), tmp_path / "b.parquet")
    paths = [tmp_path / name for name in ("a.parquet", "a.feather", "b.parquet", "a.root")]
    with uproot.recreate(tmp_path / "a.root") as file:
        file["t"] = {"hits": awkward.Array(RECORDS)}
    if hasattr(uproot.WritableDirectory, "mkrntuple"):
        with uproot.recreate(tmp_path / "b.root") as file:
            file.mkrntuple("t", {"hits": awkward.Array(RECORDS)})
        paths.append(tmp_path / "b.root")
    for path in paths:
        np.testing.assert_array_equal(rows_of(read(path)), OF_RECORDS)


def test_dictionary_columns_are_read(tmp_path):
    columns = {"event": ROWS[:, 0], **HITS}
    table = pyarrow.table({name: pyarrow.array(values).dictionary_encode() for name, values in columns.items()})
    feather.write_feather(table, str(tmp_path / "a.feather"))
    np.testing.assert_array_equal(rows_of(read(tmp_path / "a.feather")), ROWS)


@pytest.mark.parametrize("name", ["fixed", "table", "columns"])
def test_frames_of_pandas_are_read(name):
    about = Reading()
    events = read(REFERENCE / "frames" / f"{name}.h5", reading=about)
    np.testing.assert_array_equal(rows_of(events), [[2, 0, 0, 1], [2, 3, 2, 10], [5, 1, 1, 5], [9, 1, 1, 6]])
    assert events.hit_columns["q"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert about.left_out == ({} if name == "fixed" else {"det": "|S1"})


def test_hdf5_datasets_of_columns_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["hits"] = ROWS
    np.testing.assert_array_equal(rows_of(read(tmp_path / "a.h5")), ROWS)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["hits"] = np.column_stack([ROWS[:, ::-1], np.arange(6)]).astype(float)
        file["hits"].attrs["columns"] = ["t", "y", "x", "event", "charge"]
    events = read(tmp_path / "b.h5")
    np.testing.assert_array_equal(rows_of(events), ROWS)
    assert events.hit_columns["charge"].tolist() == [0, 1, 2, 3, 4, 5]
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["hits"].attrs["columns"] = "t,y,x"
    assert_refused(tmp_path / "b.h5", "has 5 columns, but its attribute columns says t, y, x")


def test_hdf5_as_many_hits_as_events_asks_what_columns_are_for(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in HITS.items():
            file[name] = values[:2]
        file["event"], file["offsets"], file["energy"] = [3, 8], [0, 0, 2], [0.5, 1.5]
    assert_refused(tmp_path / "a.h5", "dataset energy has 2 values, .* --columns.per hit or --columns.per event")
    assert read(tmp_path / "a.h5", per="hit").hit_columns["energy"].tolist() == [0.5, 1.5]
    assert read(tmp_path / "a.h5", per="event").event_columns["energy"].tolist() == [0.5, 1.5]
    assert read(tmp_path / "a.h5", further=[]).n_events == 2


def test_npz_arrays_of_events_are_never_dropped(tmp_path):
    columns = {"event": ROWS[:, 0], **HITS}
    np.savez(tmp_path / "a.npz", **columns, **{"event.run": np.array([1, 1, 2])})
    assert_refused(tmp_path / "a.npz", r"array event.run int64\[3\] has no array event.event beside it")
    np.savez(tmp_path / "b.npz", **columns, bins=np.arange(3), name=np.array(["a"] * 6))
    about = Reading()
    assert not read(tmp_path / "b.npz", reading=about).hit_columns
    assert about.left_out == {"bins": "int64[3]", "name": "name <U1[6]"}
    images = np.zeros((3, 3, 4), np.int16)
    images[1, 2, 3] = 5
    np.savez(tmp_path / "c.npz", images=images, energy=np.array([0.5, 1.5, 2.5]), event=np.array([4, 6, 9]), odd=ROWS)
    events = read(tmp_path / "c.npz", reading=about, array="images")
    assert events.event_columns["energy"].tolist() == [0.5, 1.5, 2.5]
    assert events.event_columns["event"].tolist() == [4, 6, 9]
    assert about.left_out["odd"] == "int64[6, 4]"


def test_columns_with_odd_names_go_into_a_dataset(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("event,x,y,t,edep[MeV],θ,µ,(a)/b,_ok\n1,1,1,1,1,2,3,4,5\n")
    assert run_command(capsys, "convert", tmp_path / "a.csv", tmp_path / "d", *D)[0] == 0
    assert Dataset(tmp_path / "d").description.hit_columns == ["_ok", "a_b", "edep_MeV", "mu", "theta"]


# Inspect


def test_inspect_file_lists_columns_and_the_options_that_read_it(tmp_path, capsys):
    path = write_flat(tmp_path / "a.root", PHYSICAL)
    code, out, _ = run_command(capsys, "inspect", path)
    assert code == 0
    assert "posX: double" in out
    assert "rows       6, hits 6: posX -3.9 to 2.1" in out
    words = out.splitlines()[-1].partition("options")[2].partition(" (if")[0].split()
    assert words[-2:] == ["--origin", "centre"]
    code, _, err = run_command(capsys, "convert", path, tmp_path / "d", *words, *D)
    assert code == 0, err
    with uproot.update(path) as file:
        file["other"] = {"a": np.arange(3)}
    out = run_command(capsys, "inspect", path)[1]
    assert "--tree raw --columns.event evt" in out
    assert "no column looks like x, y, t: name it with --columns.x NAME" in out
    (tmp_path / "comma.csv").write_text("event;x;y;t\n1;1;2;1,5\n")
    out = run_command(capsys, "inspect", tmp_path / "comma.csv")[1]
    assert "--decimal , --units physical" in out
    out = run_command(capsys, "inspect", tmp_path / "comma.csv", "--decimal", ",")[1]
    assert "--decimal , --units physical" in out
    code, _, err = run_command(capsys, "inspect", tmp_path / "none.csv")
    assert (code, len(err.splitlines())) == (2, 1)
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4), np.int16))
    assert "images       2, 4 x 3 pixels, 24 hits" in run_command(capsys, "inspect", tmp_path / "a.npy", *D)[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["inspect", "a.csv", "--plots", "both"], "a.csv is no dataset, and only of one a figure is drawn"),
        (["inspect", "a.csv", "--plot-file", "a.png"], "a.csv is no dataset, and only of one a figure is drawn"),
        (["inspect", "a.parquet", "--decimal", ","], "a decimal comma can be said for .csv"),
        (
            ["inspect", "d", "--detector.n-x", "9"],
            "d: is a dataset, whose detector has n_x = 4; leave",
        ),
        (["inspect", "d", "--decimal", ","], "d is a dataset, which has no text: --decimal has no effect"),
        (["inspect", "d", "--plots", "none", "--plot-file", "a.png"], "plot_file has no effect with plots none"),
        (
            ["convert", "d", "b.csv", "--detector.window-ns", "250"],
            "whose detector has window_ns = 5.0",
        ),
        (["convert", "d", "b.csv", "--detector.n-x", "9"], "d: is a dataset, whose detector has n_x = 4"),
        (["convert", "a.csv", "b", "--columns.per", "hit", *D], "per 'hit' chosen, but only in .h5, .hdf5 files"),
        (
            ["convert", "a.parquet", "b", "--columns.per", "event", *D],
            "per 'event' chosen, but only in .h5",
        ),
    ],
)
def test_options_without_effect_are_refused(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("event,x,y,t\n" + CSV_ROWS)
    for out in ("d", "a.parquet"):
        assert run_command(capsys, "convert", "a.csv", out, *D)[0] == 0
    code, _, err = run_command(capsys, *words)
    assert (code, reason in err) == (2, True), err
    assert not Path(words[2]).exists() or words[0] == "inspect"


def test_options_that_say_what_a_dataset_says_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("event,x,y,t\n" + CSV_ROWS)
    assert run_command(capsys, "convert", "a.csv", "d", *D)[0] == 0
    assert run_command(capsys, "convert", "d", "b.csv", *D)[0] == 0
    assert run_command(capsys, "inspect", "a.csv", "--plots", "none")[0] == 0


@pytest.mark.parametrize(
    ("name", "columns", "found"),
    [("x", ["Hit_X"], "Hit_X"), ("x", ["px", "x"], "x"), ("t", ["TDC", "ToA"], "ToA"), ("event", ["id"], None)],
)
def test_guess_knows_usual_names(name, columns, found):
    assert guess(name, dict.fromkeys(columns)) == found


def test_text_of_many_forms_goes_through_the_command(tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("event\tx\ty\tt\n" + CSV_ROWS.replace(",", "\t"))
    assert run_command(capsys, "convert", tmp_path / "a.tsv", tmp_path / "d", *D)[0] == 0
    code, _, err = run_command(capsys, "convert", tmp_path / "d", tmp_path / "o.root", "--decimal", ",")
    assert (code, "decimal cannot be chosen" in err) == (2, True)
