"""Checkpoints with Orbax: written in the background, newest and best kept, checked when read.

A checkpoint holds arrays and plain JSON, no code: the model's name and settings rebuild it. Items: `model`
(parameters and batch statistics, enough to evaluate and denoise), `train` (all the rest of the state), `meta`.
Orbax does not notice a flipped bit in array data, and casts dtypes silently when reading: `meta` holds a checksum per
leaf, with its dtype and shape, and a checkpoint that differs is passed over for the one before it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from tofae_jax.precision import POLICIES
from tofae_jax.train_state import TrainState

SCHEMA_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or does not fit; the message names it and what is wrong."""


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    parent_run_id: str | None = None
    epoch: int
    """epochs done"""
    step: int
    """optimiser steps done"""
    batches_delivered: int
    """position in the training data"""
    data_fingerprint: str
    """of dataset, split, batch size and seed: a position means nothing in other data"""
    package_versions: dict[str, str]
    model_name: str
    config: dict[str, Any]
    precision: str
    """policy of the weights; not that of `config` if the run fell back"""
    history: list[dict[str, Any]]
    """one record per epoch done"""
    checksums: dict[str, str] = {}


def _raw(leaf: Any) -> Any:
    """The leaf, or the numbers of a random key."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _kinds(tree: Any) -> dict[str, str]:
    """Dtype and shape of each leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda t: jax.tree.map(_raw, t), tree))
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def checksums(tree: Any) -> dict[str, str]:
    """Of each leaf: dtype, shape and CRC-32 of its bytes."""
    found = _kinds(tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(np.asarray(_raw(leaf)))
        found[jax.tree_util.keystr(path)] += f":{zlib.crc32(array.reshape(-1).view(np.uint8).data):08x}"
    return found


def _misfit(stored: dict[str, str], template: Any) -> str | None:
    """What in a checkpoint does not fit the template; Orbax's own answer to that leaves broken coroutines behind."""
    wanted = _kinds(template)
    for name, kind in wanted.items():
        if name not in stored:
            return f"it lacks {name}"
        if (there := stored[name].partition(":")[0]) != kind:
            return f"{name} is {there}, the settings need {kind}"
    surplus = sorted(set(stored) - set(wanted))
    return f"it holds {surplus[0]}, which the settings do not know" if surplus else None


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return "read_only" not in record.getMessage() and "read only" not in record.getMessage()


# opening to read only makes Orbax warn, at length, that it will only read
logging.getLogger("absl").addFilter(_is_worth_a_line)


def _items(state: TrainState) -> dict[str, Any]:
    model = {"params": state.params, "batch_stats": state.batch_stats}
    rest = {name: getattr(state, name) for name in ("step", "opt_state", "key", "scale", "residual")}
    return {"model": model, "train": rest}


class Checkpoints:
    """The checkpoints of one run; a context manager, as a save that still runs when the program ends would be lost."""

    def __init__(self, folder: Path, *, keep: int, read_only: bool = False) -> None:
        """Open the folder.

        Args:
            folder: made if missing, unless `read_only`.
            keep: newest checkpoints kept beside the best one (highest score).
            read_only: only read; nothing is cleaned up.
        """
        if read_only and not folder.is_dir():
            raise CheckpointError(f"{folder}: no checkpoints here")
        score: Callable[[Any], float] = lambda metrics: metrics["score"]  # noqa: E731
        policies = checkpoint_managers
        best = policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            best_fn=score,
            best_mode="max",
            step_prefix="epoch",
            step_format_fixed_length=6,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self.folder = folder
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: TrainState, meta: CheckpointMeta, *, score: float) -> None:
        """Save in the background, as the checkpoint of `meta.epoch`; higher scores are better.

        A failure of an earlier save in the background is raised here.
        """
        items = _items(state)
        meta = msgspec.structs.replace(meta, checksums=checksums(items))
        items = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args = ocp.args.Composite(**items, meta=ocp.args.JsonSave(msgspec.to_builtins(meta)))
        score = score if np.isfinite(score) else -1e30  # NaN has no place in an order
        self._manager.save(meta.epoch, args=args, metrics={"score": float(score)})

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint."""
        return sorted(self._manager.all_steps())

    def best_epoch(self) -> int | None:
        """Epoch of the best checkpoint."""
        return self._manager.best_step()

    def read_meta(self, epoch: int) -> CheckpointMeta:
        """What the checkpoint of an epoch says of itself; CheckpointError names what is missing or too new."""
        try:
            tree = self._manager.restore(epoch, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        except Exception as error:  # Orbax raises many kinds, bare Exception among them
            raise CheckpointError(f"{self.folder}: checkpoint of epoch {epoch}: {_one_line(error)}") from None
        version = tree.get("schema_version") if isinstance(tree, dict) else None
        if not isinstance(version, int):
            raise CheckpointError(f"{self.folder}: checkpoint of epoch {epoch} lacks its schema_version")
        if version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{self.folder}: checkpoint of epoch {epoch} has schema version {version}, "
                f"newer than this package's {SCHEMA_VERSION}"
            )
        try:
            return msgspec.convert(tree, CheckpointMeta)
        except msgspec.ValidationError as error:
            raise CheckpointError(f"{self.folder}: checkpoint of epoch {epoch}: {error}") from None

    def restore(
        self, template: Callable[[CheckpointMeta], TrainState], *, best: bool = False, warn: Callable[[str], None]
    ) -> tuple[TrainState, CheckpointMeta]:
        """The newest (or best) good checkpoint, in the shapes and places of the state that `template` gives for it.

        A damaged one is passed over, saying so through `warn`, for the newest of the others.
        """
        epochs = self.epochs()[::-1]
        if best and (chosen := self.best_epoch()) is not None:
            epochs = [chosen, *(epoch for epoch in epochs if epoch != chosen)]
        problems = []
        for epoch in epochs:
            try:
                restored = self._restore_epoch(epoch, template)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                warn(f"{problem}; using the one of epoch {epoch} instead")
            return restored
        raise CheckpointError("; ".join(problems) or f"{self.folder}: holds no finished checkpoint")

    def _restore_epoch(
        self, epoch: int, template_of: Callable[[CheckpointMeta], TrainState]
    ) -> tuple[TrainState, CheckpointMeta]:
        meta = self.read_meta(epoch)
        where = f"{self.folder}: checkpoint of epoch {epoch}"
        if meta.precision not in POLICIES:
            raise CheckpointError(f"{where}: its precision {meta.precision!r} is not known")
        template = template_of(meta)

        def abstract(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

        if (misfit := _misfit(meta.checksums, _items(template))) is not None:
            raise CheckpointError(f"{where}: {misfit}")
        wanted = jax.tree.map(abstract, _items(template))
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(item) for name, item in wanted.items()})
        try:
            items = self._manager.restore(epoch, args=args)
        except Exception as error:
            raise CheckpointError(f"{where}: {_one_line(error)}") from None
        found = checksums({name: items[name] for name in wanted})
        different = [name for name, checksum in found.items() if meta.checksums.get(name) != checksum]
        if different:
            raise CheckpointError(f"{where}: damaged: checksum mismatch in {different[0]}")
        return template.replace(**items["model"], **items["train"]), meta


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
