"""Simulation: pattern generators, and the detector that sees them."""
