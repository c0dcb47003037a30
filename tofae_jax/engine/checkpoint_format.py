"""What a checkpoint says of itself: its metadata, sealed with a checksum, and the errors of checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from tofae_jax.config.documents import DocumentError, decode_json, schema_version, sealed, unsealed, within_limits
from tofae_jax.runs.migrations import migrated_meta

SCHEMA_VERSION = 3
SEALED_FROM = 3
"""schema version since which metadata have a checksum, and the score among them"""
WORST = -1e30  # score of an epoch without one: NaN has no place in an order


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or does not fit; the message names it and what is wrong."""


class UnwantedError(CheckpointError):
    """A checkpoint is not to be used, and not to be deleted either."""


class DamagedError(CheckpointError):
    """What is on disk is not what was written."""


class EpochTotals(msgspec.Struct):
    """Sums over the steps done of an epoch, in float64, so that a resumed epoch ends with exactly the same means."""

    steps: int = 0
    skipped: int = 0
    totals: dict[str, float] = {}
    """over the steps that were not skipped"""
    loss_scale: float = 1.0
    """of the last step"""
    hits_dropped: int = 0
    train_s: float = 0.0


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True):
    """Description of a checkpoint, stored with it."""

    schema_version: int = SCHEMA_VERSION
    """version of this format"""
    step: int
    """optimiser steps done"""
    batches_delivered: int
    """position in the training data, which numbers the checkpoint"""
    notes: dict[str, Any] = {}
    """what the caller of `Checkpoints.save` had to say of it"""
    run_id: str = ""
    """empty for checkpoints of no run, as all fields below"""
    parent_run_id: str | None = None
    """run that this one started from, if any"""
    epoch: int = 0
    """epochs done"""
    data_fingerprint: str = ""
    """of dataset, split, batch size and seed: a position means nothing in other data"""
    package_versions: dict[str, str] = {}
    """versions of the packages in use"""
    model_name: str = ""
    """name of the model"""
    config: dict[str, Any] = {}
    """settings of the run"""
    precision: str = ""
    """policy of the weights; not that of `config` if the run fell back"""
    history: list[dict[str, Any]] = []
    """one record per epoch done"""
    partial_epoch: EpochTotals | None = msgspec.field(default=None, name="under_way")
    """totals of the epoch that the checkpoint was made within, if any; stored as `under_way`"""
    fallback: str = ""
    """why the precision is not that of `config`"""
    git_revision: str | None = None
    """of the source tree the package ran from"""
    score: float | None = None
    """that best checkpoints are chosen by, higher is better; None: not to be compared"""
    structure: str = ""
    """checksum of the structure of the state; empty: not known"""
    checksums: dict[str, str] = {}
    """dtype, shape and CRC-32 of each array, by name"""


def encoded_meta(meta: CheckpointMeta) -> dict[str, Any]:
    """Return metadata as JSON values, sealed with a checksum over all of them."""
    return sealed(msgspec.to_builtins(meta))


def decoded_meta(tree: Any, where: str) -> CheckpointMeta:
    """Return the metadata that `encoded_meta` gave, in any schema version.

    Args:
        tree: what was stored.
        where: of the checkpoint, for errors.

    Raises:
        CheckpointError: they are newer than this package.
        DamagedError: they are not what was stored.
    """
    try:
        content = unsealed(within_limits(tree), is_required=False)
    except DocumentError as error:
        version = tree.get("schema_version") if isinstance(tree, dict) else None
        is_newer = type(version) is int and version > SCHEMA_VERSION  # which may seal otherwise
        raise (CheckpointError if is_newer else DamagedError)(f"{where}: its metadata: {error}") from None
    try:
        version = schema_version(content, newest=SCHEMA_VERSION)
        unsealed(tree, is_required=version >= SEALED_FROM)
        return msgspec.convert(migrated_meta(content), CheckpointMeta)
    except DocumentError as error:
        is_newer = "newer" in str(error)
        raise (CheckpointError if is_newer else DamagedError)(f"{where}: its metadata: {error}") from None
    except msgspec.ValidationError as error:
        raise DamagedError(f"{where}: its metadata: damaged: {error}") from None


def score_of(meta: CheckpointMeta, folder: Path) -> float | None:
    """Return the score of a checkpoint; that of an earlier version lies in a file beside its metadata.

    Args:
        meta: metadata.
        folder: of the checkpoint.
    """
    if meta.schema_version >= SEALED_FROM:
        return meta.score
    try:
        score = decode_json((folder / "metrics" / "metrics").read_bytes())["score"]
        return float(score) if math.isfinite(score) else None
    except (OSError, DocumentError, KeyError, TypeError):
        return None
