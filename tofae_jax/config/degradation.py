"""Settings of the degradation and of its noise."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tofae_jax.config.types import (
    WIDEST,
    CountOrRange,
    NonNegative,
    Positive,
    Section,
    Seed,
    WidthOrRange,
    check_range,
)
from tofae_jax.core.noise_limits import MAX_BURSTS, MAX_CLUSTERS, MAX_HOT_PIXELS


class NoiseShares(Section, frozen=True):
    """share of each noise profile, named as in `core.noise.NOISE_PROFILES`, in any unit"""

    uniform: NonNegative = 1.0
    """share of noise that is uniform in x, y and t"""
    hot_pixels: NonNegative = 0.0
    """share of noise on a few pixels that fire too often"""
    clusters: NonNegative = 0.0
    """share of noise in Gaussian clusters"""
    gradient_x: NonNegative = 0.0
    """share of noise whose density rises with x"""
    gradient_y: NonNegative = 0.0
    """share of noise whose density rises with y"""
    time_bursts: NonNegative = 0.0
    """share of noise in short bursts"""
    data: NonNegative = 0.0
    """share of noise that is background of the events themselves: hits whose column origin is not 0"""

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each profile by name."""
        return {name: getattr(self, name) for name in NoiseShares.__struct_fields__}

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if sum(self.shares.values()) <= 0:
            raise ValueError(f"at least one of {', '.join(self.shares)} must be above 0")


class NoiseConfig(NoiseShares, frozen=True):
    """shares of the noise profiles, in any unit, and their sizes"""

    n_hot_pixels: Annotated[int, msgspec.Meta(ge=1, le=MAX_HOT_PIXELS)] = 10
    """number of hot pixels"""
    hot_pixel_seed: Seed = 0
    """which pixels are hot"""
    n_clusters: Annotated[int, msgspec.Meta(ge=1, le=MAX_CLUSTERS)] = 3
    """clusters per event"""
    cluster_sigma_pixels: Positive = 3.0
    """width of a cluster in x and y, in pixels"""
    cluster_sigma_ns: Positive = 0.5
    """width of a cluster in time, in ns"""
    n_bursts: Annotated[int, msgspec.Meta(ge=1, le=MAX_BURSTS)] = 2
    """time bursts per event"""
    burst_sigma_ns: Positive = 0.125
    """width of a burst, in ns"""


class DegradationConfig(Section, frozen=True):
    """from a dense pattern to what a detector sees"""

    n_signal: CountOrRange = 30
    """signal hits kept per event, a number or a range"""
    selection: Literal["random", "even"] = "random"
    """which signal hits are kept: drawn at random, or evenly spaced along the pattern"""
    smear_x_mm: WidthOrRange = 0.0
    """Gaussian smearing in x, in mm, at most the detector's width; of a range each event has its own width"""
    smear_y_mm: WidthOrRange = 0.0
    """Gaussian smearing in y, in mm, at most the detector's height, likewise"""
    smear_t_ns: WidthOrRange = 0.0
    """Gaussian smearing in time, in ns, at most the time window, likewise"""
    overflow: Literal["drop", "clamp"] = "drop"
    """hits smeared out of the detector or window are dropped, or clamped to its edge"""
    n_noise: CountOrRange = 200
    """noise hits added per event, a number or a range"""
    noise: NoiseConfig = NoiseConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_range("n_signal", self.n_signal)
        check_range("n_noise", self.n_noise)
        for name in ("smear_x_mm", "smear_y_mm", "smear_t_ns"):
            check_range(name, getattr(self, name), most=WIDEST)
