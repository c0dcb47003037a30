"""Simulation: pattern generators, and the detector that sees them."""

# in the provenance of what is simulated
PATTERN_GENERATOR = "tofae_jax.simulation.patterns"
"""toy patterns; their event column `pattern` counts in `patterns.PATTERNS`"""
MODULE_GENERATOR = "tofae_jax.simulation.lhcb_torch"
