import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.core.detector import Detector
from tofae_jax.data import dataset as f
from tofae_jax.data.batches import EvaluationSource, TrainSource, batches, evaluation_batches, pad_events, split_events
from tofae_jax.data.events import DataError, Events, concatenate, select_hits, slice_events
from tofae_jax.data.inspection import describe, inspect_dataset

DETECTOR = Detector(n_x=7, n_y=5, n_t=9)


def events_of(counts, seed=0, detector=DETECTOR):
    rng = np.random.default_rng(seed)
    n = sum(counts)
    hits = np.stack(
        [rng.integers(0, detector.n_x, n), rng.integers(0, detector.n_y, n), rng.integers(1, detector.n_t + 1, n)], -1
    )
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns = {"track": rng.integers(0, 3, n).astype(np.int16)}
    return Events(hits.astype(np.int16), offsets, columns, {"event": np.arange(len(counts)) * 10})


def write(path, counts, **options):
    events = events_of(counts)
    options = {"detector": DETECTOR, "provenance": {"generator": "test"}} | options
    return events, f.write_dataset(path, [events], **options)


@pytest.mark.backlog("B08", "B33")
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_any_shards_give_the_same_events(tmp_path_factory, counts, shard_events, parts):
    path = tmp_path_factory.mktemp("d") / "set"
    events = events_of(counts)
    cuts = np.array_split(np.arange(len(counts)), parts)
    pieces = [slice_events(events, int(part[0]), int(part[-1]) + 1) for part in cuts if len(part)]
    dataset = f.write_dataset(path, pieces, detector=DETECTOR, provenance={}, shard_events=shard_events)
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


def with_tracks(events, counts, seed=1):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns = {
        "momentum_gev": np.random.default_rng(seed).random(offsets[-1], np.float32),
        "type": np.arange(offsets[-1]),
    }
    return events._replace(track_offsets=offsets, track_columns=columns)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(1, 5))
def test_tracks_stay_with_their_events(tmp_path_factory, counts, shard_events):
    events = with_tracks(events_of([2] * len(counts)), counts)
    path = tmp_path_factory.mktemp("d") / "set"
    f.write_dataset(path, [events], detector=DETECTOR, provenance={}, shard_events=shard_events)
    dataset = f.Dataset(path)
    back = concatenate(dataset.events())
    np.testing.assert_array_equal(back.track_offsets, events.track_offsets)
    for name, column in events.track_columns.items():
        np.testing.assert_array_equal(back.track_columns[name], column)
        assert back.track_columns[name].dtype == column.dtype
    last = slice_events(back, len(counts) - 1, len(counts))
    np.testing.assert_array_equal(last.track_columns["type"], np.arange(sum(counts[:-1]), sum(counts)))
    assert select_hits(back, np.zeros(back.n_hits, bool)).track_offsets is back.track_offsets
    assert "tracks: momentum_gev, type" in "\n".join(describe(dataset, inspect_dataset(dataset)))


def test_damaged_tracks_are_named(tmp_path):
    events = with_tracks(events_of([2, 2]), [1, 2])
    f.write_dataset(tmp_path / "set", [events], detector=DETECTOR, provenance={})
    np.save(tmp_path / "set" / "00000.track_offsets.npy", np.array([0, 2, 1]))
    with pytest.raises(DataError, match=r"track_offsets\.npy: offsets must rise from 0 to 3, got 0 to 1, falling"):
        f.Dataset(tmp_path / "set").shard(0)


def test_parts_with_and_without_tracks_do_not_join(tmp_path):
    events = events_of([1])
    with pytest.raises(ValueError, match="need the same columns"):
        concatenate([events, with_tracks(events, [1])])


def test_a_dataset_of_the_first_version_is_read(tmp_path):
    events, _ = write(tmp_path / "set", [3, 4])
    file = tmp_path / "set" / "dataset.json"
    tree = json.loads(file.read_text())
    tree["schema_version"] = 1
    del tree["track_columns"]
    for shard in tree["shards"]:
        del shard["n_tracks"]
    file.write_text(json.dumps(tree))
    back = concatenate(f.Dataset(tmp_path / "set").events())
    assert back.track_offsets is None
    np.testing.assert_array_equal(back.hits, events.hits)


def test_hits_are_memory_mapped(tmp_path):
    _, dataset = write(tmp_path / "set", [3, 4])
    hits = dataset.shard(0).hits
    assert isinstance(hits.base, np.memmap) or isinstance(hits.base.base, np.memmap)
    assert not hits.flags.writeable


def test_select_hits_moves_columns_along():
    events = events_of([2, 0, 3])
    keep = np.array([True, False, False, True, True])
    kept = select_hits(events, keep)
    np.testing.assert_array_equal(kept.counts, [1, 0, 2])
    np.testing.assert_array_equal(kept.hits, events.hits[keep])
    np.testing.assert_array_equal(kept.hit_columns["track"], events.hit_columns["track"][keep])


def test_nothing_is_left_of_a_failed_write(tmp_path):
    bad = events_of([2])
    bad.hits[1] = (7, 0, 1)
    with pytest.raises(DataError, match=r"x=7 y=0 t=1 outside the detector: x 0\.\.6"):
        f.write_dataset(tmp_path / "set", [events_of([3]), bad], detector=DETECTOR, provenance={})
    with pytest.raises(DataError, match="no events"):
        f.write_dataset(tmp_path / "set", [], detector=DETECTOR, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced(tmp_path):
    write(tmp_path / "set", [1])
    with pytest.raises(DataError, match="exists already; give another name, or --overwrite"):
        write(tmp_path / "set", [2])
    _, dataset = write(tmp_path / "set", [2, 2], overwrite=True)
    assert len(dataset) == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="exists already; give another name"):
        write(tmp_path / "other", [2], overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "set"]


def edit(path, change):
    text = json.loads((path / "dataset.json").read_text())
    change(text)
    (path / "dataset.json").write_text(json.dumps(text))


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
def test_damage_is_named(tmp_path, damage, message):
    write(tmp_path / "set", [3, 0, 4])
    damage(tmp_path / "set")
    with pytest.raises(DataError, match=message) as caught:
        f.Dataset(tmp_path / "set").shard(0)
    assert "\n" not in str(caught.value)


def test_a_missing_dataset_is_named(tmp_path):
    with pytest.raises(DataError, match="no such dataset"):
        f.Dataset(tmp_path / "nothing")


def test_inspection_finds_what_is_wrong(tmp_path):
    _, dataset = write(tmp_path / "set", [3, 0, 4], shard_events=2)
    found = inspect_dataset(dataset)
    assert found.problems == []
    assert found.n_empty == 1
    assert found.distributions.hits_per_event.tolist() == [1, 0, 0, 1, 1]
    assert found.distributions.t.sum() == 7
    assert "integrity    ok" in describe(dataset, found)
    path = tmp_path / "set" / "00000.hits.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(content)
    problems = inspect_dataset(f.Dataset(tmp_path / "set")).problems
    assert any("checksum" in problem for problem in problems)
    assert any("outside the detector" in problem for problem in problems)
    with pytest.raises(DataError, match="outside the detector"):
        f.Dataset(tmp_path / "set").shard(0)


def test_inspection_counts_repeats(tmp_path):
    hits = np.array([[1, 1, 5], [1, 1, 5], [1, 1, 7], [2, 1, 7], [1, 1, 5]], np.int16)
    events = Events(hits, np.array([0, 4, 5]))
    dataset = f.write_dataset(tmp_path / "set", [events], detector=DETECTOR, provenance={})
    found = inspect_dataset(dataset)
    assert (found.n_duplicates, found.n_occluded) == (1, 2)
    assert found.distributions.occlusion[:, 4].tolist() == [1, 2]


@given(st.integers(1, 300), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 5))
def test_splits_are_disjoint_and_repeatable(n, train, other, seed):
    validation, test = other * (1 - train) / 2, other * (1 - train) / 2
    splits = split_events(n, train=train, validation=validation, test=test, seed=seed)
    together = np.concatenate(splits)
    assert len(set(together.tolist())) == len(together) <= n
    assert len(splits.train) >= 1
    again = split_events(n, train=train, validation=validation, test=test, seed=seed)
    for first, second in zip(splits, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_surplus_hits_are_thinned_at_random_and_counted(tmp_path):
    events, dataset = write(tmp_path / "set", [3, 6, 0])
    hits, _, dropped = pad_events(dataset, np.array([0, 1, 2]), batch=4, max_hits=4)
    assert hits.shape == (4, 4, 3)
    assert hits.dtype == np.int16
    assert dropped.tolist() == [0, 2, 0, 0]
    assert Counter(map(tuple, hits[1].tolist())) <= Counter(map(tuple, events.hits[3:9].tolist()))
    again = pad_events(dataset, np.array([1]), batch=1, max_hits=4).hits
    np.testing.assert_array_equal(again[0], hits[1])


def source(tmp_path, n=13, batch=4, **options):
    path = tmp_path / "set"
    dataset = f.Dataset(path) if path.exists() else write(path, list(range(n)), shard_events=5)[1]
    return TrainSource(dataset, np.arange(n), batch=batch, max_hits=12, seed=3, **options)


def assert_same_batches(first, second):
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_epochs_shuffle_anew_and_use_each_event_once(tmp_path):
    train = source(tmp_path)
    assert train.steps_per_epoch == 3
    orders = [[int(e) for i in range(3) for e in train[3 * epoch + i].event] for epoch in range(3)]
    assert all(len(set(order)) == 12 for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert [int(train[i].step) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert int(train[5].epoch) == 1


@pytest.mark.backlog("B63")
def test_repeat_every_replays_epochs(tmp_path):
    train = source(tmp_path, repeat_every=2)
    assert_same_batches([train[i] for i in range(6)], [train[i] for i in range(6, 12)])
    assert int(train[7].epoch) == 0


@pytest.mark.backlog("B05", "B46")
@pytest.mark.parametrize("threads", [0, 1, 4])
def test_any_number_of_threads_gives_the_same_batches_and_can_go_on(tmp_path, threads):
    train = source(tmp_path)
    expected = [train[i] for i in range(8)]
    iterator = batches(train, threads=threads, prefetch=3)
    got = [next(iterator) for _ in range(5)]
    state = iterator.get_state()
    iterator.close()
    again = batches(source(tmp_path), threads=threads, prefetch=3)
    again.set_state(state)
    got += [next(again) for _ in range(3)]
    again.close()
    assert_same_batches(got, expected)


def test_threads_end_with_their_iterator(tmp_path):
    before = threading.active_count()
    iterator = batches(source(tmp_path), threads=2, prefetch=2)
    next(iterator)
    iterator.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_evaluation_batches_fill_the_last_one_with_marked_events(tmp_path):
    train = source(tmp_path)
    evaluation = EvaluationSource(train.dataset, np.arange(2, 12), batch=4, max_hits=12)
    found = list(evaluation_batches(evaluation, threads=1, prefetch=2))
    assert len(evaluation) == len(found) == 3
    assert [int(batch.is_event.sum()) for batch in found] == [4, 4, 2]
    assert np.concatenate([batch.event[batch.is_event] for batch in found]).tolist() == list(range(2, 12))
    assert not np.any(found[-1].hits[2:])


def test_too_few_events_are_named(tmp_path):
    with pytest.raises(DataError, match="13 training events do not fill a batch of 14"):
        source(tmp_path, batch=14)
    with pytest.raises(DataError, match="no events to evaluate"):
        EvaluationSource(source(tmp_path).dataset, np.arange(0), batch=2, max_hits=3)


@pytest.mark.backlog("B09")
def test_a_batch_costs_what_the_readme_says(tmp_path):
    train = source(tmp_path, batch=4)
    assert train[0].hits.nbytes == 4 * 12 * 3 * 2
