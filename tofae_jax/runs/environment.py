"""Package versions, git revision and system information of a run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "msgspec")


def versions() -> dict[str, str]:
    """Versions of Python, this package and what its results rest on."""
    found = {"python": platform.python_version()}
    for package in ("tofae-jax", *_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def git_revision() -> str | None:
    """Revision of the source tree that the package runs from, with `-dirty` if it was changed; None without one."""
    tree = Path(__file__).resolve().parent.parent.parent
    if not (tree / ".git").exists():  # not a source tree; it may lie inside somebody else's
        return None
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def system_information(devices: Mapping[str, Any]) -> dict[str, Any]:
    """Machine, Python and devices, for the record."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "python": sys.version.split()[0],
        "git_revision": git_revision(),
        **devices,
    }
