"""What is known of the LHCb TORCH module itself: its measures, its optics, and what hits a track makes likely.

The simulation (`tofae_jax.lhcb_torch.simulation`) draws photons by the same formulas that the models invert.
"""
