"""Columns of events and tracks in files of one row per hit."""

import numpy as np
import pytest
from hit_files import ROWS, assert_refused, columns_of


def test_once_per_event_several_values_raise(tmp_path):
    (tmp_path / "a.csv").write_text("event,x,y,t,event.p\n1,1,1,1,5\n2,1,1,1,7\n2,1,1,1,8\n")
    assert_refused(tmp_path / "a.csv", r"event 2 has several values of event\.p; one for all its hits expected")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"event.event": [2, 5]}, "event.event has to rise and to have every number"),
        ({"event.event": [2, 5, 5, 9]}, "event.event has to rise"),
        ({"event.event": [9, 5, 2]}, "event.event has to be of integers that never fall"),
        ({"event.event": [2, 5, 9], "event.p": [1, 2]}, r"array event.p has shape \[2\]; as long as event.event"),
        ({"event.event": [2, 5, 9], "track.event": [3], "track.p": [1.0]}, "track.event has numbers that event.event"),
    ],
)
def test_with_event_arrays_bad_arrays_raise(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **columns_of(ROWS), **{name: np.array(values) for name, values in arrays.items()})
    assert_refused(tmp_path / "a.npz", words)
