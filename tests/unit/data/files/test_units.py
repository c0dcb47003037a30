"""Millimetres and nanoseconds as pixels and time bins."""

import numpy as np
from hit_files import SMALL
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.core.detector import Detector
from tofae_jax.data.files.units import in_pixels


def test_in_pixels_known_values():
    columns = {
        "x": np.array([0.0, 1.999, 2.0, 7.999, 8.0, -1e-9, 4.0, 4.0]),
        "y": np.array([0.0, 2.0, 4.0, 5.999, 1.0, 1.0, 6.0, np.nan]),
        "t": np.array([0.0, 0.5, 0.499, 4.999, 1.0, 1.0, 1.0, 1.0]),
        "n": np.arange(8),
    }
    found, is_inside = in_pixels(columns, detector=SMALL, origin="edge")
    assert is_inside.tolist() == [True] * 4 + [False] * 4
    assert np.column_stack([found[name] for name in "xyt"]).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 1], [3, 2, 10]]
    assert found["n"].tolist() == [0, 1, 2, 3]
    centred = {**columns, "x": columns["x"] - 4, "y": columns["y"] - 3}
    again, is_inside = in_pixels(centred, detector=SMALL, origin="centre")
    assert is_inside.tolist() == [True] * 4 + [False] * 4
    assert np.array_equal(again["x"][:4], found["x"])


def test_in_pixels_edge_of_a_bin_begins_it():
    detector = Detector()
    bins = np.arange(1, 1001)
    t = (bins - 1) * 0.025
    columns = {"x": np.zeros(1000), "y": np.zeros(1000), "t": t}
    found, is_inside = in_pixels(columns, detector=detector, origin="edge")
    assert is_inside.all()
    assert np.array_equal(found["t"], bins)
    assert not np.array_equal(np.floor(t / detector.bin_ns) + 1, bins)  # what dividing first would give


@given(st.integers(1, 300), st.floats(0.1, 1e4), st.integers(0, 2**32))
def test_in_pixels_centres_of_pixels_come_back(n, length, seed):
    detector = Detector(n_x=n, n_y=n, n_t=n, width_mm=length, height_mm=length / 3, window_ns=length * 2)
    pixel = np.random.default_rng(seed).integers(0, n, (50, 3))
    for origin, shift in (("edge", 0.0), ("centre", 0.5)):
        columns = {
            "x": ((pixel[:, 0] + 0.5) / n - shift) * detector.width_mm,
            "y": ((pixel[:, 1] + 0.5) / n - shift) * detector.height_mm,
            "t": (pixel[:, 2] + 0.5) / n * detector.window_ns,
        }
        found, is_inside = in_pixels(columns, detector=detector, origin=origin)
        assert is_inside.all()
        assert np.array_equal(np.column_stack([found[name] for name in "xyt"]), pixel + np.array([0, 0, 1]))
