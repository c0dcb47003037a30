"""Classical filters of images."""

import numpy as np
import pytest
from quality_benchmark import FULL, classical, event_set

FILTER_SETTINGS = {
    "median": {"size": 3},
    "Gaussian": {"sigma": 1.0},
    "bilateral": {"sigma_spatial": 1.0, "sigma_color": 1.0},
    "non-local means": {"patch_size": 3, "patch_distance": 5, "h": 0.4},
    "total variation": {"weight": 0.3},
}


@pytest.mark.parametrize("image", classical.IMAGES)
@pytest.mark.parametrize("name", FILTER_SETTINGS)
def test_classical_filters_score_clusters_above_lonely_hits(name, image):
    cluster = [[10 + x, 20 + y, 500] for x in (-1, 0, 1) for y in (-1, 0, 1)]
    event = event_set([[*cluster, [60, 90, 500], [60, 90, 400]]], [[True] * 9 + [False] * 2], detector=FULL)
    found = {scorer.name: scorer for scorer in classical.classical_filters(lambda _: None)}
    score = found[name].score(event, image=image, **FILTER_SETTINGS[name])[0]
    assert score[4] > score[9]
    assert np.isfinite(score[:10]).all()
    assert score[10] == -np.inf  # occluded


def test_classical_filters_missing_library_is_left_out(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(classical, "import_module", missing)
    said = []
    assert [scorer.name for scorer in classical.classical_filters(said.append)] == ["median", "Gaussian"]
    assert len(said) == 2
