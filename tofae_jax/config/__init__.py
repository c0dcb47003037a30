"""Settings of a run and of the commands. No array library is imported here, so that `--help` is quick."""

from tofae_jax.config.losses import AUTO, EvaluationLossConfig, LossConfig
from tofae_jax.config.models import ModelConfig
from tofae_jax.config.reading import ConfigError, checked, from_tree, leaves, only_chosen, read_toml, to_tree
from tofae_jax.config.running import InstrumentsConfig, PlotMode, parse_duration
from tofae_jax.config.schedules import ScheduleConfig, at_epoch, in_force
from tofae_jax.config.sections import (
    Config,
    DataConfig,
    DegradationConfig,
    MaskConfig,
    NoiseConfig,
    OptimiserConfig,
    PrecisionName,
    SimulateConfig,
    as_range,
    chosen,
    parse_mixture,
)
from tofae_jax.config.simulation import LhcbTorchConfig

__all__ = [
    "AUTO",
    "Config",
    "ConfigError",
    "DataConfig",
    "DegradationConfig",
    "EvaluationLossConfig",
    "InstrumentsConfig",
    "LhcbTorchConfig",
    "LossConfig",
    "MaskConfig",
    "ModelConfig",
    "NoiseConfig",
    "OptimiserConfig",
    "PlotMode",
    "PrecisionName",
    "ScheduleConfig",
    "SimulateConfig",
    "as_range",
    "at_epoch",
    "checked",
    "chosen",
    "from_tree",
    "in_force",
    "leaves",
    "only_chosen",
    "parse_duration",
    "parse_mixture",
    "read_toml",
    "to_tree",
]
