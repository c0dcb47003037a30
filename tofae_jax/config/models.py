"""Sizes of the models."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tofae_jax.config.types import Count, NonNegative, Positive, PositiveCount, Section, Weight

Resolution = Annotated[float, msgspec.Meta(ge=0.005, le=1e3)]  # a finer one would ask for very many collision times


class AutoencoderConfig(Section, frozen=True):
    """sizes of the autoencoder"""

    latent: PositiveCount = 24
    """length of the latent vector"""
    fc: PositiveCount = 128
    """length of the dense layers around it"""


class HitTransformerConfig(Section, frozen=True):
    """sizes of the hit transformer"""

    width: PositiveCount = 32
    """length of a hit's description"""
    hidden: PositiveCount = 64
    """length of the layers between them"""
    layers: PositiveCount = 3
    """exchanges between hits and event"""
    queries: PositiveCount = 12
    """what each exchange looks for"""
    value_width: PositiveCount = 16
    """length of what a query brings back"""
    event_width: PositiveCount = 192
    """length of the event's description"""
    frequencies: PositiveCount = 24
    """waves in x, y and t that places are described by"""
    finest: Positive = 50.0
    """length of the shortest of them at first, in cells along the axis with most; they are learnt from there on"""


class UNetConfig(Section, frozen=True):
    """sizes of the U-Net"""

    width: PositiveCount = 48
    """channels of the finest level, of 4x4 pixels a place; each level below has twice the channels"""
    depth: PositiveCount = 2
    """levels"""
    n_fourier: Annotated[int, msgspec.Meta(ge=1, le=16)] = 8
    """waves that times are described by, each half as long as the one before; the first is as long as the window"""
    coincidences: PositiveCount = 4
    """ways to count the hits near in place and time, which are learnt"""
    regress_tof: bool = True
    """whether the image has a ToF, or is a chance only, as normalisation binary knows it"""


class LhcbTorchModelConfig(Section, frozen=True):
    """sizes of the blind model for LHCb TORCH: of its network, and of the search that starts from its guesses"""

    width: PositiveCount = 96
    """length of a hit's description"""
    hidden: PositiveCount = 192
    """length of the layers between them"""
    layers: PositiveCount = 4
    """exchanges between hits and event"""
    queries: PositiveCount = 32
    """what each exchange looks for"""
    value_width: PositiveCount = 16
    """length of what a query brings back"""
    event_width: PositiveCount = 256
    """length of the event's description"""
    frequencies: PositiveCount = 64
    """waves in x, y and t that places are described by"""
    laws: PositiveCount = 8
    """normal laws that guesses of the track are a mixture of"""
    tracks_weight: NonNegative = 0.1
    """weight of the guesses in the training loss"""
    samples: Count = 4096
    """guesses that the search starts from; 0: no search, the network's own scores"""
    improved: PositiveCount = 256
    """the best of them, that are improved"""
    refined: PositiveCount = 32
    """the best of those, that are refined, and around which the tracks lie that score the hits"""
    searched_hits: PositiveCount = 128
    """hits that the search looks at: those of the network's highest scores; all of them are scored in the end"""
    time_sigma_ns: Resolution = 0.08
    """resolution that times are taken to have: the photon tubes' and what else is not known of a photon's way"""
    found_weight: Weight = 0.85
    """in a hit's score, of its log odds by the tracks that the search has found"""
    network_weight: Weight = 0.55
    """of its log odds by the network"""
    offset: Weight = -0.86
    """added to both; benchmarks/fit_combination.py fits these three to a network"""


class LhcbTorchTracksConfig(Section, frozen=True):
    """the model for LHCb TORCH that is given tracks"""

    time_sigma_ns: Resolution = 0.08
    """resolution that times are taken to have: the photon tubes' and what else is not known of a photon's way"""
    width: PositiveCount = 32
    """length of the layers of its corrections"""


class ModelConfig(Section, frozen=True):
    """the network"""

    name: Literal["autoencoder", "hit_transformer", "unet", "lhcb_torch", "lhcb_torch_tracks"] = "autoencoder"
    """which model"""
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    hit_transformer: HitTransformerConfig = HitTransformerConfig()
    unet: UNetConfig = UNetConfig()
    lhcb_torch: LhcbTorchModelConfig = LhcbTorchModelConfig()
    lhcb_torch_tracks: LhcbTorchTracksConfig = LhcbTorchTracksConfig()
