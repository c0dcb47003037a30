"""Check that the settings of a run fit each other."""

from __future__ import annotations

from typing import Any

from tofae_jax import losses
from tofae_jax.config import (
    Config,
    ConfigError,
    selected_settings,
    to_tree,
)
from tofae_jax.engine.build import (
    _chosen_losses,
    every_epoch,
)
from tofae_jax.engine.operating_point import NO_TIMES, checkpoint_metric
from tofae_jax.metrics import metric_names
from tofae_jax.models import MODELS
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.record import RunRecord


def check_schedules(config: Config) -> None:
    """ConfigError where a schedule leads to what is not allowed, or would change what is compiled: a choice."""
    every_epoch(config)
    choices = losses.loss_by_name(config.loss.name).choices
    for key in config.schedules:
        if key.startswith("loss.") and key.rpartition(".")[2] in choices:
            raise ConfigError(f"schedules: {key!r} is a choice, not a number: it cannot change from epoch to epoch")


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
        components = selected_settings(section)
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


# may differ when a run is resumed: they do not change what it computes
MAY_CHANGE = (
    "train.epochs",
    "train.time_limit",
    "train.plots",
    "checkpoints.every_",
    "checkpoints.keep",
    "tracking.",
    "instruments.",
    "data.path",
    "data.threads",
    "data.prefetch_batches",
)


def _check_metric(config: Config) -> None:
    """ConfigError unless `checkpoints.metric` is a number that a validation gives."""
    known = metric_names()
    if checkpoint_metric(config) not in known:
        raise ConfigError(
            f"checkpoints.metric = {config.checkpoints.metric!r}: not a number of the validation; "
            f"known: {', '.join(known)}"
        )


def check_resumable(old: Config, new: Config, record: RunRecord) -> None:
    """ConfigError where a setting differs that may not, RunError where no epoch is left to train."""
    before, after = (_flat(to_tree(config)) for config in (old, new))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and not key.startswith(MAY_CHANGE):
            raise ConfigError(
                f"{key} = {after.get(key)!r}: a resumed run keeps its own, {before.get(key)!r}; "
                "start another run from it with --from"
            )
    if old.train.epochs != new.train.epochs and (old.optimiser.schedule != "constant" or old.schedules):
        raise ConfigError(
            f"train.epochs = {new.train.epochs}: optimiser.schedule and schedules run over all epochs, so another "
            f"number than {old.train.epochs} would have changed the epochs done; start another run with --from"
        )
    done = record.results.get("epochs", 0)
    if new.train.epochs < done or (record.status == "finished" and new.train.epochs == done):
        raise RunError(f"{record.run_id}: {record.status} after {done} epochs; a larger --train.epochs goes on")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
