"""The timeline of a run: spans of the execution timer, as they are stored."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tofae_jax.config.documents import DocumentError, decode_json, schema_version

SCHEMA_VERSION = 1


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time under a name."""

    name: str
    start_s: float
    """seconds since the timer was made"""
    stop_s: float | None
    """likewise; None while it is open"""
    depth: int
    """how many spans of the same thread were open when it began"""
    thread: str
    closed_at_exit: bool = False
    """True if nothing but the timer's exit ended it"""


class Total(msgspec.Struct, frozen=True):
    """All closed spans of one name; what is nested in a span of its own name counts for itself too."""

    count: int
    seconds: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """All of a saved timer."""

    schema_version: int = SCHEMA_VERSION
    totals: dict[str, Total]
    problems: dict[str, int]
    """stops without a start, by name"""
    n_not_kept: int
    """closed spans that are in the totals only"""
    spans: list[Span]
    """by start"""


def read_timeline(path: Path) -> Timeline:
    """What `Timer.save` wrote; ValueError naming the file if it is missing, damaged or of a newer version."""
    try:
        tree = decode_json(Path(path).read_bytes())
        schema_version(tree, newest=SCHEMA_VERSION)
        return msgspec.convert(tree, Timeline)
    except DocumentError as error:
        raise ValueError(f"{path}: {error}") from None
    except (msgspec.MsgspecError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a timeline: {error}") from None
