"""HDF5 files of other programs, and ours."""

from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from hit_files import COUNTS, ROWS, assert_refused, columns_of, read, rows_of, write  # noqa: E402

from tofae_jax.data.events import Events  # noqa: E402
from tofae_jax.data.files.tables import Reading  # noqa: E402

OFFSETS = np.append(0, np.cumsum(COUNTS))
HITS = {name: ROWS[:, axis + 1] for axis, name in enumerate("xyt")}
RECORDS = np.dtype([("event", "<i8"), ("x", "<i2"), ("y", ">i4"), ("t", "<f4"), ("score", ">f4"), ("name", "S3")])


def write_group(path: Path, group: str = "/", **datasets) -> Path:
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            file[f"{group}/{name}"] = values
    return path


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (2,), "compression": "gzip"}, {"chunks": (4,), "compression": "lzf"}]
)
def test_open_table_records_are_rows(tmp_path, options):
    records = np.zeros(6, RECORDS)
    for name, values in columns_of(ROWS).items():
        records[name] = values
    records["score"] = np.arange(6) / 8
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("deep/hits", data=records, **options)
    events = read(tmp_path / "a.hdf5", chunk_hits=3)
    assert np.array_equal(rows_of(events), ROWS)
    assert {name: values.dtype.str for name, values in events.hit_columns.items()} == {"score": "<f4"}
    assert events.hit_columns["score"].tolist() == (np.arange(6) / 8).tolist()
    assert_refused(tmp_path / "a.hdf5", "group deep/hits: no column 'z' for x; it has event, x, y", columns={"x": "z"})


def test_open_table_group_is_chosen_by_name(tmp_path):
    path = write_group(tmp_path / "a.h5", "one", **columns_of(ROWS))
    assert np.array_equal(rows_of(read(path)), ROWS)
    write_group(path, "deep/two", **columns_of(ROWS[:3]))
    assert_refused(path, "2 groups of datasets; choose one with --tree: deep/two, one")
    assert_refused(path, "no group 'three' with 1-D datasets; it has deep/two, one", tree="three")
    assert_refused(path, "no group 'deep' with 1-D datasets; it has", tree="deep")
    for name in ("deep/two", "/deep/two/"):
        assert np.array_equal(rows_of(read(path, tree=name)), ROWS[:3])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = np.zeros((3, 5))
    assert_refused(tmp_path / "b.h5", "no group with 1-D datasets, and no dataset of records")


def test_open_table_lengths_decide_hit_or_event(tmp_path):
    path = write_group(
        tmp_path / "a.h5",
        **HITS,
        offsets=OFFSETS,
        event=[2, 5, 9],
        score=np.arange(6.0),
        weight=[1, 2, 3],
        other=[1, 2],
    )
    for chunk_hits in (1, 3, 1000):
        events = read(path, chunk_hits=chunk_hits)
        assert np.array_equal(rows_of(events), ROWS)
        assert list(events.hit_columns) == ["score"]
        assert events.event_columns["weight"].tolist() == [1, 2, 3]
        assert "other" not in events.event_columns
    path = write_group(tmp_path / "b.h5", **columns_of(ROWS), offsets=OFFSETS)
    assert np.array_equal(rows_of(read(path)), ROWS)
    assert_refused(path, "column offsets is of type int64 and has 4 values, not 6", further=["offsets"])


def test_write_as_many_events_as_hits_are_read_back(tmp_path):
    """Then lengths do not tell, but what we write says it."""
    events = Events(
        np.ones((3, 3), np.int16),
        np.array([0, 0, 3, 3]),
        {"score": np.arange(3.0)},
        {"event": np.arange(3), "p": np.ones(3)},
    )
    found = read(write(tmp_path / "a.h5", events))
    assert list(found.hit_columns) == ["score"]
    assert sorted(found.event_columns) == ["event", "p"]
    assert found.counts.tolist() == [0, 3, 0]


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 2, 3, 5], "dataset offsets has to rise from 0 to 6"),
        ([1, 2, 3, 6], "dataset offsets has to rise"),
        ([0, 3, 2, 6], "dataset offsets has to rise"),
        ([0, 2, 99, 6], "dataset offsets has to rise"),
        ([0.0, 2.0, 3.0, 6.0], r"dataset offsets is of float64\[4\]; offsets are integers, one or more"),
        (np.zeros(0, int), r"dataset offsets is of int64\[0\]"),
    ],
)
def test_open_table_bad_offsets_raise(tmp_path, offsets, words):
    assert_refused(write_group(tmp_path / "a.h5", **HITS, offsets=offsets), words)


def test_open_table_wrong_types_and_lengths_raise(tmp_path):
    path = write_group(tmp_path / "a.h5", **{**columns_of(ROWS), "y": np.array([b"a"] * 6)})
    assert_refused(path, r"column y is of type \|S1; integers or floats expected")
    path = write_group(tmp_path / "b.h5", **{**columns_of(ROWS), "y": ROWS[:4, 2]})
    assert_refused(path, "column y is of type int64 and has 4 values, not 6 as there are hits")
    path = write_group(tmp_path / "c.h5", **columns_of(ROWS), note=np.array([b"a"] * 6), flag=ROWS[:, 1] > 0)
    assert list(read(path).hit_columns) == ["flag"]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name, values in HITS.items():
            ragged = file.create_dataset(name, (3,), h5py.vlen_dtype(np.int32))
            for row in range(3):
                ragged[row] = values[:row]
    events = read(tmp_path / "d.h5")
    assert events.counts.tolist() == [0, 1, 2]
    assert events.event_columns["event"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(events.hits[1:], np.stack([HITS[name][:2] for name in "xyt"], axis=1))


def test_open_table_links_are_not_followed(tmp_path):
    write_group(tmp_path / "other.h5", **columns_of(ROWS))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in columns_of(ROWS):
            file[name] = h5py.ExternalLink("other.h5", name)
    assert_refused(tmp_path / "a.h5", "no group with 1-D datasets")


def test_write_group_is_plain(tmp_path):
    events = Events(
        ROWS[:, 1:].astype(np.int16), OFFSETS, {"score": np.zeros(6, np.float32)}, {"event": np.array([2, 5, 9])}
    )
    with h5py.File(write(tmp_path / "a.h5", events)) as file:
        group = file["events"]
        assert sorted(group) == ["event", "offsets", "score", "t", "x", "y"]
        assert group["offsets"][:].tolist() == OFFSETS.tolist()
        assert group["x"].dtype == np.int16
        assert group["event"].attrs["per"] == "event"
        assert group["score"].compression == "gzip"
    for name in ("offsets", "track_offsets"):
        with pytest.raises(ValueError, match=f"column '{name}' cannot be written to HDF5 under this name"):
            write(tmp_path / "b.h5", events._replace(hit_columns={name: np.zeros(6)}))
    assert not (tmp_path / "b.h5").exists()


@pytest.mark.parametrize("columns", [columns_of(ROWS), {**HITS, "event": [2, 5, 9], "offsets": OFFSETS}])
def test_open_table_what_is_no_column_is_left_out_and_said(tmp_path, columns):
    n_rows = len(columns["event"])
    path = write_group(tmp_path / "a.h5", **columns, label=["a"] * n_rows, wave=np.zeros((6, 5)), version=3)
    with h5py.File(path, "a") as file:
        file["alias"] = h5py.SoftLink("x")
    reading = Reading()
    assert np.array_equal(rows_of(read(path, reading=reading)), ROWS)
    assert sorted(reading.left_out) == ["alias", "label", "version", "wave"]
    assert reading.left_out["wave"] == "float64[6, 5]"


def test_open_table_offsets_beside_renamed_event_numbers_of_hits_are_an_index(tmp_path):
    columns = columns_of(ROWS)
    path = write_group(tmp_path / "a.h5", evt=columns.pop("event"), **columns, offsets=OFFSETS)
    assert np.array_equal(rows_of(read(path, columns={"event": "evt"})), ROWS)
