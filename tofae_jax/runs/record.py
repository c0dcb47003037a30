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

from pathlib import Path
from typing import Any, Literal

import msgspec

from tofae_jax.config import Config, from_tree
from tofae_jax.config.documents import DocumentError, decode_json, schema_version, sealed, unsealed
from tofae_jax.data.storage.atomic import write_text
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.migrations import migrated_record
from tofae_jax.runs.record_contents import contents_of

RunStatus = Literal["running", "finished", "stopped", "failed"]
SCHEMA_VERSION = 3
SEALED_FROM = 3
"""schema version since which `run.json` and the lines of `metrics.jsonl` have checksums"""


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
    checkpoint_policy: str = ""
    """class of the policy that decides what is saved; empty: that of the settings"""
    versions: dict[str, str] = {}
    system: dict[str, Any] = {}
    seeds: dict[str, int] = {}
    """every seed that the run draws from"""
    sessions: list[Session] = []
    """the processes that worked on it, in order; more than one if it was resumed"""
    results: dict[str, Any] = {}


def write_record(paths: RunPaths, record: RunRecord) -> Path:
    """Write `run.json`; returns its path."""
    content = msgspec.json.encode(sealed(msgspec.json.decode(msgspec.json.encode(record))))
    return write_text(paths.record, msgspec.json.format(content, indent=1).decode())


def read_record(folder: str | Path) -> tuple[RunPaths, RunRecord]:
    """Paths and record of a run; RunError where there is none or it cannot be read."""
    paths = RunPaths(folder)
    if not paths.folder.is_dir():
        raise RunError(f"{folder}: no such run")
    if not paths.record.is_file():
        raise RunError(f"{folder}: not a run folder: it has no {paths.record.name}")
    try:
        tree = decode_json(paths.record.read_bytes())
        version = schema_version(unsealed(tree, is_required=False), newest=SCHEMA_VERSION)
        content = unsealed(tree, is_required=version >= SEALED_FROM)
        content = migrated_record(content)
        record = msgspec.convert(content, RunRecord)
        contents_of(content)
    except DocumentError as error:
        raise RunError(f"{paths.record}: {error}") from None
    except (msgspec.MsgspecError, OSError) as error:
        raise RunError(f"{paths.record}: damaged: {error}") from None
    return paths, record


def settings_of(folder: str | Path) -> Config:
    """The settings of a run, to be resumed or to start another one with."""
    paths, record = read_record(folder)
    return from_tree(record.config, Config, str(paths.record))
