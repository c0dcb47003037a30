"""The folder of what can be made again: compiled programs, and which files have been verified."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the package's folder in the user's cache, which need not be there.

    Where the user has no home, as in some batch jobs, it is in that of temporary files.
    """
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "tofae_jax"
    try:
        return Path.home() / ".cache" / "tofae_jax"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"cache-{os.getuid()}" / "tofae_jax"
