"""Settings of the losses: one section each, with the names and defaults of the loss functions' own arguments.

A new loss adds its section and one field of `LossSections` here, and one line in `losses.registry.LOSSES`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from tyro.conf import arg

from tofae_jax.config.plugins import Settings, check_model_or_loss
from tofae_jax.config.types import Fraction, NonNegative, Section

SAME = "same"
"""name of an evaluation loss that is the training loss, with its settings"""
AutoWeight = NonNegative | Literal["auto"]
"""weight of a class; auto: the size of the opposite class per size of its own, see `losses.registry.Loss.auto`"""
PixelLossName = Literal["mse", "mae", "bce", "sse", "binary_mse"]


class AcbMseConfig(Section, frozen=True):
    """weights of acb_mse"""

    zero_weight: AutoWeight = 1.0
    """of the mean over pixels without a hit; auto: hit pixels per zero pixel in the training data"""
    hit_weight: AutoWeight = 1.0
    """of the mean over pixels with a hit; auto: zero pixels per hit pixel in the training data"""


class MseConfig(Section, frozen=True):
    """mse has no settings"""


class MaeConfig(Section, frozen=True):
    """mae has no settings"""


class BceConfig(Section, frozen=True):
    """settings of bce"""

    epsilon: Annotated[float, msgspec.Meta(ge=1e-7, lt=0.5)] = 1e-6
    """predictions are clipped this far from 0 and 1"""


class SseConfig(Section, frozen=True):
    """sse has no settings"""


class AcbMseMeanConfig(AcbMseConfig, frozen=True):
    """weights of acb_mse_mean"""


class FfAcbMseConfig(AcbMseConfig, frozen=True):
    """weights of ff_acb_mse"""

    full_weight: NonNegative = 1.0
    """of the mean over all pixels"""


class SplitConfig(AcbMseConfig, frozen=True):
    """component losses of split and their weights"""

    zero_loss: PixelLossName = "mse"
    """loss over pixels without a hit"""
    hit_loss: PixelLossName = "mae"
    """loss over pixels with a hit"""


class BinaryMseConfig(Section, frozen=True):
    """binary_mse has no settings"""


class ClassMseConfig(Section, frozen=True):
    """weights of class_mse; auto: pixels of the target's other class per pixel of its own, in the training data"""

    true_negative_weight: AutoWeight = 1.0
    """of zero pixels that the output leaves at exactly 0"""
    true_positive_weight: AutoWeight = 1.0
    """of hit pixels that the output lights"""
    false_negative_weight: AutoWeight = 1.0
    """of hit pixels that the output leaves at exactly 0"""
    false_positive_weight: AutoWeight = 1.0
    """of zero pixels that the output lights"""
    full_weight: NonNegative = 1.0
    """of all pixels"""


class AcbMse3dConfig(AcbMseConfig, frozen=True):
    """settings of acb_mse_3d, whose threshold is that of the normalisation"""

    n_time_bins: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    """time bins of the (x, t) and (y, t) projections"""


class HitBceConfig(Section, frozen=True):
    """weights of hit_bce"""

    signal_weight: AutoWeight = 1.0
    """of signal hits; auto: noise hits per signal hit"""
    noise_weight: AutoWeight = 1.0
    """of noise hits; auto: signal hits per noise hit"""


class HitFocalConfig(Section, frozen=True):
    """settings of hit_focal"""

    alpha: Fraction = 0.25
    """weight of signal hits; noise hits have 1 - alpha"""
    gamma: NonNegative = 2.0
    """how much less a hit counts that is already clear"""


class LossSections(Section, frozen=True):
    """settings of every loss, by its name in the registry; `name` chooses one of them"""

    acb_mse: AcbMseConfig = AcbMseConfig()
    mse: MseConfig = MseConfig()
    mae: MaeConfig = MaeConfig()
    bce: BceConfig = BceConfig()
    sse: SseConfig = SseConfig()
    acb_mse_mean: AcbMseMeanConfig = AcbMseMeanConfig()
    ff_acb_mse: FfAcbMseConfig = FfAcbMseConfig()
    split: SplitConfig = SplitConfig()
    binary_mse: BinaryMseConfig = BinaryMseConfig()
    class_mse: ClassMseConfig = ClassMseConfig()
    acb_mse_3d: AcbMse3dConfig = AcbMse3dConfig()
    hit_bce: HitBceConfig = HitBceConfig()
    hit_focal: HitFocalConfig = HitFocalConfig()


LOSS_NAMES = LossSections.__struct_fields__


class LossConfig(LossSections, frozen=True):
    """the training loss"""

    name: Annotated[str, arg(help=f"which loss: {', '.join(LOSS_NAMES)}, or one of a plugin")] = "acb_mse"
    plugin: Settings = {}
    """settings of a plugin's loss, by name"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_model_or_loss("loss", "loss", self.name, self.plugin, LOSS_NAMES)


class EvaluationLossConfig(LossSections, frozen=True):
    """the loss of validation and evaluation"""

    name: Annotated[
        str,
        arg(help=f"which loss: {SAME} (the training loss, with its settings), {', '.join(LOSS_NAMES)}, or a plugin's"),
    ] = SAME
    plugin: Settings = {}
    """settings of a plugin's loss, by name"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_model_or_loss("evaluation_loss", "loss", self.name, self.plugin, (SAME, *LOSS_NAMES))
