"""Run folders: the one place that knows their names, paths and states.

```
runs/ID/run.json         id, state, times, versions, system, resolved settings, data, results
        metrics.jsonl    one line per epoch
        checkpoints/     Orbax
        tensorboard/     event files
        plots/           figures, and the data they were made from
        summary.txt      for people
        scores.npz       hits of the validation events by score: what cuts are chosen by
        recordings/      activations, weights and biases, if asked for
        timeline.json    times of its parts, if asked for
        profile/         traces, if asked for
        STOP, PAUSE      made by you: ends the run in good order, or lets it wait
```
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec

from tofae_jax.config import Config, from_tree
from tofae_jax.files import write_text
from tofae_jax.migrations import migrated_record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RunStatus = Literal["running", "finished", "stopped", "failed"]
SCHEMA_VERSION = 2
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "msgspec")


class RunError(ValueError):
    """A run folder is missing or is not what it should be; the message names it."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One process that worked on a run."""

    started: str
    ended: str = ""
    command: list[str] = []
    status: RunStatus = "running"
    reason: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of `run.json`."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    parent_run_id: str | None = None
    status: RunStatus = "running"
    reason: str = ""
    """why it ended, if not by finishing"""
    started: str = ""
    ended: str = ""
    command: list[str] = []
    config: dict[str, Any] = {}
    data: dict[str, Any] = {}
    """dataset path, fingerprint, provenance, split sizes"""
    versions: dict[str, str] = {}
    system: dict[str, Any] = {}
    seeds: dict[str, int] = {}
    """every seed that the run draws from"""
    sessions: list[Session] = []
    """the processes that worked on it, in order; more than one if it was resumed"""
    results: dict[str, Any] = {}


class RunPaths:
    """Every path inside a run folder."""

    def __init__(self, folder: str | Path) -> None:
        """Paths inside `folder`; nothing is made."""
        self.folder = Path(folder).resolve()
        self.record = self.folder / "run.json"
        self.metrics = self.folder / "metrics.jsonl"
        self.checkpoints = self.folder / "checkpoints"
        self.tensorboard = self.folder / "tensorboard"
        self.plots = self.folder / "plots"
        self.plot_data = self.plots / "data.npz"
        self.plot_events = self.plots / "events.npz"
        self.plot_latents = self.plots / "latents.npz"
        self.summary = self.folder / "summary.txt"
        self.recordings = self.folder / "recordings"
        self.timeline = self.folder / "timeline.json"
        self.profile = self.folder / "profile"
        self.lock = self.folder / ".lock"
        self.scores = self.folder / "scores.npz"
        self.report = self.folder / "report.html"

    def epoch_plots(self, epoch: int) -> Path:
        """Where the figures go that are made of an epoch while the training goes on."""
        return self.plots / f"epoch_{epoch:04d}"


def now() -> str:
    """The local time with its offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def create_run_folder(parent: str | Path, name: str = "") -> RunPaths:
    """A fresh run folder with a unique id, safe when several processes begin in the same second."""
    parent = Path(parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            run_id = "-".join(part for part in (name, stamp, secrets.token_hex(2)) if part)
            try:
                (parent / run_id).mkdir()
            except FileExistsError:
                continue
            paths = RunPaths(parent / run_id)
            paths.plots.mkdir()
            return paths
    except OSError as error:
        raise RunError(f"{parent}: cannot make a run folder: {error.strerror or error}") from None


def write_record(paths: RunPaths, record: RunRecord) -> Path:
    """Write `run.json`; returns its path."""
    return write_text(paths.record, msgspec.json.format(msgspec.json.encode(record), indent=1).decode())


def read_record(folder: str | Path) -> tuple[RunPaths, RunRecord]:
    """Paths and record of a run; RunError where there is none or it cannot be read."""
    paths = RunPaths(folder)
    if not paths.folder.is_dir():
        raise RunError(f"{folder}: no such run")
    if not paths.record.is_file():
        raise RunError(f"{folder}: not a run folder: it has no {paths.record.name}")
    try:
        tree = msgspec.json.decode(paths.record.read_bytes())
        version = tree.get("schema_version") if isinstance(tree, dict) else None
        if not isinstance(version, int):
            raise RunError(f"{paths.record}: damaged: it lacks its schema_version")
        if version > SCHEMA_VERSION:
            raise RunError(f"{paths.record}: schema version {version} is newer than this package's {SCHEMA_VERSION}")
        return paths, msgspec.convert(migrated_record(tree), RunRecord)
    except (msgspec.MsgspecError, OSError) as error:
        raise RunError(f"{paths.record}: damaged: {error}") from None


def settings_of(folder: str | Path) -> Config:
    """The settings of a run, to be resumed or to start another one with."""
    paths, record = read_record(folder)
    return from_tree(record.config, Config, str(paths.record))


@contextmanager
def locked(paths: RunPaths) -> Iterator[None]:
    """Only one process works on a run; RunError where another one does. A killed process holds nothing."""
    with paths.lock.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{paths.folder}: another process works on this run") from None
            except OSError:
                pass  # a file system without locks, as some network disks are
        yield


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
    tree = Path(__file__).resolve().parent.parent
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
