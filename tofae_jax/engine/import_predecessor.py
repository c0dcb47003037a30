"""A run folder from the predecessor's checkpoint, for evaluation, denoising, and as the start of other runs.

Weights and batch statistics are taken over number by number, in the precision that the file names. The optimiser's
state is not: a run that starts from this one has a fresh one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tofae_jax.config import Config, from_tree, to_tree
from tofae_jax.core.detector import Detector
from tofae_jax.core.precision import cast_variables
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.predecessor_checkpoint import PredecessorCheckpoint
from tofae_jax.data.storage.atomic import replacing_folder
from tofae_jax.data.storage.replaceable import check_free
from tofae_jax.engine.build import RunSetup, build_run, describe_devices
from tofae_jax.engine.checkpoint_format import CheckpointMeta
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.device_precision import prepare
from tofae_jax.models.predecessor_weights import predecessor_shapes, variables_from_predecessor
from tofae_jax.runs import environment, folder
from tofae_jax.runs import record as runs
from tofae_jax.runs.folder import NO_RUN, RunError, RunPaths
from tofae_jax.runs.record import RunRecord, Session
from tofae_jax.steps.state import TrainState


def predecessor_run(
    checkpoint: PredecessorCheckpoint,
    out: str | Path,
    *,
    detector: Detector,
    overwrite: bool = False,
    command: list[str] | None = None,
) -> tuple[RunPaths, RunRecord]:
    """Make the run folder `out` of a checkpoint; returns its paths and its record.

    Settings that the file does not know are the defaults, and are not in the record. A float64 checkpoint switches
    64-bit numbers on for the whole process.

    Args:
        checkpoint: as read from a file.
        out: folder to be made, whose name is the run's id; it appears only when complete.
        detector: that the network was trained for.
        overwrite: replace a run that is there; anything else there, and one with other files, is never replaced.
        command: for the record.

    Raises:
        DataError: an array is missing, unknown, or does not fit the detector; the message names it.
        RunError: something is at `out` already.
    """
    started = folder.timestamp()
    paths = RunPaths(out)
    check_free(Path(out), NO_RUN, overwrite=overwrite, sources=[checkpoint.path], error_type=RunError)
    if paths.record.is_file():
        with folder.locked(paths):
            pass
    settings = _settings(checkpoint, detector)
    config = from_tree(settings, Config, str(checkpoint.path))
    _check_weights(checkpoint, detector)
    prepare(config.precision.policy)
    setup = build_run(config)
    state = _state(checkpoint, setup)
    record = _record(checkpoint, settings, state, run_id=paths.folder.name, started=started, command=command or [])
    may_replace = NO_RUN if overwrite else None
    with replacing_folder(paths.folder, may_replace=may_replace, error_type=RunError) as partial:
        with Checkpoints(RunPaths(partial).checkpoints) as checkpoints:
            checkpoints.save(state, _meta(checkpoint, record, config), score=None)
        runs.write_record(RunPaths(partial), record)
    return paths, record


def _settings(checkpoint: PredecessorCheckpoint, detector: Detector) -> dict[str, Any]:
    """Return the settings that are known; the others had no part in the training."""
    return {
        "detector": to_tree(detector),
        "model": {"name": "autoencoder", "autoencoder": {"latent": checkpoint.latent, "fc": checkpoint.fc}},
        "normalisation": {"name": "gapped", "threshold": checkpoint.threshold},
        "precision": {"policy": checkpoint.policy},
    }


def _check_weights(checkpoint: PredecessorCheckpoint, detector: Detector) -> None:
    """DataError that names the first array that is missing, has another shape, or is not known."""
    sizes = {"n_y": detector.n_y, "n_x": detector.n_x, "latent": checkpoint.latent, "fc": checkpoint.fc}
    shapes = predecessor_shapes(**sizes)
    for name, shape in shapes.items():
        own_name = name.partition(".")[2]
        if name not in checkpoint.weights:
            raise DataError(f"{checkpoint.path}: lacks array {own_name!r}")
        if (found := checkpoint.weights[name].shape) != shape:
            needed = ", ".join(f"{key} = {value}" for key, value in sizes.items())
            raise DataError(
                f"{checkpoint.path}: array {own_name!r} has shape {list(found)}; {list(shape)} needed for {needed}; "
                "--detector.n-x and --detector.n-y say what detector it was trained for"
            )
    if unknown := sorted(checkpoint.weights.keys() - shapes.keys()):
        shown = one_line(repr(unknown[0].partition(".")[2]))
        raise DataError(f"{checkpoint.path}: array {shown} is not one of the autoencoder's")


def _state(checkpoint: PredecessorCheckpoint, setup: RunSetup) -> TrainState:
    """A fresh state with the checkpoint's weights and batch statistics."""
    detector = setup.config.detector
    mapped = variables_from_predecessor(checkpoint.weights, n_y=detector.n_y, n_x=detector.n_x)
    with np.errstate(over="ignore"):  # found below, by name
        variables = jax.tree.map(jnp.asarray, cast_variables(mapped, setup.policy))
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            name = jax.tree_util.keystr(path)
            raise DataError(f"{checkpoint.path}: {name} has numbers too large for {leaf.dtype}, its precision")
    state = setup.fresh_state()
    return state.replace(params=variables["params"], batch_stats=variables["batch_stats"])


def _record(
    checkpoint: PredecessorCheckpoint,
    settings: dict[str, Any],
    state: TrainState,
    *,
    run_id: str,
    started: str,
    command: list[str],
) -> RunRecord:
    reason = f"converted from {checkpoint.path.name}, SHA-256 {checkpoint.sha256}"
    provenance = {
        "converted_from": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "epoch": checkpoint.epoch,
        "left_out": list(checkpoint.left_out),
    }
    results: dict[str, Any] = {
        "best_epoch": checkpoint.epoch,
        "epochs": checkpoint.epoch,
        "steps": 0,  # here
        "test": None,
        "hits_dropped": 0,
        "training_s": 0.0,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "precision": checkpoint.policy,
    }
    ended = folder.timestamp()
    return RunRecord(
        run_id=run_id,
        status="finished",
        reason=reason,
        started=started,
        ended=ended,
        command=command,
        config=settings,
        data={"provenance": provenance},
        versions=environment.versions(),
        system=environment.system_information(describe_devices()),
        sessions=[Session(started=started, ended=ended, command=command, status="finished", reason=reason)],
        results=results,
    )


def _meta(checkpoint: PredecessorCheckpoint, record: RunRecord, config: Config) -> CheckpointMeta:
    return CheckpointMeta(
        run_id=record.run_id,
        epoch=checkpoint.epoch,
        step=0,
        batches_delivered=0,
        data_fingerprint="",
        package_versions=record.versions,
        model_name=config.model.name,
        config=record.config,
        precision=config.precision.policy,
        history=[],
        git_revision=record.system.get("git_revision"),
    )
