"""Build the model, optimiser and step options of a run from its `Config`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
import optax

from tofae_jax import losses
from tofae_jax.config import (
    AUTO,
    SAME,
    Config,
    ConfigError,
    DegradationConfig,
    EvaluationLossConfig,
    LhcbTorchConfig,
    LossConfig,
    OptimiserConfig,
    SimulateConfig,
    as_range,
    at_epoch,
    selected_settings,
)
from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.core.detector import Detector
from tofae_jax.core.noise import NOISE_PROFILES, NoiseSettings
from tofae_jax.core.normalisation import normalisation_by_name
from tofae_jax.core.precision import Policy, policy_by_name
from tofae_jax.lhcb_torch.simulation import ModuleSettings, check_settings
from tofae_jax.models import MODELS, Model, build_model
from tofae_jax.steps import StepLoss, StepOptions, StepSettings, Target
from tofae_jax.steps.optimiser import build_optimiser
from tofae_jax.steps.options import reducible
from tofae_jax.steps.outputs import score_threshold
from tofae_jax.steps.state import TrainState, create_train_state

MOST_SCHEDULED_EPOCHS = 10_000
"""the settings of each are made before the first"""


class RunSetup(NamedTuple):
    """Everything of a run that is not an array, resolved once from its settings."""

    config: Config
    model: Model
    optimiser: optax.GradientTransformation
    options: StepOptions
    loss: losses.Loss
    evaluation_loss: losses.Loss

    @property
    def policy(self) -> Policy:
        """Dtypes of the model."""
        return policy_by_name(self.config.precision.policy)

    @property
    def score_threshold(self) -> float:
        """Score above which hits are kept."""
        mask, normalisation = self.config.mask, self.config.normalisation
        settings = StepSettings(score_threshold=mask.score_threshold, threshold=normalisation.threshold)
        return float(score_threshold(settings, self.options))

    def with_policy(self, policy: str) -> RunSetup:
        """Return the setup of the same run in another precision policy; itself where that is its own."""
        return self if policy == self.config.precision.policy else build_run(with_precision(self.config, policy))

    def fresh_state(self) -> TrainState:
        """Create the initial training state."""
        scale = self.config.precision.initial_loss_scale if self.policy.scales_loss else None
        return create_train_state(jax.random.key(self.config.seed), self.model, self.optimiser, loss_scale=scale)

    def step_settings(self, config: Config | None = None) -> StepSettings:
        """Collect the traced numbers of the steps, on the device; always of the same types, so nothing recompiles.

        Args:
            config: settings in force, e.g. those of an epoch; None: the run's own.
        """
        own = self.config if config is None else config
        bin_ns, tolerance_ns = own.detector.bin_ns, own.mask.tof_tolerance_ns
        settings = StepSettings(
            degradation=degradation_settings(own.degradation, own.detector),
            threshold=own.normalisation.threshold,
            score_threshold=self._replace(config=own).score_threshold,
            tof_tolerance_bins=float("inf") if tolerance_ns is None else tolerance_ns / bin_ns,
            loss_weights=_weights(own.loss, self.loss),
            evaluation_loss_weights=_weights(_evaluation_section(own), self.evaluation_loss),
            learning_rate=own.optimiser.learning_rate,
            tolerance_bins=own.metrics.tof_tolerance_ns / bin_ns,
            scale_growth_steps=own.precision.scale_growth_steps,
        )
        return jax.device_put(jax.tree.map(_typed, settings))


def build_run(config: Config) -> RunSetup:
    """Build model, optimiser and static options of a run; its settings have been checked by `checks.check_run`."""
    loss = losses.loss_by_name(config.loss.name)
    evaluation = _evaluation_section(config)
    evaluation_loss = loss if evaluation is config.loss else losses.loss_by_name(evaluation.name)
    detector, policy = config.detector, policy_by_name(config.precision.policy)
    of_module = MODELS[config.model.name].of_module
    model = build_model(
        config.model.name,
        shape_xyt=detector.shape,
        policy=policy,
        matmul=config.precision.matmul if config.precision.matmul != "default" else None,
        bin_ns=detector.bin_ns,
        module=module_settings(config.data.simulate) if of_module else None,
        **selected_settings(config.model),
    )
    epochs = [config, *every_epoch(config)]
    options = StepOptions(
        shape_xyt=detector.shape,
        max_signal=max(as_range(epoch.degradation.n_signal)[1] for epoch in epochs),
        max_noise=max(as_range(epoch.degradation.n_noise)[1] for epoch in epochs),
        loss=_step_loss(config.loss, loss),
        evaluation_loss=_step_loss(evaluation, evaluation_loss),
        normalisation=normalisation_by_name(config.normalisation.name),
        overflow=config.degradation.overflow,
        selection=config.degradation.selection,
        target=target_of_run(config, loss),
    )
    optimiser = build_optimiser(weight_decay=config.optimiser.weight_decay, clip_norm=config.optimiser.clip_norm)
    return RunSetup(config, model, optimiser, options, loss, evaluation_loss)


def losses_in_use(config: Config) -> dict[str, LossConfig | EvaluationLossConfig]:
    """Sections of the losses in use, by key."""
    sections = {"loss": config.loss, "evaluation_loss": config.evaluation_loss}
    return {key: section for key, section in sections.items() if section.name != SAME}


def target_of_run(config: Config, loss: losses.Loss) -> Target:
    """Return what images are compared with: the signal for losses of hits, else `train.target`."""
    return "signal" if loss.takes == "hits" else config.train.target


def _evaluation_section(config: Config) -> LossConfig | EvaluationLossConfig:
    return config.loss if config.evaluation_loss.name == SAME else config.evaluation_loss


def _step_loss(section: LossConfig | EvaluationLossConfig, loss: losses.Loss) -> StepLoss:
    settings = selected_settings(section)
    choices = tuple((name, settings[name]) for name in loss.choices)
    return StepLoss(reducible(loss.function), loss.takes, loss.reads_time, choices, loss.needs_unit_targets)


def _weights(section: LossConfig | EvaluationLossConfig, loss: losses.Loss) -> dict[str, float]:
    """Numbers of a loss; ValueError where one is still `auto`."""
    settings = selected_settings(section)
    for name in loss.weights:
        if settings[name] == AUTO:
            raise ValueError(f"{section.name}.{name} is {AUTO}: it must be resolved from the training data first")
    return {name: settings[name] for name in loss.weights}


def _in_cells(width: float | tuple[float, float], cell: float) -> float | tuple[float, float]:
    return (width[0] / cell, width[1] / cell) if isinstance(width, tuple) else width / cell


def degradation_settings(config: DegradationConfig, detector: Detector) -> DegradationSettings:
    """Convert the degradation settings from mm and ns to pixels and time bins."""
    noise = config.noise
    hot_pixel_seed: Any = np.uint32(noise.hot_pixel_seed)  # int32, as other counts are, holds half of all seeds
    return DegradationSettings(
        n_signal=as_range(config.n_signal),
        sigma_x_pixels=_in_cells(config.smear_x_mm, detector.pitch_x_mm),
        sigma_y_pixels=_in_cells(config.smear_y_mm, detector.pitch_y_mm),
        sigma_t_bins=_in_cells(config.smear_t_ns, detector.bin_ns),
        n_noise=as_range(config.n_noise),
        noise=NoiseSettings(
            weights=tuple(noise.shares[name] for name in NOISE_PROFILES),
            n_hot_pixels=noise.n_hot_pixels,
            hot_pixel_seed=hot_pixel_seed,
            n_clusters=noise.n_clusters,
            cluster_sigma_pixels=noise.cluster_sigma_pixels,
            cluster_sigma_bins=noise.cluster_sigma_ns / detector.bin_ns,
            n_bursts=noise.n_bursts,
            burst_sigma_bins=noise.burst_sigma_ns / detector.bin_ns,
        ),
    )


def _typed(number: Any) -> Any:
    """Cast ints to int32 and floats to float32; leave NumPy scalars unchanged."""
    if isinstance(number, np.generic):
        return number
    return np.int32(number) if isinstance(number, int) else np.float32(number)


def every_epoch(config: Config) -> list[Config]:
    """List the settings of each epoch; ConfigError names a schedule that leads to a value that is not allowed."""
    if not config.schedules:
        return [config]
    if config.train.epochs > MOST_SCHEDULED_EPOCHS:
        raise ConfigError(f"train.epochs = {config.train.epochs}: with schedules, at most {MOST_SCHEDULED_EPOCHS}")
    return [at_epoch(config, epoch) for epoch in range(1, config.train.epochs + 1)]


def with_precision(config: Config, policy: str | None) -> Config:
    """Return the settings with another precision policy; None keeps the present one."""
    if policy is None:
        return config
    section = msgspec.structs.replace(config.precision, policy=policy_by_name(policy).name)
    return msgspec.structs.replace(config, precision=section)


def learning_rate_at(optimiser: OptimiserConfig, step: int, n_steps: int) -> float:
    """Compute the learning rate of a step, counted from 0, of a run of `n_steps`."""
    rate = optimiser.learning_rate * min(1.0, (step + 1) / max(optimiser.warmup_steps, 1))
    if optimiser.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(step / n_steps, 1.0)))
    return rate


def describe_devices() -> dict[str, Any]:
    """Name JAX's backend and devices."""
    devices = jax.devices()
    return {"backend": jax.default_backend(), "devices": [device.device_kind for device in devices]}


def module_settings_of(config: LhcbTorchConfig, tracks: tuple[int, int]) -> ModuleSettings:
    """Collect the numbers of a simulated module; they are not checked."""
    return ModuleSettings(**msgspec.structs.asdict(config.module), n_tracks=tracks)


def module_settings(simulate: SimulateConfig) -> ModuleSettings:
    """Return the module settings for LHCb TORCH models; ValueError naming one that is not allowed."""
    settings = module_settings_of(simulate.lhcb_torch, as_range(simulate.tracks))
    check_settings(settings)
    return settings
