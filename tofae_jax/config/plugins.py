"""Models and losses of plugins: modules of other packages that register them by name.

A plugin is imported because settings list it (`plugins`, `--plugin`), or because an installed package announces a name
as an entry point of the group `tofae_jax.models` or `tofae_jax.losses`, whose value is the module that registers it.
No array library is imported here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, NamedTuple

from tyro.conf import arg

Kind = Literal["model", "loss"]
Setting = bool | int | float | str | list[int | float | str]
Settings = Annotated[dict[str, Setting], arg(metavar="NAME VALUE ...")]
GROUPS: dict[Kind, str] = {"model": "tofae_jax.models", "loss": "tofae_jax.losses"}
RESERVED = ("name", "plugin")
AUTO = "auto"
REQUIRED = object()
"""default of a setting that has none"""


class PluginError(ValueError):
    """A plugin cannot be imported, or does not register what it announces; the message names it."""


class Registered(NamedTuple):
    """A model or loss of a plugin."""

    plugin: str
    """module that registers it; empty: none that could be imported again"""
    settings: dict[str, Any]
    """default of each setting by name, or REQUIRED"""
    auto: tuple[str, ...] = ()
    """settings that may be `auto`"""


_registered: dict[Kind, dict[str, Registered]] = {"model": {}, "loss": {}}


def register(kind: Kind, name: str, entry: Registered, *, built_in: Iterable[str]) -> None:
    """Note a model or loss of a plugin; the same plugin may register it again.

    Raises:
        ValueError: the name is no word, or is taken.
    """
    if not name.isidentifier():
        raise ValueError(f"{kind} {name!r}: a name must be letters, digits and '_', not beginning with a digit")
    if name in RESERVED:
        raise ValueError(f"{kind} {name!r}: this is the name of a setting of the section; choose another")
    other = _registered[kind].get(name)
    if name in built_in or (other is not None and other.plugin != entry.plugin):
        owner = f"of {other.plugin}" if other is not None else "of this package"
        raise ValueError(f"{kind} {name!r}: there is one of this name already, {owner}")
    _registered[kind][name] = entry


def load_plugins(plugins: Sequence[str], where: str = "") -> None:
    """Import plugins, which register their models and losses.

    Args:
        plugins: names of modules.
        where: source of the list, for errors.

    Raises:
        PluginError: one cannot be imported.
    """
    for name in plugins:
        try:
            import_module(name)
        except (Exception, SystemExit) as error:  # a plugin is any code
            prefix = f"{where}: " if where else ""
            hint = "install it, or add its folder to PYTHONPATH" if isinstance(error, ImportError) else "see the plugin"
            raise PluginError(
                f"{prefix}plugin {name!r} cannot be imported ({type(error).__name__}: {error}); {hint}"
            ) from error


def _announced(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUPS[kind])}


def plugin_names(kind: Kind) -> list[str]:
    """List the names that plugins have registered or announced."""
    return sorted({*_registered[kind], *_announced(kind)})


def registered(kind: Kind, name: str) -> Registered | None:
    """Find a model or loss of a plugin, importing an announced one; None where no plugin has the name.

    Raises:
        PluginError: the plugin that announces it cannot be imported, or does not register it.
    """
    if name not in _registered[kind] and (point := _announced(kind).get(name)) is not None:
        load_plugins([point.module], f"{kind} {name!r}")
        if name not in _registered[kind]:
            raise PluginError(f"plugin {point.module!r} announces {kind} {name!r}, but does not register it")
    return _registered[kind].get(name)


def check_model_or_loss(
    section: str, kind: Kind, name: str, settings: Mapping[str, Any], built_in: Sequence[str]
) -> None:
    """Check the name of a model or loss in a section, and the settings given for one of a plugin.

    Raises:
        ValueError: no such name; settings for none of a plugin's; an unknown setting, or a required one is missing.
    """
    if name in built_in:
        if settings:
            raise ValueError(f"{section}.plugin: {name} is no {kind} of a plugin; its settings are {section}.{name}")
        return
    entry = registered(kind, name)
    if entry is None:
        known = [*built_in, *plugin_names(kind)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; perhaps {close[0]}" if close else ""
        raise ValueError(f"{section}.name = {name!r}: allowed: {', '.join(known)}, or one of a plugin (--plugin){hint}")
    if unknown := sorted(settings.keys() - entry.settings.keys()):
        known_here = ", ".join(entry.settings) or "none"
        raise ValueError(f"{section}.plugin: {name} has no setting {unknown[0]} (known here: {known_here})")
    missing = [key for key, value in entry.settings.items() if value is REQUIRED and key not in settings]
    if missing:
        raise ValueError(f"{section}.plugin: {name} needs the setting {missing[0]}")
    for key, value in settings.items():
        if not _is_of_kind(value, entry.settings[key]) and not (value == AUTO and key in entry.auto):
            kind_of = _name_of_kind(entry.settings[key])
            raise ValueError(f"{section}.plugin: {key} of {name} must be {kind_of}, got {value!r}")


def _is_of_kind(value: Any, default: Any) -> bool:
    """Whether a value can take the place of a default: a float may be a whole number, and nothing else is converted."""
    if default is REQUIRED or default is None:
        return value != AUTO
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    kinds: tuple[tuple[Any, Any], ...] = ((float, int | float), (int, int), (str, str), (tuple | list, tuple | list))
    return next((isinstance(value, allowed) for kind, allowed in kinds if isinstance(default, kind)), True)


def _name_of_kind(default: Any) -> str:
    names: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(default), "a list" if isinstance(default, tuple | list) else f"none but {AUTO} is no value")


def plugin_settings(kind: Kind, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a plugin's model or loss: those that are given, and the defaults of the others."""
    entry = registered(kind, name)
    defaults = entry.settings if entry is not None else {}
    merged = {**defaults, **settings}

    def plain(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        is_float = isinstance(defaults.get(key), float) and not isinstance(value, str)
        return float(value) if is_float else value

    return {key: plain(key, value) for key, value in merged.items()}
