"""Sizes of the models, the only place of their defaults: one section each, with the names of its module's fields.

A new model adds its section and one field of `ModelSections` here, and one line in `models.registry.MODELS`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from tyro.conf import arg

from tofae_jax.config.plugins import Settings, check_model_or_loss
from tofae_jax.config.types import Count, Layers, NonNegative, Number, Positive, PositiveCount, Section, Width

Resolution = Annotated[float, msgspec.Meta(ge=0.005, le=1e3)]  # a finer one would ask for very many collision times


class AutoencoderConfig(Section, frozen=True):
    """sizes of the autoencoder"""

    latent: Width = 24
    """length of the latent vector"""
    fc: Width = 128
    """features of the dense layers around the latent vector"""


class HitTransformerConfig(Section, frozen=True):
    """sizes of the hit transformer"""

    width: Width = 32
    """features per hit"""
    hidden: Width = 64
    """hidden features per hit"""
    layers: Layers = 3
    """layers; in each, hits and event exchange what they hold"""
    queries: Width = 12
    """latent queries per layer"""
    value_width: Width = 16
    """value width per query"""
    event_width: Width = 192
    """features of the event"""
    frequencies: Width = 24
    """learned waves in x, y and t that encode the position of a hit"""
    finest: Positive = 50.0
    """length of the shortest wave at initialisation, in cells along the axis with most"""


class UNetConfig(Section, frozen=True):
    """sizes of the U-Net"""

    width: Width = 48
    """channels of the finest level, whose places are 4x4 pixels; each level below has twice the channels"""
    depth: Annotated[int, msgspec.Meta(ge=1, le=12)] = 2
    """levels"""
    n_fourier: Annotated[int, msgspec.Meta(ge=1, le=16)] = 8
    """Fourier features of a time; the first wave is as long as the window, each next one half as long"""
    coincidences: Width = 4
    """learned kernels that count the hits near in position and time"""
    regress_tof: bool = True
    """whether the image has a ToF; otherwise it is a probability, which suits normalisation binary"""


class LhcbTorchModelConfig(Section, frozen=True):
    """sizes of the blind model for LHCb TORCH: its network, and the track search that starts from its samples"""

    width: Width = 96
    """features per hit"""
    hidden: Width = 192
    """hidden features per hit"""
    layers: Layers = 4
    """layers; in each, hits and event exchange what they hold"""
    queries: Width = 32
    """latent queries per layer"""
    value_width: Width = 16
    """value width per query"""
    event_width: Width = 256
    """features of the event"""
    frequencies: Width = 64
    """learned waves in x, y and t that encode the position of a hit"""
    laws: Width = 8
    """components of the Gaussian mixture over the track's parameters"""
    tracks_weight: NonNegative = 0.1
    """weight of the mixture's negative log-likelihood in the training loss"""
    samples: Count = 4096
    """track candidates sampled from the mixture; 0: no search, the network's own scores"""
    improved: PositiveCount = 256
    """candidates kept after sampling"""
    refined: PositiveCount = 32
    """candidates kept for refinement and posterior sampling"""
    searched_hits: Width = 128
    """hits that the search uses, those with the highest scores of the network; all hits are scored in the end"""
    time_sigma_ns: Resolution = 0.08
    """assumed time resolution [ns]: photon tube plus unmodelled path"""
    found_weight: Number = 0.85
    """weight, in a hit's score, of its log-odds given the tracks that the search found"""
    network_weight: Number = 0.55
    """weight, in a hit's score, of its log-odds from the network"""
    offset: Number = -0.86
    """constant of a hit's score; benchmarks/fit_combination.py fits these three numbers to a network"""


class LhcbTorchTracksConfig(Section, frozen=True):
    """settings of the model for LHCb TORCH that is given the tracks"""

    time_sigma_ns: Resolution = 0.08
    """assumed time resolution [ns]: photon tube plus unmodelled path"""
    width: Width = 32
    """hidden features of its corrections"""


class ModelSections(Section, frozen=True):
    """sizes of every model, by its name in the registry; `name` chooses one of them"""

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    hit_transformer: HitTransformerConfig = HitTransformerConfig()
    unet: UNetConfig = UNetConfig()
    lhcb_torch: LhcbTorchModelConfig = LhcbTorchModelConfig()
    lhcb_torch_tracks: LhcbTorchTracksConfig = LhcbTorchTracksConfig()


MODEL_NAMES = ModelSections.__struct_fields__


class ModelConfig(ModelSections, frozen=True):
    """the network"""

    name: Annotated[str, arg(help=f"which model: {', '.join(MODEL_NAMES)}, or one of a plugin")] = "autoencoder"
    plugin: Settings = {}
    """sizes of a plugin's model, by name"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_model_or_loss("model", "model", self.name, self.plugin, MODEL_NAMES)
