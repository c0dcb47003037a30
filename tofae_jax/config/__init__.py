"""Settings of a run and of the commands. No array library is imported here, so that `--help` is quick."""

from tofae_jax.config.data import DataConfig, SimulateConfig, parse_mixture
from tofae_jax.config.degradation import DegradationConfig, NoiseConfig
from tofae_jax.config.epochs import at_epoch, in_force
from tofae_jax.config.lhcb_torch import LhcbTorchConfig
from tofae_jax.config.loading import ConfigError, checked, from_tree, leaves, read_toml, to_tree
from tofae_jax.config.losses import SAME, EvaluationLossConfig, LossConfig
from tofae_jax.config.models import ModelConfig
from tofae_jax.config.monitoring import InstrumentsConfig
from tofae_jax.config.plugins import AUTO
from tofae_jax.config.run import (
    Config,
    MaskConfig,
    OptimiserConfig,
    PrecisionName,
    selected_settings,
    with_plugins,
    with_selected,
)
from tofae_jax.config.schedules import ScheduleConfig
from tofae_jax.config.training import parse_duration
from tofae_jax.config.types import PlotMode, as_range
from tofae_jax.config.unused import only_used

__all__ = [
    "AUTO",
    "SAME",
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
    "from_tree",
    "in_force",
    "leaves",
    "only_used",
    "parse_duration",
    "parse_mixture",
    "read_toml",
    "selected_settings",
    "to_tree",
    "with_plugins",
    "with_selected",
]
