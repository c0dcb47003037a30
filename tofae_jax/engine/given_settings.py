"""Check that the settings which somebody gave have an effect: on the command line, in a recipe, in a `Config`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from tofae_jax.config import Config, ConfigError, DataConfig, SimulateConfig, leaves, to_tree
from tofae_jax.config.unused import Unused, is_default, overridden_by_schedules, reason_of_unused, shown
from tofae_jax.engine.events import existing_dataset
from tofae_jax.engine.unused_settings import MODULE, SIMULATION, simulated_otherwise, unused_settings
from tofae_jax.models import MODELS


class Given(NamedTuple):
    """Keys of the settings that were given, and where."""

    options: Collection[str] = ()
    """on the command line, whatever their values"""
    recipe: Config | None = None
    """settings of the recipe alone"""
    in_recipe: Collection[str] = ()
    """by the recipe, and by no option"""
    name: str = ""
    """of the recipe; empty: settings that a program made"""

    @property
    def keys(self) -> set[str]:
        """All keys that were given."""
        return {*self.options, *self.in_recipe}


def given_by_program(config: Config) -> Given:
    """Return what a program gave that made these settings: everything that differs from its default."""
    keys = {key for key, value in leaves(to_tree(config)) if not is_default(key, value)}
    return Given(recipe=config, in_recipe=keys)


def check_given(config: Config, given: Given, *, has_policy: bool = False) -> list[str]:
    """Check that every setting that was given has an effect, and every schedule.

    A recipe for several models or losses may have the sections of all of them, beside that of the one that is chosen.
    What has an effect by the recipe's own choices may stand there too, where an option chooses otherwise, and so may a
    setting that has a schedule.

    Args:
        config: settings of the run.
        given: what was given of them.
        has_policy: whether a checkpoint policy was given in place of `config.checkpoints`.

    Returns:
        What the user is told: what of the recipe has no effect, and may stand there.

    Raises:
        ConfigError: a setting has no effect; the message names it and says why.
    """
    unused = unused_settings(config, has_policy=has_policy)
    everything = [*unused, *overridden_by_schedules(to_tree(config))]
    for key, value, reason in _without_effect(config, given.options, everything):
        raise ConfigError(f"{key} = {shown(value)}: has no effect, as {reason}")
    for key in config.schedules:
        if reason := reason_of_unused(key, True, unused):
            raise ConfigError(f"schedules: {key!r} has no effect, as {reason}")
    _check_simulation(config, given.options)
    return [*_idle_in_recipe(config, given, everything, has_policy=has_policy), *_other_simulation(config, given)]


def _without_effect(config: Config, keys: Collection[str], unused: list[Unused]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and reason of those settings that have no effect."""
    for key, value in leaves(to_tree(config)):
        if key in keys and (reason := reason_of_unused(key, value, unused)):
            yield key, value, reason


def _idle_in_recipe(config: Config, given: Given, unused: list[Unused], *, has_policy: bool) -> Iterator[str]:
    """Yield what of a recipe has no effect and may stand there, by reason; ConfigError where it may not."""
    if given.recipe is None:
        return
    by_recipe = unused_settings(given.recipe, has_policy=has_policy)
    own = {key: reason for key, _, reason in _without_effect(given.recipe, given.in_recipe, by_recipe)}
    passing: dict[str, list[str]] = {}
    for key, value, reason in _without_effect(config, given.in_recipe, unused):
        if is_default(key, value):
            continue
        if key in own and not _is_for_several(key, given.in_recipe, (config, given.recipe)):
            where = f"{given.name}: " if given.name else ""
            raise ConfigError(f"{where}{key} = {shown(value)}: has no effect, as {own[key]}")
        passing.setdefault(reason, []).append(key)
    for reason, keys in passing.items():
        yield f"{given.name or 'settings'}: not used: {', '.join(_in_short(keys))}, as {reason}"


def _in_short(keys: list[str]) -> list[str]:
    """Name a section once in place of several keys of it."""
    sections = [key.rpartition(".")[0] for key in keys]
    shown_as = (key if sections.count(own) == 1 else own for key, own in zip(keys, sections, strict=True))
    return list(dict.fromkeys(shown_as))


def _is_for_several(key: str, keys: Collection[str], configs: tuple[Config, ...]) -> bool:
    """Whether a recipe has, beside that of a key, the section of the model or loss that is chosen."""
    section = key.partition(".")[0]
    if section not in ("model", "loss", "evaluation_loss"):
        return False
    chosen = tuple(f"{section}.{getattr(config, section).name}." for config in configs)
    return any(f"{other}.".startswith(chosen) for other in keys)


def _check_simulation(config: Config, options: Collection[str]) -> None:
    """ConfigError where an option says of the simulation what is not so of the dataset, as that exists."""
    dataset = existing_dataset(config.data)
    if dataset is None:
        return
    kept = f"{SIMULATION}.{MODULE}.module." if MODELS[config.model.name].of_module else None
    differing = simulated_otherwise(config.data.simulate, dataset.provenance)
    for key, value in leaves(to_tree(config)):
        name = key.removeprefix(f"{SIMULATION}.")
        if key not in options or name == key or (kept and key.startswith(kept)):
            continue
        if differing is not None and name not in differing:
            continue
        made = "was not simulated" if differing is None else f"was simulated with {_made_with(differing[name])}"
        raise ConfigError(
            f"{key} = {shown(value)}: has no effect, as {dataset.name} exists and {made}; give another --data.path"
        )


def _other_simulation(config: Config, given: Given) -> Iterator[str]:
    """Yield where the dataset of a recipe exists and was simulated otherwise than the recipe says."""
    dataset = existing_dataset(config.data)
    if dataset is None or "data.path" in given.options:
        return
    differing, values = simulated_otherwise(config.data.simulate, dataset.provenance), dict(leaves(to_tree(config)))
    for name, value in (differing or {}).items():
        if (key := f"{SIMULATION}.{name}") in given.in_recipe:
            yield (
                f"{given.name or 'settings'}: not used: {key} = {shown(values[key])}, as {config.data.path} exists and "
                f"was simulated with {_made_with(value)}; another data.path is simulated anew"
            )


def _made_with(value: Any) -> str:
    """Show a setting of the simulation that made a dataset; a mixture as it is written in settings."""
    if not isinstance(value, dict):
        return shown(value)
    return next(iter(value)) if len(value) == 1 else ",".join(f"{name}={weight:g}" for name, weight in value.items())


def check_simulated(simulate: SimulateConfig, options: Collection[str]) -> None:
    """Check that every option of the command `simulate` has an effect.

    Args:
        simulate: settings of the simulation.
        options: keys of those that were given.

    Raises:
        ConfigError: one has none; the message names it and says why.
    """
    unused = unused_settings(Config(data=DataConfig(source="simulate", simulate=simulate)))
    for key, value in leaves(to_tree(simulate)):
        if key in options and (reason := reason_of_unused(f"{SIMULATION}.{key}", value, unused)):
            raise ConfigError(f"{key} = {shown(value)}: has no effect, as {reason.removeprefix(f'{SIMULATION}.')}")
