"""Schedules on the command line: `--schedules.KEY.FIELD VALUE`, with the keys and fields of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tofae_jax.config import ConfigError, ScheduleConfig, from_tree, to_tree
from tofae_jax.config.documents import DocumentError, decode_toml

PREFIX = "--schedules."


def take_schedules(words: list[str], default: Mapping[str, ScheduleConfig]) -> dict[str, ScheduleConfig]:
    """Take the options of schedules out of the words of a command line.

    Args:
        words: e.g. `--schedules.degradation.n-noise.kind linear --schedules.degradation.n-noise.end 10 20`; a value is
            written as in a recipe, a list also as several words.
        default: schedules that the options change; one whose kind is given begins anew.

    Returns:
        The schedules by key, those that nothing changes included.

    Raises:
        ConfigError: an option is not known, its value is missing or not allowed, or a new schedule has no kind.
    """
    given: dict[str, dict[str, Any]] = {}
    while (place := next((i for i, word in enumerate(words) if word.startswith(PREFIX)), None)) is not None:
        stop = next((i for i in range(place + 1, len(words)) if words[i].startswith("--")), len(words))
        option, *values = words[place:stop]
        del words[place:stop]
        option, is_inline, value = option.partition("=")
        key, _, field = option.removeprefix(PREFIX).replace("-", "_").replace('"', "").rpartition(".")
        if not key:
            raise ConfigError(f"train: {option}: write {PREFIX}KEY.FIELD, e.g. {PREFIX}degradation.n-noise.kind linear")
        given.setdefault(key, {})[field] = _value(option, field, [value, *values] if is_inline else values)
    return dict(default) | {key: _schedule(key, fields, default.get(key)) for key, fields in given.items()}


def _schedule(key: str, fields: dict[str, Any], default: ScheduleConfig | None) -> ScheduleConfig:
    tree = fields if "kind" in fields or default is None else to_tree(default) | fields
    if "kind" not in tree:
        raise ConfigError(
            f"train: {PREFIX}{key.replace('_', '-')}.kind is missing: constant, linear, cosine, steps, table"
        )
    return from_tree(tree, ScheduleConfig, f"train: schedules, {key!r}")


def _value(option: str, field: str, words: list[str]) -> Any:
    """Return the value of a field: a list where there are several words, pairs of epoch and value for `points`."""
    values = [_from_toml(word) for word in words]
    if field == "hold" and not values:
        return True
    if not values:
        raise ConfigError(f"train: {option} needs a value")
    if field != "points":
        return values[0] if len(values) == 1 else values
    if not any(isinstance(value, list) for value in values):
        return [values[i : i + 2] for i in range(0, len(values), 2)]
    return values[0] if len(values) == 1 and isinstance(values[0][0], list) else values


def _from_toml(word: str) -> Any:
    try:
        return decode_toml(f"value = {word}".encode())["value"]
    except (DocumentError, UnicodeEncodeError):
        return word  # a name, without the quotes that a recipe has
