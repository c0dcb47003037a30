"""A cut on the number of neighbours in scaled x, y and t."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from .events import EventSet
from .methods import HitScorer, grid

REACH = 1 + 1e-9  # scaled: a neighbour at just one scale's distance counts, however its distance is rounded
APART = 4.0  # scaled distance of events: none has neighbours in another


def neighbour_counts(events: EventSet, *, x: float, y: float, t: float) -> np.ndarray:
    """How many other hits of its event lie within distance 1 of each, in x, y (pixels) and t (bins) over these scales.

    float[n, k]; minus infinity in empty slots. Hits that are equal are neighbours.
    """
    event = np.nonzero(events.filled)[0]
    places = np.column_stack([events.hits[events.filled] / (x, y, t), event * APART])
    counts = np.full(events.filled.shape, -np.inf)
    if len(places):
        counts[events.filled] = KDTree(places).query_ball_point(places, REACH, return_length=True) - 1
    return counts


def neighbour_cut() -> HitScorer:
    """The count as a score, its scales and threshold chosen on validation events."""
    scales = grid(x=(3.0, 6.0, 12.0, 24.0), y=(3.0, 6.0, 12.0, 24.0, 48.0), t=(3.0, 6.0, 12.0, 24.0, 48.0))
    return HitScorer("neighbours", neighbour_counts, scales, settings_events=20, chosen_anew=True)
