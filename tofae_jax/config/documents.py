"""Decode JSON and TOML of any content within limits, and seal JSON with a checksum over all that it says."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Any

import msgspec

MOST_DEPTH = 100
"""tables and arrays within each other"""
MOST_BYTES = 2**28
"""of a document"""
SEAL = "checksum"
"""key of the checksum of a sealed document"""
_SEAL_DIGITS = 16


class DocumentError(ValueError):
    """A document cannot be used; the message says why, on one line, and does not name the file."""


def decode_json(content: bytes) -> Any:
    """Decode JSON to dicts, lists, text and numbers.

    Raises:
        DocumentError: it is no JSON, or beyond the limits.
    """
    _check_size(content)
    try:
        tree = msgspec.json.decode(content)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DocumentError(f"damaged: {error}") from None
    return within_limits(tree)


def decode_toml(content: bytes) -> dict[str, Any]:
    """Decode TOML to dicts, lists, text, numbers and dates.

    Raises:
        DocumentError: it is no TOML in UTF-8, or beyond the limits.
    """
    _check_size(content)
    try:
        tree = tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"is no text in UTF-8 (byte {error.start})") from None
    except ValueError as error:  # a TOMLDecodeError, or an integer of thousands of digits
        raise DocumentError(str(error)) from None
    return within_limits(tree)


def schema_version(tree: Any, *, newest: int) -> int:
    """Return the `schema_version` of a document.

    Args:
        tree: the decoded document.
        newest: version that this package writes.

    Raises:
        DocumentError: it is missing, no whole number above 0, or newer.
    """
    if not isinstance(tree, dict):
        raise DocumentError(f"damaged: expected an object, got {_kind(tree)}")
    version = tree.get("schema_version")
    if type(version) is not int or version < 1:
        raise DocumentError(
            "damaged: it lacks its schema_version" if version is None else f"damaged: its schema_version is {version!r}"
        )
    if version > newest:
        raise DocumentError(f"schema version {version} is newer than this package's {newest}")
    return version


def sealed(tree: dict[str, Any]) -> dict[str, Any]:
    """Add the checksum of a document to it; `unsealed` finds whatever is changed later."""
    return {**tree, SEAL: _checksum(tree)}


def unsealed(tree: Any, *, is_required: bool) -> dict[str, Any]:
    """Return a document without its checksum.

    Args:
        tree: the decoded document.
        is_required: whether it must have a checksum: those of earlier versions have none.

    Raises:
        DocumentError: the checksum is missing, or is not that of the content.
    """
    if not isinstance(tree, dict):
        raise DocumentError(f"damaged: expected an object, got {_kind(tree)}")
    content = {key: value for key, value in tree.items() if key != SEAL}
    if SEAL not in tree:
        if is_required:
            raise DocumentError(f"damaged: it lacks its {SEAL}")
    elif tree[SEAL] != _checksum(content):
        raise DocumentError(f"damaged or edited: its {SEAL} is not that of its content")
    return content


def _checksum(tree: dict[str, Any]) -> str:
    """Compute a checksum that spaces and the order of keys do not change."""
    return hashlib.sha256(msgspec.json.encode(tree, order="sorted")).hexdigest()[:_SEAL_DIGITS]


def _check_size(content: bytes) -> None:
    if len(content) > MOST_BYTES:
        raise DocumentError(f"has {len(content)} bytes; at most {MOST_BYTES} allowed")


def _too_deep() -> DocumentError:
    return DocumentError(f"is nested more than {MOST_DEPTH} deep")


def within_limits(tree: Any) -> Any:
    """Return a decoded document, whatever decoded it.

    Raises:
        DocumentError: its depth, numbers or text are beyond the limits.
    """
    waiting = [(tree, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth >= MOST_DEPTH:
                raise _too_deep()
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            waiting.extend((each, depth + 1) for each in inner)
        elif isinstance(value, str) and "\0" in value:
            raise DocumentError("has text with a NUL character")
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise DocumentError("has an integer of more than 64 bits")
    return tree


def _kind(value: object) -> str:
    return {list: "an array", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
