"""Whether anybody can see a window on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def missing_display(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """Why no window can be seen here, empty if one can; a display is looked for only where there are X11 or Wayland."""
    if platform in ("win32", "darwin") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return ""
    return "this machine has no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
