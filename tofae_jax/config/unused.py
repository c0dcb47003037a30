"""Settings that have no effect beside the others: of a model that is not chosen, of what is switched off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from tofae_jax.config.loading import leaves, to_tree
from tofae_jax.config.losses import LOSS_NAMES, SAME
from tofae_jax.config.models import MODEL_NAMES
from tofae_jax.config.run import Config

_NOISE, _BACKGROUND, _SEARCH = "degradation.noise.", "data.simulate.lhcb_torch.background.", "model.lhcb_torch."


class Unused(NamedTuple):
    """A setting, or all of a section, without an effect."""

    key: str
    """dotted"""
    reason: str
    """why, in words that follow `as`: `loss.name is mse`"""


class _Switch(NamedTuple):
    """A setting that switches others off."""

    key: str
    off: tuple[Any, ...]
    """values that do"""
    section: str
    """the others' keys begin with it"""
    names: str
    """of the others, separated by spaces"""


_SWITCHES = (
    _Switch("data.source", ("simulate",), "data.", "path"),
    _Switch("data.threads", (0,), "data.", "prefetch_batches"),
    _Switch("data.validation_share", (0,), "checkpoints.", "metric better"),
    _Switch("data.validation_share", (0,), "tracking.", "images_every"),
    _Switch("data.validation_share", (0,), "train.", "plots_every"),
    _Switch("data.simulate.lhcb_torch.photons", ("detected",), "data.simulate.lhcb_torch.module.", "dense_factor"),
    _Switch(f"{_BACKGROUND}n_hot", (0,), _BACKGROUND, "n_hot_pixels hot_pixel_seed"),
    _Switch(f"{_BACKGROUND}afterpulse_chance", (0,), _BACKGROUND, "afterpulse_delay_ns afterpulse_tau_ns"),
    _Switch(f"{_NOISE}hot_pixels", (0,), _NOISE, "n_hot_pixels hot_pixel_seed"),
    _Switch(f"{_NOISE}clusters", (0,), _NOISE, "n_clusters cluster_sigma_pixels cluster_sigma_ns"),
    _Switch(f"{_NOISE}time_bursts", (0,), _NOISE, "n_bursts burst_sigma_ns"),
    _Switch(f"{_NOISE}data", (0,), "data.", "max_background"),
    _Switch("mask.choose", ("none", "f1"), "mask.", "wanted"),
    _Switch("mask.choose", ("f1", "efficiency", "purity"), "mask.", "score_threshold tof_tolerance_ns"),
    _Switch("normalisation.name", ("none",), "normalisation.", "threshold"),
    _Switch(
        f"{_SEARCH}samples",
        (0,),
        _SEARCH,
        "improved refined searched_hits time_sigma_ns found_weight network_weight offset",
    ),
    _Switch("train.plots", ("none", "show"), "train.", "plots_every"),
    _Switch("tracking.tensorboard", (False,), "tracking.", "images_every histograms_every"),
    _Switch("tracking.dashboard", (False,), "tracking.", "dashboard_headless dashboard_port"),
    _Switch("instruments.record_every", (0,), "instruments.", "record_flush_every record_memory_mib"),
    _Switch("instruments.profile_steps", (0,), "instruments.", "profile_first_step profile_folder"),
    _Switch("instruments.python_profile", (False,), "instruments.", "python_profile_viewer"),
    _Switch("start.run", ("",), "start.", "optimiser"),
)
_MAY_BE_OFF = ("tracking.", "instruments.", "train.")
"""beginnings of keys that may be given as 0 or false beside what switches them off: they say the same"""


@cache
def _defaults() -> dict[str, Any]:
    return dict(leaves(to_tree(Config())))


def is_default(key: str, value: Any) -> bool:
    """Whether a setting has its default value; settings of plugins have none here."""
    return key in _defaults() and _defaults()[key] == value


def unused_by_choice(tree: Mapping[str, Any]) -> list[Unused]:
    """List the settings that have no effect by what the settings themselves choose.

    Args:
        tree: of `to_tree`, or of a run's record; what it lacks has its default value.
    """
    values, scheduled = {**_defaults(), **dict(leaves(tree))}, tuple(tree.get("schedules") or ())
    return [*_unchosen(values), *_switched_off(values, scheduled)]


def overridden_by_schedules(tree: Mapping[str, Any]) -> list[Unused]:
    """List the settings that a schedule sets in every epoch, unless validation and test use the settings themselves."""
    is_same = {**_defaults(), **dict(leaves(tree))}["evaluation_loss.name"] == SAME
    used = ("degradation.", "loss.") if is_same else ("degradation.",)
    scheduled = [key for key in tree.get("schedules") or () if not key.startswith(used)]
    return [Unused(key, "its schedule sets it in every epoch") for key in scheduled]


def _unchosen(values: Mapping[str, Any]) -> Iterator[Unused]:
    for section, names in (("model", MODEL_NAMES), ("loss", LOSS_NAMES), ("evaluation_loss", LOSS_NAMES)):
        chosen = values[f"{section}.name"]
        reason = f"{section}.name is {chosen}"
        if section == "evaluation_loss" and chosen == SAME:
            reason += f": the training loss, {values['loss.name']}, with its settings"
        yield from (Unused(f"{section}.{name}", reason) for name in names if name != chosen)


def _switched_off(values: Mapping[str, Any], scheduled: tuple[str, ...]) -> Iterator[Unused]:
    for switch in _SWITCHES:
        value = values[switch.key]
        if value in switch.off and switch.key not in scheduled:
            reason = f"{switch.key} is {shown(value) or 'empty'}"
            yield from (Unused(f"{switch.section}{name}", reason) for name in switch.names.split())


def shown(value: Any) -> str:
    """Show the value of a setting in a message."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def reason_of_unused(key: str, value: Any, unused: Iterable[Unused]) -> str | None:
    """Return why a setting has no effect; None where it has one, or where its value says the same as the reason."""
    if not value and key.startswith(_MAY_BE_OFF):
        return None
    return next((entry.reason for entry in unused if _is_in(key, entry)), None)


def _is_in(key: str, entry: Unused) -> bool:
    return f"{key}.".startswith(f"{entry.key}.")


def only_used(tree: Mapping[str, Any], unused: Iterable[Unused] | None = None) -> dict[str, Any]:
    """Return settings without those that have no effect, and without empty lists of plugins and schedules.

    Args:
        tree: of `to_tree`, or of a run's record.
        unused: what has no effect; None: what `unused_by_choice` and `overridden_by_schedules` list.

    Returns:
        The rest, which reads as the same run: what is left out takes its default, without an effect.
    """
    unused = [*unused_by_choice(tree), *overridden_by_schedules(tree)] if unused is None else list(unused)

    def rest(section: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in sorted(section.items(), key=lambda item: item[0] != "name"):  # it says what the rest is of
            key = f"{prefix}{name}"
            if any(_is_in(key, entry) for entry in unused):
                continue
            if isinstance(value, Mapping) and key != "schedules":
                value = rest(value, f"{key}.")
            if value != {} and not (key == "plugins" and not value):
                kept[name] = value
        return kept

    return rest(tree, "")
