"""Messages for the user."""

from __future__ import annotations

import sys


def warn(message: str) -> None:
    """A warning for the user, on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def say(message: str) -> None:
    """A line for the user, on stderr."""
    print(message, file=sys.stderr)
