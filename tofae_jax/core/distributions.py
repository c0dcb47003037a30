"""Histograms of the hits of a dataset."""

from __future__ import annotations

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
    """[n_x, n_t + 1]: hits by column and time bin; of signal alone where the hits' origin is known"""
    yt: np.ndarray = np.zeros((0, 0), np.int64)
    """[n_y, n_t + 1]: likewise by row"""
    hits_per_track: np.ndarray = np.zeros(0, np.int64)
    """signal hits of each track; empty where the hits' tracks are not known"""
