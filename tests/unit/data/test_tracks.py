"""Tables of tracks, as models read them."""

import re

import numpy as np
import pytest
from module_datasets import table

from tofae_jax.data.events import DataError
from tofae_jax.data.tracks import GIVEN, LIMITS, Tracks, track_table, tracks_of
from tofae_jax.lhcb_torch.module import RANGE_LIMITS
from tofae_jax.lhcb_torch.optics import MASSES_GEV
from tofae_jax.models import TRACK_COLUMNS, TRUTH_COLUMNS


def test_track_table_by_hand():
    tracks = Tracks(np.array([2, 0, 1]), table(), np.array([5.0, 6.0, 7.0]))
    found = track_table(tracks, slots=2, with_truth=True)
    assert found.shape == (3, 2, len(TRACK_COLUMNS) + len(TRUTH_COLUMNS)) and found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, :5], np.linspace(1, 2, 3)[:2, None].repeat(5, 1), rtol=1e-6)
    assert np.all(found[1] == 0) and np.all(found[2, 1] == 0)
    assert found[2, 0, 5] == -7 and found[2, 0, 6] == 1 - 7  # collision and arrival, from the start of the window
    momentum, mass = 2.0, MASSES_GEV[2]
    assert found[2, 0, 7] == pytest.approx(momentum / np.hypot(momentum, mass))
    without = track_table(tracks, slots=4)
    assert without.shape == (3, 4, 8) and np.all(without[..., 6:] == 0)
    nothing = Tracks(np.zeros(2, np.int64), table(0), np.zeros(2))
    assert np.all(track_table(nothing, slots=1) == 0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"momentum_gev": np.array([1.0, 0.0, 2.0])}, r"momentum_gev is 0 \(1 such tracks\), allowed: 0.001 to"),
        ({"x_mm": np.array([1.0, np.nan, 2.0])}, "x_mm is nan"),
        ({"y_mm": np.array([1.0, 1e300, 1e300])}, r"y_mm is 1e\+300 \(2 such"),
        ({"slope_x": np.array([1.0, -11.0, 0.0])}, "slope_x is -11"),
        ({"arrival_ns": np.array([1.0, np.inf, 0.0])}, "not finite"),
        ({"momentum_gev": np.array([1.0, 5e3, 2.0])}, r"momentum_gev is 5000 \(1 such"),  # MeV
        ({"particle": np.array([0, 1, 3])}, "particle must be from 0 to 2, got 3"),
    ],
)
def test_track_table_implausible_tracks_are_named(change, message):
    tracks = Tracks(np.array([2, 1]), table(**change), np.zeros(2))
    with pytest.raises(DataError, match=message):
        track_table(tracks, slots=2, with_truth=True, where="here")


@pytest.mark.parametrize("start", [89_100.0, 1e9, np.nan])
def test_track_table_implausible_windows_are_named(start):
    tracks = Tracks(np.array([2, 1]), table(), np.array([0.0, start]))
    with pytest.raises(
        DataError, match=rf"here: window_start_ns is {re.escape(f'{start:g}')} \(1 such tracks\), allowed: -10000 to"
    ):
        track_table(tracks, slots=2, where="here")


def test_track_limits_equal_those_of_the_simulation():
    for name in GIVEN:
        assert LIMITS[name] == RANGE_LIMITS[name]


def test_track_table_missing_tracks_are_named():
    with pytest.raises(DataError, match="here: no tracks are known"):
        track_table(None, slots=1, where="here")
    known = {name: values for name, values in table().items() if name not in ("slope_x", "particle")}
    with pytest.raises(DataError, match=r"lack slope_x, particle, window_start_ns; there are x_mm"):
        track_table(Tracks(np.array([3]), known, None), slots=3, with_truth=True)
    with pytest.raises(DataError, match=r"has 3 tracks, data.max_tracks is 2"):
        track_table(Tracks(np.array([3]), table(), np.zeros(1)), slots=2)


def test_per_event_tracks_equal_the_simulated_ones(measured):
    numbers = np.array([7, 2, 2])
    found = measured.per_event_tracks(numbers)
    whole = [tracks_of(part) for part in measured.events()]
    assert len(whole) == 1
    first = np.concatenate([[0], np.cumsum(whole[0].counts)])
    rows = np.concatenate([np.arange(first[n], first[n + 1]) for n in numbers])
    np.testing.assert_array_equal(found.counts, whole[0].counts[numbers])
    np.testing.assert_array_equal(found.columns["slope_y"], whole[0].columns["slope_y"][rows])
    np.testing.assert_array_equal(found.window_start_ns, whole[0].window_start_ns[numbers])
