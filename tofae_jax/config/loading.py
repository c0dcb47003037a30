"""Settings from TOML and other trees, checked, with errors that name the key, the value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from tofae_jax.config.documents import DocumentError, decode_toml
from tofae_jax.config.plugins import load_plugins


class ConfigError(ValueError):
    """A setting is not what it should be; the message names the key, the value and what is allowed."""


S = TypeVar("S", bound=msgspec.Struct)


def _value_at(tree: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _type_at(kind: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        kind = next((f.type for f in msgspec.structs.fields(kind) if f.name == key), None) if kind else None
    return kind


def _allowed(kind: Any) -> str:
    """The words of a choice, and whether a number will do as well."""
    words: list[str] = []
    for part in get_args(kind):
        if isinstance(part, str):
            words.append(part)
        else:
            words += get_args(part) if get_origin(part) is Literal else ["a number"]
    return ", ".join(words)


def _explain(tree: Any, kind: Any, message: str, keys: list[str]) -> str:
    """One line from msgspec's message and the place it names."""
    name, value = ".".join(keys), _value_at(tree, keys)
    if "unknown field" in message:
        unknown = message.partition("`")[2].rstrip("`")
        known = [f.name for f in msgspec.structs.fields(_type_at(kind, keys))]
        close = difflib.get_close_matches(unknown, known, n=1)
        hint = f"; perhaps {close[0]}" if close else ""
        return f"there is no setting {'.'.join([*keys, unknown])}{hint} (known here: {', '.join(known)})"
    if isinstance(value, Mapping):  # a section's own check, whose message begins with the field's name
        return f"{name}.{message}" if name and not message.startswith(f"{name}.") else message
    if "Invalid enum value" in message:
        message = f"allowed: {_allowed(_type_at(kind, keys))}"
    return f"{name} = {value!r}: {message}" if name else message


def _checked(tree: Any, kind: type[S], where: str) -> S:
    """The struct, or one line that names the key, its value and what is allowed."""
    if isinstance(tree, Mapping) and isinstance(plugins := tree.get("plugins"), list | tuple):
        load_plugins([name for name in plugins if isinstance(name, str)], where)
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        _check_entries(tree, kind, where)
        message, _, place = str(error).partition(" - at `$")
        keys = [part.partition("[")[0] for part in place.rstrip("`").split(".") if part]
        raise ConfigError(f"{where}: {_explain(tree, kind, message, keys)}") from None


def _check_entries(tree: Any, kind: type[msgspec.Struct], where: str) -> None:
    """ConfigError for the first bad entry of a field that maps names to structs: msgspec does not say which it is."""
    for field in msgspec.structs.fields(kind):
        origin = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        entries = tree.get(field.encode_name) if isinstance(tree, Mapping) else None
        if get_origin(origin) is dict and isinstance(entries, Mapping):
            for name, entry in entries.items():
                _checked(entry, get_args(origin)[1], f"{where}: {field.name}, {name!r}")


def checked(settings: S, where: str = "command line") -> S:
    """The same settings, checked; ConfigError names key, value and what is allowed."""
    return _checked(msgspec.to_builtins(settings), type(settings), where)


def read_toml(path: str | Path, kind: type[S]) -> S:
    """Settings from a TOML file; ConfigError names the file, the key, the value and what is allowed."""
    return read_toml_and_keys(path, kind)[0]


def read_toml_and_keys(path: str | Path, kind: type[S]) -> tuple[S, set[str]]:
    """Read settings from a TOML file.

    Returns:
        The settings, and the dotted keys of those that the file has.

    Raises:
        ConfigError: the message names the file, the key, the value and what is allowed.
    """
    try:
        tree = decode_toml(Path(path).read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None
    return _checked(tree, kind, str(path)), {key for key, _ in leaves(tree)}


def to_tree(settings: msgspec.Struct) -> dict[str, Any]:
    """The settings as dicts, lists, strings and numbers, e.g. for JSON."""
    return msgspec.json.decode(msgspec.json.encode(settings))


def from_tree(tree: Any, kind: type[S], where: str) -> S:
    """Settings from what `to_tree` gave; `where` names the source in errors."""
    return _checked(tree, kind, where)


def leaves(tree: Mapping[str, Any], *, separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested mappings into names and values, in order; an empty mapping is a value.

    Args:
        tree: e.g. what `to_tree` returns.
        separator: between the keys of a name.
        prefix: before every name.
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, separator=separator, prefix=f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
