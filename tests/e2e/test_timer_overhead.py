"""What a timer costs."""

import subprocess
import sys

import pytest
from places import ROOT


@pytest.mark.backlog("B37")
def test_timer_off_costs_next_to_nothing():
    """In a process of its own, since here every call is checked for its types."""
    code = """
import timeit
from tofae_jax.engine.monitoring.timer import Timer
for enabled in (False, True):
    timer = Timer(enabled=enabled, most_spans=0)
    def measure():
        with timer.span("a"):
            pass
    print(min(timeit.repeat(measure, number=2000, repeat=50)) / 2000)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    off_s, on_s = map(float, answer.stdout.split())
    assert off_s < 1e-6
    assert off_s < on_s
