"""Thresholds that a run chooses."""

import numpy as np
import pytest
from small_training import config

from tofae_jax.engine.build import build_run
from tofae_jax.engine.operating_point import chosen_point, point_record
from tofae_jax.metrics import ScoreSums
from tofae_jax.metrics.hit_scores import N_SCORES, TIME_EDGES


@pytest.mark.parametrize("column", range(len(TIME_EDGES) + 1))
def test_chosen_point_tolerance_can_be_given_too(column):
    """What a run chooses is no longer than its time window, beyond which `mask.tof_tolerance_ns` is refused."""
    settings = config(mask={"choose": "f1"})
    signal = np.zeros((N_SCORES, len(TIME_EDGES) + 1), np.int64)
    signal[N_SCORES // 2, column] = 5
    sums = ScoreSums(signal, signal[::-1] * 0, np.int64(5))
    record = point_record(settings, chosen_point(settings, build_run(settings).options, sums))
    assert record["tof_tolerance_ns"] is None or record["tof_tolerance_ns"] < settings.detector.window_ns
    assert record["validation"]["f1"] == 1.0
