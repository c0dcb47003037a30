"""Events of the benchmark: the hits that were asked for, and what differs between them."""

import numpy as np
import pytest
from quality_benchmark import FULL, drawn, events, hit_lists, sources


def test_place_in_pattern_by_hand():
    pattern = np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3], [0, 0, 1]], np.int16)
    sparse = np.array([[1, 2, 3], [0, 0, 1], [1, 2, 3], [0, 0, 0]], np.int32)
    found = events.place_in_pattern(sparse, pattern)
    assert sorted(found[[0, 2]].tolist()) == [0, 2]
    assert found[1] == 3
    assert found[3] == -1


@pytest.mark.slow
@pytest.mark.parametrize("n_noise", [0, 250])
def test_held_out_events_have_the_hits_asked_for(n_noise):
    event = drawn(n_signal=20, n_noise=n_noise)
    pattern_sizes = np.array([len(pattern) for pattern in event.patterns])
    np.testing.assert_array_equal(event.is_signal.sum(axis=1), np.minimum(pattern_sizes, 20))
    np.testing.assert_array_equal((event.filled & ~event.is_signal).sum(axis=1), n_noise)
    np.testing.assert_array_equal(event.photon >= 0, event.is_signal)
    for i, j in np.argwhere(event.is_signal):
        np.testing.assert_array_equal(event.hits[i, j], event.patterns[i][event.photon[i, j]])
    for row, is_signal in zip(event.photon, event.is_signal, strict=True):
        assert len(np.unique(row[is_signal])) == is_signal.sum()


def test_held_out_events_fewer_hits_are_some_of_more():
    few, many = drawn(n_signal=10, n_noise=50), drawn(n_signal=30, n_noise=200, n_events=9)
    for own, of in zip(hit_lists(few), hit_lists(many), strict=False):
        assert set(own) <= set(of)
    assert hit_lists(drawn(seed=1)) != hit_lists(drawn())
    with pytest.raises(ValueError, match="noise is 1001, allowed: 0 to 1000"):
        drawn(n_noise=1001)
    with pytest.raises(ValueError, match="data is 'w', allowed: v, "):
        drawn("w")


def test_held_out_events_smearing_moves_signal_times_alone():
    exact, smeared = drawn(), drawn(time_smearing_ps=100.0)
    assert set(map(tuple, exact.hits[0][~exact.is_signal[0]].tolist())) == set(
        map(tuple, smeared.hits[0][~smeared.is_signal[0]].tolist())
    )
    moved = []
    for i, j in np.argwhere(smeared.is_signal):
        own = smeared.patterns[i][smeared.photon[i, j]]
        np.testing.assert_array_equal(own[:2], smeared.hits[i, j, :2])
        moved.append(smeared.hits[i, j, 2] - own[2])
    assert np.std(moved) == pytest.approx(4, rel=0.25)  # bins of 25 ps


def test_held_out_events_dead_column_is_empty_alone():
    whole, dead = drawn(), drawn(dead_column=44)
    assert (whole.hits[whole.filled][:, 0] == 44).any()
    for own, of in zip(hit_lists(dead), hit_lists(whole), strict=True):
        assert own == [hit for hit in of if hit[0] != 44]


def test_held_out_events_noise_comes_from_whole_tracks():
    track = np.repeat([3, 4, 5, 6], [40, 30, 50, 20]).astype(np.int16)
    hits = np.column_stack([np.arange(140) % 88, np.arange(140) % 128, np.arange(140) + 1]).astype(np.int16)
    source = sources.Source(np.arange(1), [hits[:50]], [sources.Background(hits, track)])
    event = events.degraded(source, events.Conditions(n_noise=60), seed=0, detector=FULL)
    noise = event.hits[0][~event.is_signal[0] & event.filled[0]]
    assert len(noise) == 60
    assert {track[t - 1] for t in noise[:, 2]} == {3, 4}  # 70 hits suffice
    assert len({tuple(hit) for hit in noise.tolist()}) == 60
    few = events.degraded(source, events.Conditions(n_noise=500), seed=0, detector=FULL)
    assert (~few.is_signal & few.filled).sum() == 140
