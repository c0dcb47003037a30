"""Static capacities of the noise profiles. No JAX: the settings of the command line are checked against them."""

from __future__ import annotations

MAX_HOT_PIXELS = 64
"""hot pixels of a detector"""
MAX_CLUSTERS = 8
"""clusters per event"""
MAX_BURSTS = 8
"""time bursts per event"""
