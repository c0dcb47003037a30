"""From settings to the parts of a run: the only place where the settings' names meet the functions' arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np
import optax

from tofae_jax import losses
from tofae_jax.config import (
    Config,
    ConfigError,
    DataConfig,
    DegradationConfig,
    OptimiserConfig,
    as_range,
    at_epoch,
    chosen,
    to_tree,
)
from tofae_jax.core.degradation import DegradationSettings
from tofae_jax.core.detector import Detector
from tofae_jax.core.noise import NOISE_PROFILES, NoiseSettings
from tofae_jax.core.normalisation import NORMALISATIONS
from tofae_jax.core.precision import Policy, policy_by_name
from tofae_jax.data.batches import NO_TRACKS, EvaluationSource, Splits, TrackSlots, TrainSource, split_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError
from tofae_jax.data.simulated import PATTERN_GENERATOR
from tofae_jax.data.tracks import track_table
from tofae_jax.loss_choice import SAME, loss_choices, loss_weights, target_of_run
from tofae_jax.models import MODELS, Model, build_model
from tofae_jax.simulated import module_settings, simulated_events, write_simulation
from tofae_jax.steps import StepOptions, StepSettings
from tofae_jax.steps.state import TrainState, build_optimiser, create_train_state

GEOMETRY = ("width_mm", "height_mm", "thickness_mm", "theta_z_rad", "flight_path_mm", "energy_knots_ev")
"""settings of a module that models of it cannot do without"""
EVEN_CHANCE = 0.5  # of a hit to be signal


class Assembly(NamedTuple):
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


def assemble(config: Config) -> Assembly:
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
        **chosen(config.model),
    )
    return Assembly(
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


def check_schedules(config: Config) -> None:
    """ConfigError where a schedule leads to what is not allowed, or would change what is compiled: a choice."""
    every_epoch(config)
    choices = losses.loss_by_name(config.loss.name).choices
    for key in config.schedules:
        if key.startswith("loss.") and key.rpartition(".")[2] in choices:
            raise ConfigError(f"schedules: {key!r} is a choice, not a number: it cannot change from epoch to epoch")


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


def open_events(config: Config, say: Callable[[str], None], *, places: Sequence[str] = ()) -> EventStore:
    """The events of a run, of its dataset or simulated as they are asked for; a missing dataset is simulated first.

    `places` are where the dataset may lie too. DataError where its detector is another one, or where background is
    asked for and the events have none.
    """
    if config.data.source == "simulate":
        store: EventStore = simulated_events(config)
    else:
        path = next((place for place in (config.data.path, *places) if place and Path(place).exists()), None)
        store = Dataset(path) if path is not None else _simulated_dataset(config, say)
        check_detector(store, config.detector)
        check_module(store, config)
    if max_background(config) and not store.has_origins:
        raise DataError(f"{store.name}: degradation.noise.data asks for its background, but its hits have no origin")
    return store


def is_gone(data: DataConfig, then: str) -> bool:
    """Whether a run's dataset is neither where its settings say nor where it was then."""
    return data.source == "dataset" and not any(place and Path(place).exists() for place in (data.path, then))


def _simulated_dataset(config: Config, say: Callable[[str], None]) -> Dataset:
    simulate, path = config.data.simulate, config.data.path
    say(f"simulating {simulate.events} events of {simulate.pattern} into {path}")
    return write_simulation(path, simulate, detector=config.detector)


def max_background(config: Config) -> int:
    """Slots for background hits: none where nothing asks for them."""
    asks = any(now.degradation.noise.data for now in [config, *every_epoch(config)])
    return config.data.max_background if asks else 0


def train_source(config: Config, store: EventStore, splits: Splits) -> TrainSource:
    """Batches to train on."""
    return TrainSource(
        store,
        splits.train,
        batch=config.train.batch,
        max_hits=config.data.max_hits,
        max_background=max_background(config),
        tracks=track_slots(config, training=True),
        seed=config.seed,
        repeat_every=config.train.repeat_every,
    )


def evaluation_source(config: Config, store: EventStore, events: np.ndarray) -> EvaluationSource:
    """Batches of events to evaluate."""
    return EvaluationSource(
        store,
        events,
        batch=config.train.batch,
        max_hits=config.data.max_hits,
        max_background=max_background(config),
        tracks=track_slots(config, training=False),
    )


def track_slots(config: Config, *, training: bool) -> TrackSlots:
    """What batches need of tracks."""
    kind = MODELS[config.model.name]
    learns = kind.learns_tracks and training
    is_needed = kind.takes == "hits and tracks" or learns
    return TrackSlots(config.data.max_tracks, with_truth=learns) if is_needed else NO_TRACKS


def check_tracks(config: Config, store: EventStore, events: np.ndarray) -> None:
    """DataError where a training needs tracks that the first of these events has not."""
    wanted = track_slots(config, training=True)
    if wanted.slots:
        known = store.tracks_of_each(events[:1])
        track_table(known, slots=wanted.slots, with_truth=wanted.with_truth, where=store.name)


def check_detector(dataset: EventStore, detector: Detector) -> None:
    """DataError where the dataset's detector has another shape than `detector`."""
    if dataset.detector.shape != detector.shape:
        raise DataError(
            f"{dataset.name}: its detector has n_x, n_y, n_t = {dataset.detector.shape}, "
            f"the settings say {detector.shape}; give --detector.n-x and so on in training, or another dataset"
        )


def check_module(dataset: EventStore, config: Config) -> None:
    """DataError where the model is built for another LHCb TORCH module than the one that made the dataset, or for one
    at all while the dataset has toy patterns.
    """
    if not MODELS[config.model.name].of_module:
        return
    if dataset.provenance.get("generator") == PATTERN_GENERATOR:
        raise DataError(f"{dataset.name}: has toy patterns, which are no light of the LHCb TORCH module of this model")
    bin_ns, ours_ns = dataset.detector.bin_ns, config.detector.bin_ns
    if not math.isclose(bin_ns, ours_ns, rel_tol=1e-6):
        raise DataError(f"{dataset.name}: its time bins are {bin_ns:g} ns long, those of the model {ours_ns:g} ns")
    provenance = dataset.provenance.get("module")
    known = provenance if isinstance(provenance, dict) else {}
    ours = to_tree(config.data.simulate.lhcb_torch.module)
    for name in GEOMETRY:
        if name in known and known[name] != ours[name]:
            raise DataError(
                f"{dataset.name}: its module has {name} = {known[name]}, the model was made for {ours[name]}"
                f" (a training's: --data.simulate.lhcb-torch.module.{name.replace('_', '-')})"
            )


def splits_of(dataset: EventStore, data: DataConfig) -> Splits:
    """Disjoint training, validation and test events."""
    return split_events(
        len(dataset),
        train=data.train_share,
        validation=data.validation_share,
        test=data.test_share,
        seed=data.split_seed,
    )


def describe_devices() -> dict[str, Any]:
    """What JAX computes on."""
    devices = jax.devices()
    return {"backend": jax.default_backend(), "devices": [device.device_kind for device in devices]}
