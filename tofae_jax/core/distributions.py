"""Histograms of the hits of a dataset."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Distributions(NamedTuple):
    """Histograms over all events; index = value."""

    hits_per_event: np.ndarray
    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    occlusion: np.ndarray
    """[2, n]: per event with `n` hits, how many such events, and how many of their hits share a pixel with another"""
    xt: np.ndarray = np.zeros((0, 0), np.int64)
    """[n_x, n_t + 1], grouped by `plane_groups`: hits by column and time bin; of signal alone where that is known"""
    yt: np.ndarray = np.zeros((0, 0), np.int64)
    """[n_y, n_t + 1], grouped: likewise by row"""
    hits_per_track: np.ndarray = np.zeros(0, np.int64)
    """signal hits of each track; empty where the hits' tracks are not known"""


_MOST_CELLS = 2**23  # of a plane without groups: 64 MiB
_MOST_PLACES, _MOST_TIMES = 1024, 4096


def plane_groups(n_places: int, n_t: int) -> tuple[int, int]:
    """Return how many neighbours in place and in time share a cell of a plane; 1 and 1 for detectors of usual sizes.

    A detector has up to 32767 columns, rows and time bins, whose planes would take 9 GB each.
    """
    if n_places * (n_t + 1) <= _MOST_CELLS:
        return 1, 1
    return math.ceil(n_places / _MOST_PLACES), math.ceil((n_t + 1) / _MOST_TIMES)


def plane_shape(n_places: int, n_t: int) -> tuple[int, int]:
    """Return the shape of a plane."""
    of_places, of_times = plane_groups(n_places, n_t)
    return math.ceil(n_places / of_places), math.ceil((n_t + 1) / of_times)
