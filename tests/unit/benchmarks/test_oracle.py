"""The oracle's densities against loops."""

import itertools
import math

import numpy as np
import pytest
from quality_benchmark import SMALL, event_set, oracle


def slow_log_density(hit, photons, widths, n_cells):
    total = 0
    for photon in photons:
        kernels = [
            math.exp(-0.5 * ((a - b) / w) ** 2) / (w * math.sqrt(2 * math.pi))
            for a, b, w in zip(hit, photon, widths, strict=True)
        ]
        total += math.prod(kernels) / len(photons)
    return math.log(total + oracle.UNEXPLAINED / n_cells)


def test_log_signal_density_equals_a_loop_without_own_photon():
    rng = np.random.default_rng(0)
    patterns = [np.column_stack([rng.integers(0, 6, n), rng.integers(0, 5, n), rng.integers(1, 21, n)]) for n in (7, 4)]
    hits = np.zeros((2, 5, 3), np.int32)
    photon = np.full((2, 5), -1)
    for i, chosen in enumerate([(2, 5, 6), (0, 3)]):
        hits[i, : len(chosen)], photon[i, : len(chosen)] = patterns[i][list(chosen)], chosen
    hits[:, 3] = (1, 2, 3)
    event = event_set(hits, photon >= 0, photon=photon, patterns=[p.astype(np.int16) for p in patterns])
    found = oracle.log_signal_density(event, x=1.5, y=0.7, t=3.0)
    for i, j in np.argwhere(event.filled):
        others = [own for k, own in enumerate(patterns[i].tolist()) if k != photon[i, j]]
        expected = slow_log_density(hits[i, j], others, (1.5, 0.7, 3.0), 600)
        assert found[i, j] == pytest.approx(expected, abs=1e-4)


def test_log_signal_density_photon_alone_does_not_vouch():
    """Planted: one photon and nothing near it. With it left in (the control) the oracle would know its hit."""
    hit = [[[3, 2, 10]]]
    pattern = [np.array([[3, 2, 10]], np.int16)]
    honest, cheating = (event_set(hit, [[True]], photon=[[own]], patterns=pattern) for own in (0, -1))
    log_noise = math.log(1 / 600)
    widths = {"x": 0.5, "y": 0.5, "t": 1.0}
    assert oracle.log_signal_density(honest, **widths)[0, 0] < log_noise - 10
    assert oracle.log_signal_density(cheating, **widths)[0, 0] > log_noise + 5
    two = [np.repeat(pattern[0], 2, axis=0)]  # another photon at the very same place does
    assert oracle.log_signal_density(event_set(hit, [[True]], photon=[[0]], patterns=two), **widths)[0, 0] > log_noise


def test_noise_density_is_normalised_and_follows_the_hits():
    rng = np.random.default_rng(0)
    cells = np.array(list(itertools.product(range(6), range(5), range(1, 21))))
    hits = np.column_stack([rng.integers(0, 3, 500), rng.integers(0, 5, 500), rng.integers(1, 21, 500)])
    for density in (oracle.smoothed(hits, SMALL), oracle.of_pixels(hits, SMALL)):
        assert np.exp(density(cells)).sum() == pytest.approx(1, abs=1e-4)
        assert density(np.array([0, 2, 5])) > density(np.array([5, 2, 5]))
    uniform = oracle.noise_density("v", seed=0, detector=SMALL)
    np.testing.assert_allclose(uniform(cells), -math.log(600))
