"""Text for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_SHOWN = 100  # characters of a text from elsewhere that a message shows
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""what a terminal obeys or hides: control characters, marks that set the direction of writing, halves of pairs"""
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Write control characters, line ends among them, as escapes, in the way of JSON: `\\u001b`; others stay."""
    return _UNSEEN.sub(lambda found: _escape(found[0]), text)


def visible_lines(lines: str | Iterable[str]) -> str:
    """Join lines, each as `visible` writes it.

    Args:
        lines: their texts; or one text of several lines, all of which its author has made visible or knows to be so.
    """
    return "\n".join(map(visible, lines.split("\n") if isinstance(lines, str) else lines))


def _escape(character: str) -> str:
    number = ord(character)
    return _NAMES.get(character) or (f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}")


def one_line(text: object, *, limit: int | None = MAX_SHOWN, tail: int = 0) -> str:
    """Write a text, or the message of an error, on one line.

    White space of any kind becomes single spaces, and control characters become `visible`. An error without a message
    gives the name of its class.

    Args:
        text: its `str` is written.
        limit: most characters kept; what lies beyond is replaced by `...`. None: all are kept.
        tail: how many of these are kept from the end, for errors that name their cause there.
    """
    words = visible(" ".join(str(text).split()))
    if isinstance(text, BaseException) and not any(map(str.isalnum, words)):  # such as `()`
        words = type(text).__name__
    if limit is None or len(words) <= limit:
        return words
    return f"{words[: limit - tail]} ... {words[-tail:]}" if tail else f"{words[:limit]}..."
