"""Mixtures of patterns: fractions, several tracks per event, independence of chunks."""

import numpy as np
import pytest
from pattern_events import DETECTOR, assert_same, assert_valid, draw, of_shape

from tofae_jax.data.events import Events, concatenate, event_of_hit
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.data.simulated.patterns import PATTERNS


def simulated(*args, **how) -> Events:
    return concatenate(simulate_patterns(*args, **{"detector": DETECTOR, **how}))


def test_simulate_patterns_same_seed_gives_same_events():
    first, again, other = (simulated(seed, 300, weights={"v": 1, "line": 2}, n_tracks=(1, 2)) for seed in (3, 3, 4))
    assert_same(first, again)
    assert not np.array_equal(first.offsets, other.offsets)


@pytest.mark.parametrize("chunk_events", [1, 7, 999, 1000, 1001, 5000])
def test_simulate_patterns_chunks_do_not_change_events(chunk_events):
    detector, n_events = of_shape((9, 12, 50)), 2345 if chunk_events > 1 else 40
    how = {"detector": detector, "weights": dict.fromkeys(PATTERNS, 1), "n_tracks": (1, 3)}
    chunks = list(simulate_patterns(5, n_events, chunk_events=chunk_events, **how))
    assert [chunk.n_events for chunk in chunks[:-1]] == [chunk_events] * (len(chunks) - 1)
    assert 0 < chunks[-1].n_events <= chunk_events
    assert_same(concatenate(chunks), simulated(5, n_events, **how))


@pytest.mark.parametrize("n_events", [1, 999, 1000, 1500])
def test_simulate_patterns_fewer_are_the_first_of_more(n_events):
    how = {"weights": {"v": 1, "parabola": 1, "blank": 1}, "n_tracks": (1, 2), "detector": of_shape((12, 9, 40))}
    more, fewer = simulated(1, 2200, **how), simulated(1, n_events, **how)
    end = fewer.n_hits
    np.testing.assert_array_equal(more.offsets[: n_events + 1], fewer.offsets)
    np.testing.assert_array_equal(more.hits[:end], fewer.hits)
    np.testing.assert_array_equal(more.hit_columns["track"][:end], fewer.hit_columns["track"])
    for name, column in fewer.event_columns.items():
        np.testing.assert_array_equal(more.event_columns[name][:n_events], column)


def test_simulate_patterns_blocks_differ():
    events = simulated(0, 2000, weights={"v": 1})
    assert not np.array_equal(events.counts[:1000], events.counts[1000:])


@pytest.mark.parametrize("n_tracks", [(1, 1), (1, 4), (3, 3)])
@pytest.mark.parametrize("shape", [(88, 128, 1000), (5, 4, 10), (1, 1, 1)], ids=str)
def test_simulate_patterns_mixtures_are_valid(n_tracks, shape):
    detector = of_shape(shape)
    events = simulated(2, 300, detector=detector, weights=dict.fromkeys(PATTERNS, 1), n_tracks=n_tracks)
    assert_valid(events, detector, 300)
    assert {name: column.dtype for name, column in events.event_columns.items()} == {
        "n_tracks": np.int16,
        "pattern": np.int16,
    }
    track = events.hit_columns["track"]
    assert track.dtype == np.int16
    assert (track >= 0).all()
    assert (track < events.event_columns["n_tracks"][event_of_hit(events)]).all()
    assert set(events.event_columns["n_tracks"].tolist()) == set(range(n_tracks[0], n_tracks[1] + 1))


def test_simulate_patterns_fractions_follow_the_weights():
    weights = {"v": 3.0, "line": 1.0, "blank": 2.0, "cross": 0.0}
    n_events = 6000
    events = simulated(0, n_events, detector=of_shape((8, 8, 20)), weights=weights)
    counts = np.bincount(events.event_columns["pattern"], minlength=len(PATTERNS))
    for name, count in zip(PATTERNS, counts, strict=True):
        share = weights.get(name, 0.0) / 6
        assert abs(count - n_events * share) <= 4 * np.sqrt(n_events * share * (1 - share))  # 4 sigma, seed fixed
    is_blank = events.event_columns["pattern"] == list(PATTERNS).index("blank")
    np.testing.assert_array_equal(events.counts == 0, is_blank)


def test_simulate_patterns_several_tracks_are_numbered():
    n_events = 4000
    detector = of_shape((16, 16, 40))
    events = simulated(0, n_events, detector=detector, weights={"v": 1, "line": 1}, n_tracks=(1, 3))
    n_tracks, pattern = events.event_columns["n_tracks"], events.event_columns["pattern"]
    assert set(pattern.tolist()) == {-1, list(PATTERNS).index("v"), list(PATTERNS).index("line")}
    assert (pattern[n_tracks == 1] >= 0).all()
    for count in (1, 2, 3):
        assert abs((n_tracks == count).sum() - n_events / 3) <= 4 * np.sqrt(n_events * 2 / 9)
        chosen = pattern[n_tracks == count]
        alike = 2.0 ** (1 - count)  # all tracks of one pattern
        assert abs((chosen >= 0).mean() - alike) <= 4 * np.sqrt(alike * (1 - alike) / len(chosen))
    same_event = np.diff(event_of_hit(events)) == 0
    assert (np.diff(events.hit_columns["track"].astype(int))[same_event] >= 0).all()


def test_simulate_patterns_shared_hits_belong_to_the_first():
    """Tracks from one origin share it: the first keeps the hit, the later ones lose it and nothing else."""
    events = simulated(0, 200, weights={"v": 1}, n_tracks=(3, 3), origin=(40, 30, 100))
    whole = draw("v", 1, origin=(40, 30, 100))
    np.testing.assert_array_equal(events.counts, whole.n_hits)  # three identical tracks: two are removed entirely
    assert (events.hit_columns["track"] == 0).all()
    lines = simulated(0, 200, weights={"line": 1}, n_tracks=(2, 2), origin=(40, 64, 500))
    at_origin = (lines.hits == [40, 64, 500]).all(axis=1)
    assert at_origin.sum() == 200
    assert (lines.hit_columns["track"][at_origin] == 0).all()
    assert (np.bincount(event_of_hit(lines)[lines.hit_columns["track"] == 1], minlength=200) > 0).sum() >= 198


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"v": 1, "circle": 1}, "unknown pattern 'circle'; known: v, parabola, cross, line, hemisphere, blank"),
        ({"v": -1.0, "line": 2.0}, "allowed: finite numbers from 0 up"),
        ({"v": float("nan")}, "allowed: finite numbers from 0 up"),
        ({"v": float("inf")}, "allowed: finite numbers from 0 up"),
        ({"v": 0.0}, "at least one above 0"),
        ({}, "at least one above 0"),
    ],
)
def test_simulate_patterns_bad_weights_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        simulate_patterns(0, 1, detector=DETECTOR, weights=weights)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seed": -1}, "seed is -1, allowed: 0 or more"),
        ({"n_events": -1}, "n_events is -1, allowed: 0 or more"),
        ({"chunk_events": 0}, "chunk_events is 0, allowed: 1 or more"),
        ({"n_tracks": (0, 1)}, r"n_tracks is \(0, 1\)"),
        ({"n_tracks": (3, 2)}, r"n_tracks is \(3, 2\)"),
    ],
)
def test_simulate_patterns_bad_settings_raise_at_the_call(how, message):
    with pytest.raises(ValueError, match=message):
        simulate_patterns(**{"seed": 0, "n_events": 1, "detector": DETECTOR, "weights": {"v": 1}, **how})


def test_simulate_patterns_extreme_weights_keep_their_ratio():
    events = simulated(0, 1000, detector=of_shape((4, 4, 9)), weights={"v": 1e308, "blank": 1e308, "line": 1e-308})
    assert abs((events.counts == 0).sum() - 500) <= 4 * np.sqrt(250)


def test_simulate_patterns_no_events_give_no_chunks():
    assert list(simulate_patterns(0, 0, detector=DETECTOR, weights={"v": 1})) == []
