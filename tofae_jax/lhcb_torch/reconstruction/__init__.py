"""Track reconstruction from the hits of one LHCb TORCH module."""
