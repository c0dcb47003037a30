"""Which files are read, with which options, and what happens to damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from hit_files import CSV_ROWS, ROWS, SMALL, assert_refused, lists_file, read, rows_of, some_events, write
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import bundle, tensor_pickle

from tofae_jax.data.events import DataError
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import readable_endings
from tofae_jax.data.files.units import check_units


@pytest.mark.parametrize("ending", readable_endings())
def test_read_events_missing_empty_or_folder_raises(tmp_path, ending):
    assert_refused(tmp_path / f"missing{ending}", "does not exist")
    (tmp_path / f"empty{ending}").touch()
    assert_refused(tmp_path / f"empty{ending}", "is empty")
    (tmp_path / f"folder{ending}").mkdir()
    assert_refused(tmp_path / f"folder{ending}", "is a folder without dataset.json and without files to read")


def test_read_events_unknown_ending_or_option_raises(tmp_path):
    assert_refused(tmp_path / "hits.dat", r"unknown ending '\.dat'; known are \.csv, .*\.npz, \.npy, \.pt, \.root")
    assert_refused(tmp_path / "hits.csv", "only .npz files have named arrays", array="rdt")
    with pytest.raises(ValueError, match="chunk_hits must be at least 1, got 0"):
        read_events(tmp_path / "hits.csv", detector=SMALL, chunk_hits=0)


def test_read_events_option_of_another_format_raises(tmp_path):
    table = lists_file(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("event,x,y,t\n1,1,1,1\n")
    assert_refused(table, "tree 'a' chosen, but only .root, .h5, .hdf5 files have trees or groups", tree="a")
    assert_refused(table, "array 'a' chosen, but only .npz", array="a")
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 4), np.int16))
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 3, 4), np.int16))
    for options in ({"units": "physical"}, {"columns": {"x": "px"}}, {"further": []}):
        assert_refused(tmp_path / "a.npy", "columns and units can be chosen for .csv, .tsv", **options)
        assert_refused(tmp_path / "a.npz", "holds images: columns and units can be chosen for hit lists", **options)
    assert_refused(table, "a decimal comma can be said for .csv, .tsv", decimal=",")
    with pytest.raises(ValueError, match="units = 'cm': pixels or physical allowed"):
        check_units("cm", "edge")
    with pytest.raises(ValueError, match="origin = 'centre': only for units 'physical'"):
        read(table, origin="centre")


def test_read_events_ending_in_capitals_is_known(tmp_path):
    path = tmp_path / "HITS.CSV"
    path.write_text("event,x,y,t\n" + CSV_ROWS)
    assert np.array_equal(rows_of(read(path)), ROWS)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt", ".csv"])
def test_read_events_content_of_another_format_raises(tmp_path, ending):
    path = tmp_path / f"file{ending}"
    path.write_bytes(b"\x93not at all\n" * 20 if ending == ".csv" else b"event,x,y,t\n1,2,3,4\n" * 20)
    assert_refused(path, "cut|damaged|not text")


def image_file(folder: Path, ending: str) -> Path:
    images = np.zeros((50, 3, 4), np.float32)
    images[:, 1, 2] = np.arange(50) % 10 + 1
    path = folder / f"images{ending}"
    if ending == ".npy":
        np.save(path, images)
    elif ending == ".npz":
        np.savez_compressed(path, images=np.concatenate([images] * 20))
    else:
        path.write_bytes(bundle(tensor_pickle("FloatStorage", images.shape), {"0": images.tobytes()}))
    return path


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt"])
def test_read_events_images_cut_anywhere_raise(tmp_path, ending):
    path = image_file(tmp_path, ending)
    content = path.read_bytes()
    assert read(path).n_hits % 50 == 0
    for length in np.linspace(1, len(content) - 1, 23).astype(int):
        path.write_bytes(content[:length])
        assert_refused(path, "cut|damaged|is cut|bytes")


@pytest.mark.parametrize("ending", [".npz", ".pt"])
def test_read_events_images_changed_byte_raises(tmp_path, ending):
    path = image_file(tmp_path, ending)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    assert_refused(path, "cut|damaged|images of|tensor|images")


@pytest.mark.parametrize("kind", [".parquet", ".h5", ".npz"])
def test_read_events_table_changed_byte_raises(tmp_path, kind):
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


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".npy", ".npz", ".pt"]), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
def test_read_events_any_damage_reads_or_raises(tmp_path_factory, ending, changes):
    path = image_file(tmp_path_factory.mktemp("damage"), ending)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        read(path)
    except DataError as error:
        assert "\n" not in str(error)
