"""Direct and reflected light of the LHCb TORCH module."""

import numpy as np
import pytest
from plotted import NO_HITS, SMALL, pixels, texts

from tofae_jax import plots


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_photon_bands_are_told_apart(units):
    hits = np.array([[0, 0, 1], [8, 6, 40], [4, 3, 20]], np.int16)
    figure = plots.photon_bands(
        hits, [False, True, True], detector=SMALL, units=units, row_angles_rad=(0.45, 0.95), title="$x_{"
    )
    _, tx, _, *scales = figure.axes
    assert [len(part.get_offsets()) for part in tx.collections] == [1, 2]
    assert [angles.get_ylim() for angles in scales] == [(0.45, 0.95)] * 2
    expected = [[0.025, 1.0]] if units == "physical" else [[1, 0]]
    np.testing.assert_allclose(np.asarray(tx.collections[0].get_offsets()), expected)
    assert len(np.unique(pixels(figure))) > 10
    assert texts(plots.photon_bands(NO_HITS, [], detector=SMALL)) == ["no hits"] * 3
    with pytest.raises(ValueError, match=r"hits has shape \(3, 3\), is_reflected \(2,\)"):
        plots.photon_bands(hits, [True, False], detector=SMALL)
