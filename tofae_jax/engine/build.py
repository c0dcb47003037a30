"""From settings to the parts of a run: the only place where the settings' names meet the functions' arguments."""

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
    Config,
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
from tofae_jax.core.normalisation import NORMALISATIONS
from tofae_jax.core.precision import Policy, policy_by_name
from tofae_jax.lhcb_torch.simulation import ModuleSettings, check_settings
from tofae_jax.models import MODELS, Model, build_model
from tofae_jax.steps import StepOptions, StepSettings, Target
from tofae_jax.steps.state import TrainState, build_optimiser, create_train_state

EVEN_CHANCE = 0.5  # of a hit to be signal


class RunSetup(NamedTuple):
    """The parts of a run that are not arrays."""

    config: Config
    model: Model
    optimiser: optax.GradientTransformation
    options: StepOptions

    @property
    def policy(self) -> Policy:
        """Dtypes of the model."""
        return policy_by_name(self.config.precision.policy)

    def fresh_state(self) -> TrainState:
        """A new training state."""
        scale = self.config.precision.initial_loss_scale if self.policy.scales_loss else 1.0
        return create_train_state(self.config.seed, self.model, self.optimiser, loss_scale=scale)


def build_run(config: Config) -> RunSetup:
    """Model, optimiser and static options of a run."""
    detector = config.detector
    of_module = MODELS[config.model.name].of_module
    model = build_model(
        config.model.name,
        shape_xyt=detector.shape,
        policy=policy_by_name(config.precision.policy),
        matmul=config.precision.matmul if config.precision.matmul != "default" else None,
        bin_ns=detector.bin_ns,
        module=module_settings(config.data.simulate) if of_module else None,
        **selected_settings(config.model),
    )
    return RunSetup(
        config=config,
        model=model,
        optimiser=build_optimiser(weight_decay=config.optimiser.weight_decay, clip_norm=config.optimiser.clip_norm),
        options=step_options(config),
    )


def step_options(config: Config) -> StepOptions:
    """Static choices of the steps, the same in all epochs."""
    degradation = config.degradation
    epochs = [config, *every_epoch(config)]
    evaluation = loss_choices(config.evaluation_loss) if config.evaluation_loss.name != SAME else ()
    return StepOptions(
        shape_xyt=config.detector.shape,
        max_signal=max(as_range(now.degradation.n_signal)[1] for now in epochs),
        max_noise=max(as_range(now.degradation.n_noise)[1] for now in epochs),
        overflow=degradation.overflow,
        selection=degradation.selection,
        normalisation=config.normalisation.name,
        loss=config.loss.name,
        loss_choices=loss_choices(config.loss),
        evaluation_loss=config.evaluation_loss.name if config.evaluation_loss.name != SAME else None,
        evaluation_loss_choices=evaluation,
        target=target_of_run(config),
        reads=losses.loss_by_name(config.loss.name).takes,
        scale_loss=policy_by_name(config.precision.policy).scales_loss,
    )


def _in_cells(width: float | tuple[float, float], cell: float) -> float | tuple[float, float]:
    return (width[0] / cell, width[1] / cell) if isinstance(width, tuple) else width / cell


def degradation_settings(config: DegradationConfig, detector: Detector) -> DegradationSettings:
    """Numbers of the degradation in pixels and bins, from those in mm and ns."""
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


def step_settings(config: Config) -> StepSettings:
    """Traced numbers of the steps, on the device: their types decide what is compiled, so they are always the same."""
    tolerance_ns = config.mask.tof_tolerance_ns
    settings = StepSettings(
        degradation=degradation_settings(config.degradation, config.detector),
        threshold=config.normalisation.threshold,
        score_threshold=score_threshold(config),
        tof_tolerance_bins=float("inf") if tolerance_ns is None else tolerance_ns / config.detector.bin_ns,
        loss_weights=loss_weights(config.loss),
        evaluation_loss_weights=loss_weights(config.evaluation_loss) if config.evaluation_loss.name != SAME else {},
        learning_rate=config.optimiser.learning_rate,
        tolerance_bins=config.metrics.tof_tolerance_ns / config.detector.bin_ns,
        scale_growth_steps=config.precision.scale_growth_steps,
    )
    return jax.device_put(jax.tree.map(_typed, settings))


def score_threshold(config: Config) -> float:
    """The score above which hits are kept."""
    if config.mask.score_threshold is not None:
        return config.mask.score_threshold
    if losses.loss_by_name(config.loss.name).takes == "hits":
        return EVEN_CHANCE
    return NORMALISATIONS[config.normalisation.name].lit_above(config.normalisation.threshold)


def _typed(number: Any) -> Any:
    """A count as int32, any other number as float32; what has a type of its own keeps it."""
    if isinstance(number, np.generic):
        return number
    return np.int32(number) if isinstance(number, int) else np.float32(number)


def every_epoch(config: Config) -> list[Config]:
    """The settings in force in each epoch; ConfigError names a schedule that leads to what is not allowed."""
    return [at_epoch(config, epoch) for epoch in range(1, config.train.epochs + 1)] if config.schedules else [config]


def seeds_of(config: Config) -> dict[str, int]:
    """Every seed that a run draws from, by setting."""
    return {
        "seed": config.seed,
        "data.split_seed": config.data.split_seed,
        "data.simulate.seed": config.data.simulate.seed,
        "degradation.noise.hot_pixel_seed": config.degradation.noise.hot_pixel_seed,
        "train.repeat_every": config.train.repeat_every,
    }


def with_precision(config: Config, policy: str | None) -> Config:
    """The same settings with another precision policy; None keeps what is there."""
    if policy is None:
        return config
    section = msgspec.structs.replace(config.precision, policy=policy_by_name(policy).name)
    return msgspec.structs.replace(config, precision=section)


def learning_rate_at(optimiser: OptimiserConfig, step: int, n_steps: int) -> float:
    """Learning rate of a step, counted from 0, of a run of `n_steps`."""
    rate = optimiser.learning_rate * min(1.0, (step + 1) / max(optimiser.warmup_steps, 1))
    if optimiser.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(step / n_steps, 1.0)))
    return rate


def describe_devices() -> dict[str, Any]:
    """What JAX computes on."""
    devices = jax.devices()
    return {"backend": jax.default_backend(), "devices": [device.device_kind for device in devices]}


SAME = "same"  # an evaluation loss that is the training loss


def loss_choices(section: LossConfig | EvaluationLossConfig) -> tuple[tuple[str, Any], ...]:
    """Static settings of the chosen loss."""
    names, settings = losses.loss_by_name(section.name).choices, selected_settings(section)
    return tuple((name, settings[name]) for name in names)


def loss_weights(section: LossConfig | EvaluationLossConfig) -> dict[str, float]:
    """Numbers of the chosen loss; ValueError where one is `auto` still."""
    names, settings = losses.loss_by_name(section.name).weights, selected_settings(section)
    for name in names:
        if settings[name] == AUTO:
            raise ValueError(f"{section.name}.{name} is {AUTO}: it must be resolved by the data first")
    return {name: settings[name] for name in names}


def target_of_run(config: Config) -> Target:
    """What images are compared with: of a run that scores hits it is the signal, whatever `train.target` says."""
    return "signal" if losses.loss_by_name(config.loss.name).takes == "hits" else config.train.target


def _chosen_losses(config: Config) -> dict[str, LossConfig | EvaluationLossConfig]:
    """Sections of the losses in use, by key."""
    sections = {"loss": config.loss, "evaluation_loss": config.evaluation_loss}
    return {key: section for key, section in sections.items() if section.name != SAME}


def _module_settings(config: LhcbTorchConfig, tracks: tuple[int, int]) -> ModuleSettings:
    return ModuleSettings(**msgspec.structs.asdict(config.module), n_tracks=tracks)


def module_settings(simulate: SimulateConfig) -> ModuleSettings:
    """Settings of the module, as the models of LHCb TORCH know it; ValueError naming one that is not allowed."""
    settings = _module_settings(simulate.lhcb_torch, as_range(simulate.tracks))
    check_settings(settings)
    return settings
