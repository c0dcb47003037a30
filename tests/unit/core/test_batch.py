import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tofae_jax.core.batch import Batch

HITS = np.array([[[1, 2, 3], [0, 0, 0]], [[4, 5, 6], [7, 8, 9]]], np.int32)


def test_from_hits_array_is_kept_and_the_rest_filled_in():
    batch = Batch.from_hits(HITS)
    assert batch.hits is HITS
    assert batch.event.tolist() == [0, 1]
    assert batch.is_event.all()
    assert batch.step is None
    assert batch.epoch == 0
    assert batch.background.shape == (2, 0, 3)
    assert batch.n_dropped.tolist() == [0, 0]


def test_from_hits_sequence_is_padded():
    batch = Batch.from_hits([HITS[0, :1], HITS[1], []], max_hits=4)
    assert batch.hits.shape == (3, 4, 3)
    np.testing.assert_array_equal(batch.hits[1, :2], HITS[1])
    assert not batch.hits[0, 1:].any() and not batch.hits[2].any()
    assert Batch.from_hits([HITS[0, :1], HITS[1]]).hits.shape == (2, 2, 3)
    assert Batch.from_hits([]).hits.shape == (0, 0, 3)


def test_from_hits_traced_hits_work_inside_jit():
    n = jax.jit(lambda hits: jnp.sum(Batch.from_hits(hits, epoch=1).hits))(jnp.asarray(HITS))
    assert n == HITS.sum()


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        (HITS[0], r"hits must be integers \[batch, k, 3\] of x, y, t, got int32\[2, 3\]"),
        (HITS.astype(float), r"hits must be integers .* got float64\[2, 2, 3\]"),
        ([HITS[0], HITS[0][:, :2]], r"hits of event 1 must be integers \[n, 3\]"),
        ([HITS[0] * 0.5], r"hits of event 0 must be integers"),
        (HITS - 5, "hits: x must be from 0 to 32767, got -5 to 2"),
        ([np.array([[1, 1, 2**33 + 5]])], "hits: t must be from 0 to 32767, got 8589934597 to 8589934597"),
        (np.full((1, 1, 3), 65535, np.uint16), "hits: x must be from 0 to 32767, got 65535 to 65535"),
    ],
)
def test_from_hits_other_shapes_and_types_are_named(hits, expected):
    with pytest.raises(ValueError, match=expected):
        Batch.from_hits(hits)


def test_from_hits_too_many_hits_are_refused():
    with pytest.raises(ValueError, match="an event has 2 hits, more than max_hits 1"):
        Batch.from_hits([HITS[0], HITS[1]], max_hits=1)


@pytest.mark.parametrize("hits", [HITS, [*HITS], jnp.asarray(HITS)])
def test_from_hits_max_hits_is_the_number_of_slots(hits):
    batch = Batch.from_hits(hits, max_hits=5)
    assert batch.hits.shape == (2, 5, 3)
    np.testing.assert_array_equal(batch.hits[:, :2], HITS)
    assert not np.any(batch.hits[:, 2:])
    with pytest.raises(ValueError, match="more than max_hits 1"):
        Batch.from_hits(hits, max_hits=1)


def test_from_hits_detector_is_checked_where_it_is_known():
    assert Batch.from_hits(HITS, shape_xyt=(8, 9, 9)).hits is HITS
    for shape, expected in (((7, 9, 9), "x must be from 0 to 6, got 0 to 7"), ((8, 9, 8), "t must be from 0 to 8")):
        with pytest.raises(ValueError, match=expected):
            Batch.from_hits(HITS, shape_xyt=shape)
    with pytest.raises(ValueError, match="background: y must be from 0 to 8, got 9 to 9"):
        Batch.from_hits(HITS, background=np.array([[[0, 9, 1]]] * 2), shape_xyt=(8, 9, 9))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"event": np.arange(3)}, r"event must be of 2 events, got shape \[3\]"),
        ({"event": np.int32(1)}, r"event must be of 2 events, got shape \[\]"),
        ({"background": HITS[:1]}, r"background must be of 2 events, got shape \[1, 2, 3\]"),
        ({"tracks": np.zeros((2, 8), np.float32)}, r"tracks must be of 2 events, got shape \[2, 8\]"),
    ],
)
def test_from_hits_parts_of_other_events_are_refused(given, expected):
    with pytest.raises(ValueError, match=expected):
        Batch.from_hits(HITS, **given)
