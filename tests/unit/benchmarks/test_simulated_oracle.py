"""The oracle by simulation against a loop."""

import math

import numpy as np
import pytest
from quality_benchmark import SMALL, random_events, simulated_oracle


def test_log_density_equals_a_loop():
    rng = np.random.default_rng(1)
    photons = np.column_stack([rng.integers(0, 6, 50), rng.integers(0, 5, 50), rng.integers(1, 21, 50)])
    hits = np.array([[0, 0, 1], [5, 4, 20], [2, 3, 10]])
    widths = {"x": 0.5, "y": 0.3, "t": 1.5}
    found = simulated_oracle.log_density(hits, photons, SMALL, **widths)
    sums = [sum(math.exp(-0.5 * (k / w) ** 2) for k in range(-9, 10)) for w in widths.values()]
    for hit, value in zip(hits, found, strict=True):
        kernels = [
            math.exp(-0.5 * sum(((a - b) / w) ** 2 for a, b, w in zip(hit, photon, widths.values(), strict=True)))
            for photon in photons
        ]
        assert value == pytest.approx(math.log(np.sum(kernels) / np.prod(sums) / 50), abs=2e-2)


def test_simulated_oracle_patterns_raise():
    scorer = simulated_oracle.simulated_oracle(lambda hits: np.zeros(len(hits)))
    with pytest.raises(ValueError, match="LHCb TORCH alone"):
        scorer.score(random_events(), x=1.0, y=1.0, t=1.0)
