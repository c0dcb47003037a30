"""Text for messages."""

from __future__ import annotations

MAX_SHOWN = 100  # characters of a text from elsewhere that a message shows


def one_line(text: object, *, limit: int | None = MAX_SHOWN, tail: int = 0) -> str:
    """Write a text, or the message of an error, on one line.

    White space of any kind becomes single spaces. An error without a message gives the name of its class.

    Args:
        text: its `str` is written.
        limit: most characters kept; what lies beyond is replaced by `...`. None: all are kept.
        tail: how many of these are kept from the end, for errors that name their cause there.
    """
    words = " ".join(str(text).split())
    if isinstance(text, BaseException) and not any(map(str.isalnum, words)):  # such as `()`
        words = type(text).__name__
    if limit is None or len(words) <= limit:
        return words
    return f"{words[: limit - tail]} ... {words[-tail:]}" if tail else f"{words[:limit]}..."
