"""What is known of the LHCb TORCH module itself: its measures and optics, its simulation, and track reconstruction.

The simulation (`tofae_jax.lhcb_torch.simulation`) draws photons by the same formulas that the models invert.
"""
