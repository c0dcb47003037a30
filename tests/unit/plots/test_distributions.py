"""Distributions of a dataset's hits."""

import numpy as np
import pytest
from figure_data import distributions
from plotted import DETECTOR, NO_HITS, SMALL, pixels, texts

from tofae_jax import plots
from tofae_jax.core.distributions import Distributions
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.inspection import inspect_dataset


@pytest.mark.parametrize("units", ["physical", "pixels"])
def test_dataset_distributions_are_those_of_the_hits(units):
    events = [np.array([[8, 6, 40], [8, 6, 1], [0, 0, 3]]), np.array([[2, 3, 40]]), np.array([[2, 3, 40]])]
    figure = plots.dataset_distributions(distributions(events), detector=SMALL, units=units, title="a dataset")
    per_event, occlusion, x, y, t = figure.axes
    values, edges, _ = x.patches[0].get_data()
    np.testing.assert_array_equal(values, [1, 0, 2, 0, 0, 0, 0, 0, 2])
    np.testing.assert_allclose([edges[0], edges[-1]], x.get_xlim())
    np.testing.assert_array_equal(y.patches[0].get_data().values, [1, 0, 0, 2, 0, 0, 2])
    values, edges, _ = t.patches[0].get_data()
    assert (values[0], values[2], values[39], len(values)) == (1, 1, 3, 40)
    np.testing.assert_allclose([edges[0], edges[-1]], (0, 2) if units == "physical" else (0.5, 40.5))
    np.testing.assert_array_equal(per_event.patches[0].get_data().values, [2, 0, 1])
    np.testing.assert_allclose(occlusion.lines[0].get_xydata(), [[1, 0], [3, 100 / 3]])
    assert len(np.unique(pixels(figure))) > 10


def test_dataset_distributions_against_time_are_of_signal(tmp_path):
    hits = np.array([[8, 6, 40], [8, 6, 1], [0, 0, 3], [2, 3, 40], [2, 3, 40]], np.int16)
    columns = {"origin": np.array([0, 0, 1, 0, 0], np.int8), "track": np.array([0, 0, 3, 1, 1], np.int16)}
    events = Events(hits, np.array([0, 3, 5]), columns)
    dataset = write_dataset(tmp_path / "d", [events], detector=SMALL, provenance={})
    found = inspect_dataset(dataset).distributions
    assert [(tuple(place), found.xt[tuple(place)]) for place in np.argwhere(found.xt)] == [
        ((2, 40), 2), ((8, 1), 1), ((8, 40), 1)
    ]  # fmt: skip
    assert found.yt.sum() == 4
    np.testing.assert_array_equal(found.hits_per_track, [0, 0, 2])  # two tracks of two hits each
    figure = plots.dataset_distributions(found, detector=SMALL, row_angles_rad=(0.45, 0.95))
    assert len(figure.axes) == 9
    assert figure.axes[-2].get_ylim() == (0.45, 0.95) or figure.axes[-1].get_ylim() == (0.45, 0.95)
    mesh = figure.axes[5].collections[0]
    assert mesh.get_array().sum() == 4
    np.testing.assert_allclose(mesh.get_coordinates()[[0, -1], [0, -1]], [[0, 0], [2, 18]])  # ns and mm
    for name in ("xt", "yt"):
        with pytest.raises(ValueError, match=f"the histogram of {name} has shape"):
            plots.dataset_distributions(found._replace(**{name: np.zeros((3, 3), int)}), detector=SMALL)


def test_dataset_distributions_long_histograms_are_averaged():
    counts = np.zeros(1001, int)
    counts[1000] = 16
    flat = Distributions(np.array([0, 16]), np.zeros(88, int), np.zeros(128, int), counts, np.array([[0, 16], [0, 0]]))
    values, edges, _ = plots.dataset_distributions(flat, detector=DETECTOR).axes[4].patches[0].get_data()
    assert len(values) <= 130
    np.testing.assert_allclose(np.sum(values * np.diff(edges)) / DETECTOR.bin_ns, 16)
    np.testing.assert_allclose(edges[-1], DETECTOR.window_ns)


@pytest.mark.backlog("B16")
@pytest.mark.parametrize("events", [[], [NO_HITS]])
def test_dataset_distributions_of_nothing_say_so(events):
    figure = plots.dataset_distributions(distributions(events), detector=SMALL)
    assert texts(figure) == (["no hits"] * 4 if events else ["no events"] * 2 + ["no hits"] * 3)
    assert len(pixels(figure))


@pytest.mark.backlog("B16")
def test_dataset_distributions_one_hit_and_all_occluded():
    one = distributions([np.array([[0, 0, 1]])])
    hidden = distributions([np.array([[1, 1, 1]] * 5)])
    for found, share in ((one, 0), (hidden, 80)):
        figure = plots.dataset_distributions(found, detector=SMALL)
        np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [share])
        assert len(pixels(figure))


@pytest.mark.backlog("B16")
def test_dataset_distributions_other_detector_raises():
    with pytest.raises(ValueError, match=r"histogram of x has shape \(9,\), but the detector's has shape \(88,\)"):
        plots.dataset_distributions(distributions([]), detector=DETECTOR)
    with pytest.raises(ValueError, match=r"occlusion has shape \(3,\), expected \(2, n\)"):
        plots.dataset_distributions(distributions([])._replace(occlusion=np.zeros(3)), detector=SMALL)
