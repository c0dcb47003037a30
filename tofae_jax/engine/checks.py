"""Check that the settings of a run fit each other, before anything is opened or compiled."""

from __future__ import annotations

from typing import Any

from tofae_jax.config import Config, ConfigError, leaves, selected_settings, to_tree
from tofae_jax.engine.build import every_epoch, losses_in_use
from tofae_jax.engine.checkpoint_policy import checkpoint_policy
from tofae_jax.engine.detector_scale import check_lengths
from tofae_jax.engine.operating_point import NO_TIMES
from tofae_jax.losses import LOSSES, Loss, loss_by_name
from tofae_jax.metrics import metric_names
from tofae_jax.models import MODELS
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.record import RunRecord
from tofae_jax.runs.report.tables import is_low_good

MAY_CHANGE = (
    "plugins",
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
"""beginnings of the keys that may differ when a run is resumed: they do not change what it computes"""


def check_run(config: Config) -> None:
    """Check all settings of a run.

    Raises:
        ValueError: a loss, model, normalisation or mask does not fit the others.
        ConfigError: a schedule leads to a value that is not allowed, or `checkpoints.metric` is not known.
    """
    chosen = check_losses(config)
    check_mask(config, chosen["loss"])
    check_schedules(config, chosen["loss"])
    check_metric(config)


def check_new_run(config: Config) -> None:
    """Check what earlier versions let pass: their runs can still be resumed, so this is for new ones alone.

    Raises:
        ConfigError: a width or a tolerance is larger than the detector, or the model's output cannot reach its targets.
    """
    check_lengths(config)
    is_bounded, bins = MODELS[config.model.name].bounded_images, config.detector.n_t
    if config.normalisation.name == "none" and is_bounded and bins > 1:
        for key, section in losses_in_use(config).items():
            if loss_by_name(section.name).takes == "image":
                raise ConfigError(
                    f"normalisation.name = 'none': the targets of {key}.name {section.name} are time bins up to "
                    f"{bins}, and the outputs of model {config.model.name} lie in [0, 1]; choose gapped or binary"
                )


def check_losses(config: Config) -> dict[str, Loss]:
    """Check that the losses fit the model's outputs and the normalisation; returns them by key."""
    kind, normalisation = MODELS[config.model.name], config.normalisation.name
    if kind.needs_normalised_images and normalisation == "none":
        raise ValueError(
            f"model.name: {config.model.name} reads times as fractions of the window, which normalisation.name none "
            "does not give"
        )
    found = {}
    for key, section in losses_in_use(config).items():
        try:
            loss = loss_by_name(section.name, outputs=kind.outputs)
        except ValueError as error:
            raise ValueError(f"{key}.name: {error}") from None
        parts = [section.name, *(selected_settings(section)[name] for name in loss.choices)]
        bounded = next((part for part in parts if _needs_unit_targets(part)), None)
        if normalisation == "none" and bounded:
            raise ValueError(
                f"{key}.name: {bounded} needs targets in [0, 1], which normalisation.name none does not give"
            )
        if loss.reads_time and normalisation != "gapped":
            raise ValueError(
                f"{key}.name: loss {section.name!r} reads times, which need normalisation.name gapped, "
                f"got {normalisation}"
            )
        found[key] = loss
    return found


def _needs_unit_targets(name: object) -> bool:
    """Whether a loss, or the component of one, needs targets in [0, 1]; other settings have no such name."""
    return isinstance(name, str) and name in LOSSES and LOSSES[name].needs_unit_targets


def check_mask(config: Config, loss: Loss) -> None:
    """Check that no threshold is both given and to be chosen, and that compared times are predicted."""
    for name in ("score_threshold", "tof_tolerance_ns"):
        if config.mask.choose != "none" and getattr(config.mask, name) is not None:
            chooses = f"mask.choose = {config.mask.choose!r} chooses it"
            raise ValueError(f"mask.{name} is given, but {chooses}: --mask.choose none, or leave it out")
    if config.mask.tof_tolerance_ns is not None and loss.takes == "hits":
        raise ValueError(f"mask.tof_tolerance_ns {NO_TIMES}")


def check_schedules(config: Config, loss: Loss) -> None:
    """Check that every epoch has valid settings and that no schedule changes a static choice of the loss."""
    every_epoch(config)
    for key in config.schedules:
        if key.startswith("loss.") and key.rpartition(".")[2] in loss.choices:
            raise ConfigError(f"schedules: {key!r} is a choice, not a number: it cannot change from epoch to epoch")


def check_metric(config: Config) -> None:
    """Check that `checkpoints.metric` is a number that a validation gives, and that it is known which are better."""
    known, metric = metric_names(), checkpoint_policy(config).metric
    if metric not in known:
        raise ConfigError(
            f"checkpoints.metric = {config.checkpoints.metric!r}: not a number of the validation; "
            f"known: {', '.join(known)}"
        )
    if config.checkpoints.better is None and is_low_good(metric) is None:
        raise ConfigError(
            f"checkpoints.metric = {metric!r}: neither high nor low values of it are good by themselves; say with "
            "checkpoints.better whether higher or lower ones are better"
        )


def first_difference(old: Config, new: Config) -> tuple[str, Any, Any] | None:
    """Return key and both values of the first setting that differs and changes what a run computes; None: none does."""
    before, after = (dict(leaves(to_tree(config))) for config in (old, new))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key) and not key.startswith(MAY_CHANGE):
            return key, before.get(key), after.get(key)
    return None


def check_resumable(old: Config, new: Config, record: RunRecord) -> None:
    """Check that a run can be resumed with new settings.

    Raises:
        ConfigError: a setting differs that may not.
        RunError: no epoch is left to train.
    """
    if (found := first_difference(old, new)) is not None:
        key, before, after = found
        raise ConfigError(
            f"{key} = {after!r}: a resumed run keeps its own, {before!r}; start another run from it with --from"
        )
    if old.train.epochs != new.train.epochs and (old.optimiser.schedule != "constant" or old.schedules):
        raise ConfigError(
            f"train.epochs = {new.train.epochs}: optimiser.schedule and schedules run over all epochs, so another "
            f"number than {old.train.epochs} would have changed the epochs done; start another run with --from"
        )
    done = record.results.get("epochs", 0)
    if new.train.epochs < done or (record.status == "finished" and new.train.epochs == done):
        raise RunError(f"{record.run_id}: {record.status} after {done} epochs; a larger --train.epochs goes on")
