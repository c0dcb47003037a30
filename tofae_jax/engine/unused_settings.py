"""What of a run's settings has no effect, and what is recorded: the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tofae_jax.config import Config, SimulateConfig, as_range, leaves, parse_mixture, to_tree
from tofae_jax.config.unused import Unused, only_used, overridden_by_schedules, unused_by_choice
from tofae_jax.core.precision import policy_by_name
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.simulated import MODULE_GENERATOR, PATTERN_GENERATOR
from tofae_jax.data.simulated.patterns import ANYWHERE
from tofae_jax.engine.build import losses_in_use
from tofae_jax.engine.events import is_module
from tofae_jax.losses import loss_by_name
from tofae_jax.models import MODELS

SIMULATION, MODULE = "data.simulate", "lhcb_torch"
SEEDS = (
    "seed",
    "data.split_seed",
    "data.simulate.seed",
    "data.simulate.lhcb_torch.background.hot_pixel_seed",
    "degradation.noise.hot_pixel_seed",
    "train.repeat_every",
)
"""settings that a run's draws depend on"""


def unused_settings(config: Config, *, has_policy: bool = False) -> list[Unused]:
    """List the settings of a run that have no effect, apart from those of the simulation of a dataset that exists.

    Args:
        config: settings of the run.
        has_policy: whether a checkpoint policy was given in place of `config.checkpoints`.
    """
    return [*unused_by_choice(to_tree(config)), *_by_kind(config, has_policy), *_of_simulation(config)]


def _by_kind(config: Config, has_policy: bool) -> Iterator[Unused]:
    """Yield what the model, the losses and the precision do not use."""
    model, policy = config.model.name, policy_by_name(config.precision.policy)
    kind, training = MODELS[model], loss_by_name(config.loss.name)
    takes = {loss_by_name(section.name).takes for section in losses_in_use(config).values()}
    if training.takes == "hits":
        yield Unused("train.target", f"loss {config.loss.name} compares hits")
        reads_images = kind.inputs == "image" or "image" in takes
        if not reads_images or config.normalisation.name == "binary":
            yield Unused("normalisation.threshold", f"model {model} and loss {config.loss.name} work on hits")
    if not (kind.takes_tracks or kind.learns_tracks):
        yield Unused("data.max_tracks", f"model {model} uses no tracks")
    if not policy.scales_loss:
        for name in ("fallback", "initial_loss_scale", "scale_growth_steps", "fallback_after"):
            yield Unused(f"precision.{name}", f"precision.policy is {policy.name}")
    if has_policy:
        yield Unused("checkpoints", "a checkpoint policy is given")


def _of_simulation(config: Config) -> Iterator[Unused]:
    """Yield what the simulation of toy patterns does not use; models of an LHCb TORCH module use its section."""
    if not is_module(config.data.simulate):
        reason = f"data.simulate.pattern is {config.data.simulate.pattern}"
        yield Unused(f"{SIMULATION}.lhcb_torch.photons", reason)
        yield Unused(f"{SIMULATION}.lhcb_torch.background", reason)
        if not MODELS[config.model.name].of_module:
            yield Unused(f"{SIMULATION}.lhcb_torch.module", reason)


def simulated_otherwise(simulate: SimulateConfig, provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compare the settings of a simulation with those that made a dataset.

    Args:
        simulate: settings.
        provenance: of the dataset.

    Returns:
        The dataset's own values of the settings that differ, by their key below `data.simulate`; None where it was not
        simulated.
    """
    if provenance.get("generator") not in (PATTERN_GENERATOR, MODULE_GENERATOR):
        return None
    ours, theirs = to_tree(simulate), dict(provenance)
    ours |= {"pattern": parse_mixture(simulate.pattern), "tracks": list(as_range(simulate.tracks))}
    if isinstance(pattern := theirs.get("pattern"), str):
        theirs["pattern"] = parse_mixture(pattern)
    module = ours.pop("lhcb_torch")
    found = {key: theirs[key] for key, value in ours.items() if key in theirs and theirs[key] != value}
    if theirs.get("origin", list(ANYWHERE)) != list(ANYWHERE):
        found["origin"] = theirs["origin"]
    if is_module(simulate) and "pattern" not in found:
        known = dict(leaves(theirs))
        found |= {f"{MODULE}.{key}": known[key] for key, value in leaves(module) if known.get(key, value) != value}
    return found


def recorded_settings(config: Config, dataset: EventStore | None, *, has_policy: bool = False) -> dict[str, Any]:
    """Return the settings of a run that have an effect, as they are recorded.

    Args:
        config: settings of the run.
        dataset: its events; None where it has none. The settings of the simulation are left out where they did not
            make these.
        has_policy: whether a checkpoint policy was given in place of `config.checkpoints`.
    """
    tree = to_tree(config)
    unused = [*unused_settings(config, has_policy=has_policy), *overridden_by_schedules(tree)]
    is_stream = dataset is not None and config.data.source == "simulate"
    if not is_stream and (dataset is None or simulated_otherwise(config.data.simulate, dataset.provenance) != {}):
        unused += _of_no_simulation(config)
    return only_used(tree, unused)


def _of_no_simulation(config: Config) -> Iterator[Unused]:
    """Yield all settings of the simulation but the module that the model is built for."""
    reason, of_module = "no events are simulated", MODELS[config.model.name].of_module
    names = [name for name in SimulateConfig.__struct_fields__ if name != MODULE]
    names += [f"{MODULE}.photons", f"{MODULE}.background"] if of_module else [MODULE]
    yield from (Unused(f"{SIMULATION}.{name}", reason) for name in names)


def recorded_seeds(settings: Mapping[str, Any]) -> dict[str, int]:
    """Collect every seed of a run, by setting, from its recorded settings."""
    values = dict(leaves(settings))
    return {key: values[key] for key in SEEDS if key in values and (values[key] or key != "train.repeat_every")}
