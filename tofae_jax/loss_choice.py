"""What follows from the losses that a run chooses, and whether they fit the rest of it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from tofae_jax import losses
from tofae_jax.config import AUTO, Config, EvaluationLossConfig, LossConfig, as_range, chosen
from tofae_jax.data.class_sizes import class_ratio, class_sizes
from tofae_jax.data.event_store import EventStore
from tofae_jax.models import MODELS
from tofae_jax.steps import Target

NO_TIMES = "compares times with the direct output's, and this model gives none: its scores judge hits by time already"
SAME = "same"  # an evaluation loss that is the training loss
OPPOSITE_AND_CLASS = {
    "zero_weight": ("hit", "zero"),
    "hit_weight": ("zero", "hit"),
    "true_negative_weight": ("hit", "zero"),
    "false_positive_weight": ("hit", "zero"),
    "true_positive_weight": ("zero", "hit"),
    "false_negative_weight": ("zero", "hit"),
    "signal_weight": ("noise", "signal"),
    "noise_weight": ("signal", "noise"),
}  # of each weight that may be auto


def loss_choices(section: LossConfig | EvaluationLossConfig) -> tuple[tuple[str, Any], ...]:
    """Static settings of the chosen loss."""
    names, settings = losses.loss_by_name(section.name).choices, chosen(section)
    return tuple((name, settings[name]) for name in names)


def loss_weights(section: LossConfig | EvaluationLossConfig) -> dict[str, float]:
    """Numbers of the chosen loss; ValueError where one is `auto` still."""
    names, settings = losses.loss_by_name(section.name).weights, chosen(section)
    for name in names:
        if settings[name] == AUTO:
            raise ValueError(f"{section.name}.{name} is {AUTO}: it must be resolved by the data first")
    return {name: settings[name] for name in names}


def target_of_run(config: Config) -> Target:
    """What images are compared with: of a run that scores hits it is the signal, whatever `train.target` says."""
    return "signal" if losses.loss_by_name(config.loss.name).takes == "hits" else config.train.target


def check_losses(config: Config) -> None:
    """ValueError where a chosen loss cannot be had from the model's output or the normalised images, or the model makes
    nothing of these.
    """
    if config.model.name == "unet" and config.normalisation.name == "none":
        raise ValueError(
            "model.name: unet reads times as parts of the window, which normalisation.name none does not give"
        )
    gives = MODELS[config.model.name].gives
    for key, section in _chosen_losses(config).items():
        try:
            loss = losses.loss_by_name(section.name, gives=gives)
        except ValueError as error:
            raise ValueError(f"{key}.name: {error}") from None
        components = chosen(section)
        has_bce = "bce" in (section.name, components.get("zero_loss"), components.get("hit_loss"))
        if has_bce and config.normalisation.name == "none":
            raise ValueError(f"{key}.name: bce needs targets in [0, 1], which normalisation.name none does not give")
        if loss.reads_time and config.normalisation.name != "gapped":
            raise ValueError(
                f"{key}.name: loss {section.name!r} reads times, which need normalisation.name gapped, "
                f"got {config.normalisation.name}"
            )


def check_mask(config: Config) -> None:
    """ValueError where times are to be compared that no output has, or where a cut is given that will be chosen."""
    for name in ("score_threshold", "tof_tolerance_ns"):
        if config.mask.choose != "none" and getattr(config.mask, name) is not None:
            chooses = f"mask.choose = {config.mask.choose!r} chooses it"
            raise ValueError(f"mask.{name} is given, but {chooses}: --mask.choose none, or leave it out")
    if config.mask.tof_tolerance_ns is not None and losses.loss_by_name(config.loss.name).takes == "hits":
        raise ValueError(f"mask.tof_tolerance_ns {NO_TIMES}")


def _chosen_losses(config: Config) -> dict[str, LossConfig | EvaluationLossConfig]:
    """Sections of the losses in use, by key."""
    sections = {"loss": config.loss, "evaluation_loss": config.evaluation_loss}
    return {key: section for key, section in sections.items() if section.name != SAME}


def resolved_losses(config: Config, dataset: EventStore, events: np.ndarray) -> tuple[Config, dict[str, float]]:
    """The settings with numbers for the weights that are `auto` in the losses in use, and these numbers by key.

    The weight of a class is the size of its opposite per size of its own, over the given (training) events.
    """
    found: dict[str, float] = {}
    automatic = {
        key: [n for n, value in chosen(s).items() if value == AUTO] for key, s in _chosen_losses(config).items()
    }
    if not any(automatic.values()):
        return config, found
    sizes = class_sizes(
        dataset,
        events,
        target=target_of_run(config),
        n_signal=as_range(config.degradation.n_signal),
        n_noise=as_range(config.degradation.n_noise),
        max_hits=config.data.max_hits,
    )
    for key, names in automatic.items():
        section = getattr(config, key)
        numbers = {name: class_ratio(sizes, *OPPOSITE_AND_CLASS[name]) for name in names}
        found |= {f"{key}.{section.name}.{name}": number for name, number in numbers.items()}
        own = msgspec.structs.replace(getattr(section, section.name), **numbers)
        config = msgspec.structs.replace(config, **{key: msgspec.structs.replace(section, **{section.name: own})})
    return config, found
