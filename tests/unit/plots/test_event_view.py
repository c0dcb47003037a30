"""Events to draw: mismatched arrays are named."""

import numpy as np
import pytest
from event_figures import EVENT_FIGURES
from plotted import DETECTOR, v_shape


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("draw", EVENT_FIGURES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_signal": np.ones(7, bool)}, r"is_signal has shape \(7,\), but hits has shape \(230, 3\)"),
        ({"kept": np.ones((230, 1), bool)}, r"kept has shape \(230, 1\), but hits has shape \(230, 3\)"),
        ({"direct": np.zeros((88, 128))}, r"direct has shape \(88, 128\), .* have shape \(128, 88\)"),
        ({"sparse": np.zeros((4, 2), int)}, r"sparse has shape \(4, 2\), expected \(n, 3\)"),
        ({"pattern": np.zeros(0, int)}, r"pattern has shape \(0,\), expected \(n, 3\)"),
        ({"kept": np.ones(230)}, "kept has type float64, expected bool"),
        ({"pattern": np.ones((3, 3))}, "pattern has type float64, expected integers"),
        ({"smeared": np.ones((3, 3), bool)}, "smeared has type bool, expected integers"),
        ({"pattern": np.array([[0, 0, 1], [-1, 0, 1]])}, r"pattern: hit 1 has x = -1, allowed are 0\.\.87"),
        ({"sparse": np.array([[88, 0, 1]])}, r"sparse: hit 0 has x = 88, allowed are 0\.\.87"),
        ({"smeared": np.array([[87, 127, 1000], [0, 128, 1]])}, r"smeared: hit 1 has y = 128, allowed are 0\.\.127"),
        ({"pattern": np.array([[0, 0, 0]], np.uint8)}, r"pattern: hit 0 has t = 0, allowed are 1\.\.1000"),
        ({"pattern": np.array([[0, 0, 1001]])}, r"pattern: hit 0 has t = 1001, allowed are 1\.\.1000"),
        ({"target": "noise"}, "target is 'noise', allowed are 'pattern', 'signal'"),
    ],
)
def test_check_view_mismatched_arrays_are_named(draw, change, message):
    with pytest.raises(ValueError, match=message):
        draw(v_shape()._replace(**change), detector=DETECTOR)
