"""Counts of neighbours against brute force."""

import numpy as np
from quality_benchmark import hit_lists, neighbours, random_events


def test_neighbour_counts_equal_brute_force():
    event = random_events(n=3, k=40, seed=5)
    event.hits[0, 1] = event.hits[0, 0]  # equal hits are neighbours
    scales = {"x": 2.0, "y": 1.0, "t": 3.0}
    found = neighbours.neighbour_counts(event, **scales)
    for i, hits in enumerate(hit_lists(event)):
        for j, hit in enumerate(hits):
            near = 0
            for k, other in enumerate(hits):
                far = sum(((a - b) / s) ** 2 for a, b, s in zip(hit, other, scales.values(), strict=True))
                near += k != j and far <= 1 + 1e-9
            assert found[i, j] == near
    assert (found[~event.filled] == -np.inf).all()
    assert found.max() > 0
