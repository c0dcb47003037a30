"""Datasets on disk: what is written comes back, and damage is named."""

import gc
import json
import os
import shutil
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import DETECTOR, events_of, with_tracks, write_small

from tofae_jax.config.documents import sealed
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import DataError, Events, concatenate, select_hits, slice_events
from tofae_jax.data.inspection import describe, inspect_dataset
from tofae_jax.data.storage import verified


@pytest.mark.backlog("B08", "B33")
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_write_dataset_any_shards_give_the_same_events(tmp_path_factory, counts, shard_events, parts):
    path = tmp_path_factory.mktemp("d") / "set"
    events = events_of(counts)
    cuts = np.array_split(np.arange(len(counts)), parts)
    pieces = [slice_events(events, int(part[0]), int(part[-1]) + 1) for part in cuts if len(part)]
    dataset = write_dataset(path, pieces, detector=DETECTOR, provenance={}, shard_events=shard_events)
    assert len(dataset) == len(counts)
    assert dataset.description.n_hits == sum(counts)
    assert len(dataset.description.shards) == -(-len(counts) // shard_events)
    back = concatenate(dataset.events())
    for name in ("hits", "offsets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(events, name))
    np.testing.assert_array_equal(back.hit_columns["track"], events.hit_columns["track"])
    np.testing.assert_array_equal(back.event_columns["event"], events.event_columns["event"])
    for i in range(len(counts)):
        np.testing.assert_array_equal(
            next(dataset.per_event_hits(np.array([i])))[0], events.hits[events.offsets[i] : events.offsets[i + 1]]
        )
    middle = concatenate(dataset.events(1, len(counts)))
    assert middle.n_events == len(counts) - 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(1, 5))
def test_write_dataset_tracks_stay_with_their_events(tmp_path_factory, counts, shard_events):
    events = with_tracks(events_of([2] * len(counts)), counts)
    path = tmp_path_factory.mktemp("d") / "set"
    write_dataset(path, [events], detector=DETECTOR, provenance={}, shard_events=shard_events)
    dataset = Dataset(path)
    back = concatenate(dataset.events())
    np.testing.assert_array_equal(back.track_offsets, events.track_offsets)
    for name, column in events.track_columns.items():
        np.testing.assert_array_equal(back.track_columns[name], column)
        assert back.track_columns[name].dtype == column.dtype
    last = slice_events(back, len(counts) - 1, len(counts))
    np.testing.assert_array_equal(last.track_columns["type"], np.arange(sum(counts[:-1]), sum(counts)))
    assert select_hits(back, np.zeros(back.n_hits, bool)).track_offsets is back.track_offsets
    assert "tracks: momentum_gev, type" in "\n".join(describe(dataset, inspect_dataset(dataset)))


def test_dataset_damaged_track_offsets_are_named(tmp_path):
    events = with_tracks(events_of([2, 2]), [1, 2])
    write_dataset(tmp_path / "set", [events], detector=DETECTOR, provenance={})
    np.save(tmp_path / "set" / "00000.track_offsets.npy", np.array([0, 2, 1]))
    with pytest.raises(DataError, match=r"track_offsets\.npy: offsets must rise from 0 to 3, got 0 to 1, falling"):
        Dataset(tmp_path / "set", verify=False).shard(0)


def test_dataset_first_schema_version_is_read(tmp_path):
    events, _ = write_small(tmp_path / "set", [3, 4])
    file = tmp_path / "set" / "dataset.json"
    tree = json.loads(file.read_text())
    tree["schema_version"] = 1
    del tree["track_columns"]
    for shard in tree["shards"]:
        del shard["n_tracks"]
    del tree["checksum"]
    file.write_text(json.dumps(tree))
    back = concatenate(Dataset(tmp_path / "set").events())
    assert back.track_offsets is None
    np.testing.assert_array_equal(back.hits, events.hits)


def test_dataset_hits_are_memory_mapped(tmp_path):
    _, dataset = write_small(tmp_path / "set", [3, 4])
    hits = dataset.shard(0).hits
    assert isinstance(hits.base, np.memmap) or isinstance(hits.base.base, np.memmap)
    assert not hits.flags.writeable


def test_write_dataset_failure_leaves_nothing(tmp_path):
    bad = events_of([2])
    bad.hits[1] = (7, 0, 1)
    with pytest.raises(DataError, match=r"x=7 y=0 t=1 outside the detector: x 0\.\.6"):
        write_dataset(tmp_path / "set", [events_of([3]), bad], detector=DETECTOR, provenance={})
    with pytest.raises(DataError, match="no events"):
        write_dataset(tmp_path / "set", [], detector=DETECTOR, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_write_dataset_existing_path_is_not_replaced(tmp_path):
    write_small(tmp_path / "set", [1])
    with pytest.raises(DataError, match="exists already; give another name, or --overwrite"):
        write_small(tmp_path / "set", [2])
    _, dataset = write_small(tmp_path / "set", [2, 2], overwrite=True)
    assert len(dataset) == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="exists already and is no dataset; give another name"):
        write_small(tmp_path / "other", [2], overwrite=True)
    (tmp_path / "set" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"exists already and holds 'notes\.txt', which is not part of a dataset; give"):
        write_small(tmp_path / "set", [3], overwrite=True)
    assert len(Dataset(tmp_path / "set")) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "set"]


def edit(path, change):
    text = json.loads((path / "dataset.json").read_text())
    change(text)
    (path / "dataset.json").write_text(json.dumps(sealed({k: v for k, v in text.items() if k != "checksum"})))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "dataset.json").unlink(), "not a dataset"),
        (lambda p: (p / "dataset.json").write_text("{"), "damaged"),
        (lambda p: (p / "dataset.json").write_text("[]"), "damaged"),
        (lambda p: edit(p, lambda d: d.update(schema_version=99)), "newer than this package"),
        (lambda p: edit(p, lambda d: d.pop("detector")), "missing required field `detector`"),
        (lambda p: edit(p, lambda d: d.update(n_events=5)), "says 5 events"),
        (lambda p: (p / "00000.hits.npy").unlink(), "missing"),
        (lambda p: (p / "00000.hits.npy").write_bytes((p / "00000.hits.npy").read_bytes()[:-3]), "cut short"),
        (lambda p: np.save(p / "00000.hits.npy", np.zeros((2, 3), np.int16)), "the description says"),
        (lambda p: np.save(p / "00000.offsets.npy", np.array([0, 9, 5, 7])), "offsets must rise"),
        (lambda p: np.save(p / "00000.hits.npy", np.ones((7, 3), np.int32)), "int16 expected"),
        (lambda p: edit(p, lambda d: d["hit_columns"].append("../x")), "column '../x'"),
        (lambda p: np.save(p / "00000.offsets.npy", np.array([{}] * 4), allow_pickle=True), "damaged"),
    ],
)
def test_dataset_damage_is_named(tmp_path, damage, message):
    write_small(tmp_path / "set", [3, 0, 4])
    damage(tmp_path / "set")
    with pytest.raises(DataError, match=message) as caught:
        Dataset(tmp_path / "set", verify=False).shard(0)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        Dataset(tmp_path / "set").shard(0)


def test_dataset_any_flipped_bit_is_found(tmp_path):
    """Of the arrays by their checksums, of the description by its own; spaces between words have no effect."""
    write_small(tmp_path / "set", [3, 0, 4])
    rng = np.random.default_rng(0)
    whole = Dataset(tmp_path / "set")
    for path in sorted((tmp_path / "set").iterdir()):
        before = path.read_bytes()
        for place in rng.integers(0, len(before), 40):
            damaged = bytearray(before)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            try:
                found = Dataset(tmp_path / "set")
                found.shard(0)
            except DataError as error:
                assert str(path) in str(error)
            else:
                assert path.suffix == ".json" and found.description == whole.description
        path.write_bytes(before)
    Dataset(tmp_path / "set").shard(0)


def test_dataset_verified_files_are_not_read_again(tmp_path, monkeypatch):
    """What was verified, or has just been written, is known by its size and time stamps."""
    read = []
    usual = verified.file_checksum
    monkeypatch.setattr(verified, "file_checksum", lambda path: read.append(path.name) or usual(path))
    write_small(tmp_path / "set", [3, 0, 4])
    Dataset(tmp_path / "set").shard(0)
    assert read == []
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    for _ in range(2):
        Dataset(tmp_path / "copy").shard(0)
    n_files = len(list((tmp_path / "copy").glob("*.npy")))
    assert len(read) == n_files
    hits = tmp_path / "copy" / "00000.hits.npy"
    times = hits.stat()
    hits.write_bytes(hits.read_bytes()[:-1] + b"\2")
    os.utime(hits, ns=(times.st_atime_ns, times.st_mtime_ns))  # as some copies do; the time of change tells
    with pytest.raises(DataError, match=r"00000\.hits\.npy: damaged or changed: its checksum is not"):
        Dataset(tmp_path / "copy").shard(0)
    assert len(read) == n_files + 1
    edit(tmp_path / "copy", lambda tree: tree["detector"].update(n_t=1000))
    Dataset(tmp_path / "copy", verify=False).shard(0)
    monkeypatch.setenv("TOFAE_JAX_VERIFY", "0")
    Dataset(tmp_path / "copy").shard(0)


def test_dataset_damaged_or_unwritable_memory_is_no_trouble(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_small(tmp_path / "set", [3, 0, 4])
    [memory] = (tmp_path / "cache").rglob("*.json")
    for content in (b"", b"{", b"[]", b'{"files": 3}', b"[" * 10**5):
        memory.write_bytes(content)
        assert Dataset(tmp_path / "set").shard(0).n_hits == 7
        assert json.loads(memory.read_bytes())["files"].keys() == {p.name for p in (tmp_path / "set").glob("*.npy")}
    monkeypatch.setenv("XDG_CACHE_HOME", str(memory))
    assert Dataset(tmp_path / "set").shard(0).n_hits == 7


def test_dataset_without_recorded_checksums(tmp_path):
    """As other programs may write it: its fingerprint is that of the bytes, and inspect does not call it whole."""
    write_small(tmp_path / "set", [3, 0, 4])
    edit(tmp_path / "set", lambda tree: [shard.update(sha256={}) for shard in tree["shards"]])
    dataset = Dataset(tmp_path / "set")
    dataset.shard(0)
    before = dataset.fingerprint
    problems = inspect_dataset(dataset).problems
    assert len(problems) == len(dataset.files_of_shard(0)) and "has no recorded checksum" in problems[0]
    np.save(tmp_path / "set" / "00000.hits.npy", np.ones((7, 3), np.int16))
    assert Dataset(tmp_path / "set").fingerprint != before


@pytest.mark.parametrize("name", ["../other/x.npy", "/etc/passwd", "..", "a/b.npy", ""])
def test_dataset_checksums_of_files_elsewhere_are_refused(tmp_path, name):
    write_small(tmp_path / "set", [3, 0, 4])
    edit(tmp_path / "set", lambda tree: tree["shards"][0]["sha256"].update({name: "0" * 64}))
    with pytest.raises(DataError, match="which is not in its folder"):
        Dataset(tmp_path / "set")


def test_dataset_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no such dataset"):
        Dataset(tmp_path / "nothing")


@pytest.mark.backlog("B09")
def test_dataset_reading_all_events_holds_no_copy(tmp_path):
    n_events, n_hits = 200, 1500  # 1.8 MB; the index and NumPy's modules hold 50 kB
    hits = np.random.default_rng(0).integers(1, 6, (n_events * n_hits, 3)).astype(np.int16)
    events = Events(hits, np.arange(0, n_events * n_hits + 1, n_hits))
    detector = Detector(n_x=6, n_y=6, n_t=6)
    write_dataset(tmp_path / "set", [events], detector=detector, provenance={}, shard_events=20)
    tracemalloc.start()
    try:
        dataset = Dataset(tmp_path / "set")
        assert sum(part.n_hits for part in dataset.events()) == len(hits)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 0.1 * hits.nbytes
    assert peak < 0.5 * hits.nbytes  # one shard of ten is checked at a time


def test_dataset_many_threads_open_shards_at_once(tmp_path):
    """Python 3.11 lets no two threads parse at once where a collection hands over between them (gh-106905)."""
    write_small(tmp_path / "set", [2] * 4)
    failures = []

    class Yields:
        def __del__(self):
            time.sleep(0)

    def open_often():
        for _ in range(40):
            cycle = Yields()
            cycle.itself = cycle
            del cycle
            try:
                Dataset(tmp_path / "set").shard(0)
            except SystemError as error:
                failures.append(error)

    before = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    try:
        threads = [threading.Thread(target=open_often) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before[0])
        gc.set_threshold(*before[1])
    assert not failures
