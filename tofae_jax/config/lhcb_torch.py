"""Settings of the simulated LHCb TORCH module, with the names and defaults of the simulation's own numbers."""

from __future__ import annotations

from typing import Literal

from tofae_jax.config.types import NonNegative, Section, Seed

Pair = tuple[float, float]


class ModuleConfig(Section, frozen=True):
    """plate, photons, optics, tubes and tracks of the simulated module"""

    width_mm: float = 660.0
    """radiator plate in x"""
    height_mm: float = 1250.0
    """radiator plate in y"""
    thickness_mm: float = 10.0
    """radiator plate in z"""
    energy_knots_ev: tuple[float, float, float, float] = (2.0, 3.5, 5.0, 6.2)
    """photon energies where the quantum efficiency starts, has risen, starts to fall and ends"""
    peak_efficiency: float = 0.25
    """quantum efficiency between the middle two"""
    collection: float = 0.47
    """share of the photons seen by the cathode that become hits"""
    dense_factor: float = 2000 / 30
    """how many times the photons of a real track a dense pattern has"""
    theta_z_rad: Pair = (0.45, 0.95)
    """angles that the optics focus onto the first and the last row"""
    time_sigma_ns: float = 0.070
    """time resolution of one photon"""
    flight_path_mm: float = 9500.0
    """from the collision to the plate"""
    bunch_sigma_ns: float = 0.18
    """spread of a collision's time within its bunch crossing"""
    window_margin_ns: float = 0.25
    """between the window's start and the first photon that is possible"""
    window_jitter_ns: float = 2.0
    """the window starts earlier by up to this"""
    momentum_gev: Pair = (2.0, 10.0)
    """momenta of tracks in GeV/c"""
    particle_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """shares of pions, kaons and protons, in any unit"""
    x_mm: Pair = (-330.0, 330.0)
    """impact points, from the middle of the plate"""
    y_mm: Pair = (-625.0, 625.0)
    """likewise"""
    slope_x: Pair = (-0.25, 0.25)
    """dx/dz of tracks"""
    slope_y: Pair = (-0.25, 0.25)
    """dy/dz of tracks"""


class BackgroundConfig(Section, frozen=True):
    """mean numbers of background per event; 0 switches one off"""

    n_other_tracks: float = 7.0
    """other tracks through the module, each with the photons of a real track"""
    n_dark: float = 5.0
    """dark counts, uniform in x, y and time"""
    n_hot: float = 5.0
    """hits of hot pixels, uniform in time"""
    n_hot_pixels: int = 10
    """pixels that fire too often, 1 to 64"""
    hot_pixel_seed: Seed = 0
    """which pixels are hot"""
    afterpulse_chance: float = 0.02
    """chance that a hit is followed by an afterpulse in its pixel"""
    afterpulse_delay_ns: float = 1.0
    """shortest delay of an afterpulse"""
    afterpulse_tau_ns: NonNegative = 6.0
    """mean of the exponential law of its delay beyond that"""


class LhcbTorchConfig(Section, frozen=True):
    """the pattern lhcb_torch: one module of TORCH for LHCb"""

    photons: Literal["dense", "detected"] = "dense"
    """dense: patterns of some 2000 photons per track, to train with; detected: the 30 or so that a detector sees"""
    module: ModuleConfig = ModuleConfig()
    background: BackgroundConfig = BackgroundConfig()
