"""Settings of a run in each of its epochs, by its schedules."""

from __future__ import annotations

import math
from typing import Any

from tofae_jax.config.loading import ConfigError, from_tree, to_tree
from tofae_jax.config.run import Config
from tofae_jax.config.schedules import Amount, ScheduleConfig, value_at

SCHEDULABLE = ("degradation.", "loss.", "optimiser.learning_rate")
"""beginnings of the keys that may be scheduled"""


def at_epoch(config: Config, epoch: int) -> Config:
    """Return the settings in force in an epoch.

    Args:
        config: settings of the run.
        epoch: counted from 1.

    Raises:
        ConfigError: a key cannot be scheduled, or a value is not allowed; the message names it.
    """
    if not config.schedules:
        return config
    tree = to_tree(config)
    for key, schedule in config.schedules.items():
        section, name = _place(tree, key)
        section[name] = _value_like(schedule, epoch, config.train.epochs, section[name], key)
    return from_tree(tree, Config, f"schedules, epoch {epoch}")


def in_force(config: Config, epoch: int) -> dict[str, Any]:
    """Return the values of the scheduled settings in an epoch, by key."""
    tree = to_tree(at_epoch(config, epoch))
    return {key: section[name] for key in config.schedules for section, name in [_place(tree, key)]}


def _place(tree: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the section that holds a setting, and the name of the setting in it."""
    *sections, name = key.split(".")
    section: Any = tree
    for part in sections:
        section = section.get(part) if isinstance(section, dict) else None
    there = section.get(name) if isinstance(section, dict) else None
    if not key.startswith(SCHEDULABLE) or there is None or isinstance(there, dict | bool):
        raise ConfigError(
            f"schedules: {key!r} cannot be scheduled; degradation settings, weights of the loss and "
            "optimiser.learning_rate can"
        )
    chosen = tree["loss"]["name"]
    if key.startswith("loss.") and sections[-1] != (chosen if chosen in tree["loss"] else "plugin"):
        raise ConfigError(f"schedules: {key!r} has no effect, as loss.name is {chosen}")
    if isinstance(there, str) and not (key.startswith("loss.") and there == "auto"):
        raise ConfigError(f"schedules: {key!r} is not a number")
    return section, name


def _value_like(schedule: ScheduleConfig, epoch: int, n_epochs: int, there: Any, key: str) -> Any:
    """Return the value in an epoch, in the type of the setting; ConfigError where it is not finite."""
    try:
        amount = value_at(schedule, epoch, n_epochs)
    except OverflowError:
        amount = math.inf
    if not all(math.isfinite(number) for number in (amount if isinstance(amount, tuple) else (amount,))):
        raise ConfigError(f"schedules, epoch {epoch}: {key} = {amount}: not a finite number")
    return _numbers_like(amount, there)


def _numbers_like(amount: Amount, there: Any) -> Any:
    """Round the amount to whole numbers where the setting has such."""
    whole = isinstance(there[0] if isinstance(there, list | tuple) else there, int)
    numbers = list(amount) if isinstance(amount, tuple) else [amount]
    numbers = [round(number) for number in numbers] if whole else numbers
    return numbers if isinstance(amount, tuple) else numbers[0]
