"""Settings of a run: frozen typed structs.

Units are in the names. The docstring under each field is its help on the command line. No array library here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from tyro.conf import Suppress

from tofae_jax.config.data import DataConfig
from tofae_jax.config.degradation import DegradationConfig
from tofae_jax.config.losses import EvaluationLossConfig, LossConfig
from tofae_jax.config.models import ModelConfig
from tofae_jax.config.monitoring import InstrumentsConfig, TrackingConfig
from tofae_jax.config.plugins import Kind, plugin_settings, registered
from tofae_jax.config.schedules import ScheduleConfig
from tofae_jax.config.training import CheckpointsConfig, RunsConfig, StartConfig, TrainConfig
from tofae_jax.config.types import BelowOne, Fraction, ManyCount, NonNegative, Positive, Section, Seed
from tofae_jax.core.detector import Detector


class NormalisationConfig(Section, frozen=True):
    """how images enter and leave the network"""

    name: Literal["gapped", "binary", "none"] = "gapped"
    """gapped: r + (1 - r) t/T; binary: lit or not; none: time bins as they are, for models whose outputs
    are not bounded by 1"""
    threshold: BelowOne = 0.5
    """r: outputs up to it are no hits"""


class MaskConfig(Section, frozen=True):
    """masked output"""

    tof_tolerance_ns: NonNegative | None = None
    """keep a hit only where the direct output's ToF agrees within this, in ns, at most the time window; None:
    any ToF"""
    score_threshold: Fraction | None = None
    """keep hits of a higher score; None: 0.5 for scores of hits, the normalisation's threshold for images"""
    choose: Literal["none", "f1", "efficiency", "purity"] = "none"
    """choose both of the above on the validation events: for the best F1, or for an efficiency or purity wanted"""
    wanted: Fraction | None = None
    """the least efficiency or purity, where mask.choose asks for one"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if self.choose in ("efficiency", "purity") and not self.wanted:
            raise ValueError(f"wanted must be above 0 where choose is {self.choose}, got {self.wanted}")
        if self.choose in ("none", "f1") and self.wanted is not None:
            raise ValueError(f"wanted is {self.wanted}, but choose is {self.choose}: it means nothing there")


class OptimiserConfig(Section, frozen=True):
    """AdamW"""

    learning_rate: Positive = 1e-3
    """step size, the largest of the run"""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant, or falling along half a cosine to 0 at the end of the run"""
    warmup_steps: ManyCount = 0
    """steps over which the learning rate rises linearly from 0"""
    weight_decay: NonNegative = 1e-4
    """decoupled weight decay"""
    clip_norm: Positive | None = None
    """gradients of a larger norm are shortened to this; None: none are"""


PrecisionName = Literal["float32", "bfloat16", "float16", "float64", "mixed_bfloat16", "mixed_float16"]


Steps = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class PrecisionConfig(Section, frozen=True):
    """dtypes of the network; losses, metrics and statistics are never below float32"""

    policy: PrecisionName = "float32"
    """dtype of parameters, computation and outputs; mixed: parameters and outputs are float32"""
    matmul: Literal["default", "high", "highest"] = "default"
    """matrix products of float32 on accelerators: default is the quickest (TF32, bfloat16), highest is full float32"""
    fallback: Literal["bfloat16", "float32"] = "bfloat16"
    """what to go on with where float16 fails for good"""
    initial_loss_scale: Annotated[float, msgspec.Meta(ge=1, le=2**24)] = 2.0**15
    """float16: first factor of the loss"""
    scale_growth_steps: Steps = 1000
    """float16: good steps in a row after which the factor is doubled"""
    fallback_after: Steps = 10
    """float16: steps skipped in a row at the smallest factor (1) after which to fall back, at the next look"""


class MetricsConfig(Section, frozen=True):
    """what the metrics count as right"""

    tof_tolerance_ns: NonNegative = 0.25
    """true positives near in time: ToF within this, in ns, at most the time window"""


class Config(Section, frozen=True):
    """one training run"""

    seed: Seed = 0
    """seed of the weights and of every draw"""
    detector: Detector = Detector()
    data: DataConfig = DataConfig()
    degradation: DegradationConfig = DegradationConfig()
    normalisation: NormalisationConfig = NormalisationConfig()
    mask: MaskConfig = MaskConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    evaluation_loss: EvaluationLossConfig = EvaluationLossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    precision: PrecisionConfig = PrecisionConfig()
    metrics: MetricsConfig = MetricsConfig()
    train: TrainConfig = TrainConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    tracking: TrackingConfig = TrackingConfig()
    instruments: InstrumentsConfig = InstrumentsConfig()
    start: StartConfig = StartConfig()
    runs: RunsConfig = RunsConfig()
    plugins: Annotated[tuple[str, ...], Suppress] = ()
    """modules that register further models and losses; on the command line, --plugin"""
    schedules: Annotated[dict[str, ScheduleConfig], Suppress] = {}
    """settings of the training that change from epoch to epoch, by key; on the command line, --schedules.KEY.kind …"""

    def __post_init__(self) -> None:
        """Refuse choices that do not fit each other."""
        if self.normalisation.name == "binary" and self.mask.tof_tolerance_ns is not None:
            raise ValueError("mask.tof_tolerance_ns needs times, which normalisation.name binary does not keep")


ChoiceSection = ModelConfig | LossConfig | EvaluationLossConfig
S = TypeVar("S", ModelConfig, LossConfig, EvaluationLossConfig)


def selected_settings(section: ChoiceSection) -> dict[str, Any]:
    """Return the settings of the model or loss that a section chooses by name, and of no other."""
    if section.name in section.__struct_fields__:
        return msgspec.structs.asdict(getattr(section, section.name))
    kind: Kind = "model" if isinstance(section, ModelConfig) else "loss"
    return plugin_settings(kind, section.name, section.plugin)


def with_selected(section: S, **changes: Any) -> S:
    """Return a section with other settings of the model or loss that it chooses."""
    if section.name not in section.__struct_fields__:
        return msgspec.structs.replace(section, plugin={**section.plugin, **changes})
    own = msgspec.structs.replace(getattr(section, section.name), **changes)
    return msgspec.structs.replace(section, **{section.name: own})


def with_plugins(config: Config) -> Config:
    """Return settings that list the plugins of the models and losses in use, with all settings of these."""
    plugins, changed = list(config.plugins), {}
    sections: dict[Kind, tuple[str, ...]] = {"model": ("model",), "loss": ("loss", "evaluation_loss")}
    for kind, keys in sections.items():
        for key in keys:
            section = getattr(config, key)
            entry = registered(kind, section.name)
            if entry is not None:
                plugins += [entry.plugin] if entry.plugin and entry.plugin not in plugins else []
                settings = selected_settings(section).items()
                plain = {name: list(value) if isinstance(value, tuple) else value for name, value in settings}
                changed[key] = msgspec.structs.replace(section, plugin=plain)
    return msgspec.structs.replace(config, plugins=tuple(plugins), **changed)
