"""Axes in physical units and in pixels."""

import pytest
from event_figures import EVENT_FIGURES
from plotted import DETECTOR, v_shape


@pytest.mark.parametrize("draw", EVENT_FIGURES)
def test_detector_frame_unknown_units_raise(draw):
    with pytest.raises(ValueError, match="units is 'inches', allowed are 'physical', 'pixels'"):
        draw(v_shape(), detector=DETECTOR, units="inches")
