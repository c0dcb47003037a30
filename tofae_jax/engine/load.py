"""Load a trained run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tofae_jax.config import Config, from_tree, only_used
from tofae_jax.core.precision import cast_variables, policy_by_name
from tofae_jax.engine.build import RunSetup, build_run, with_precision
from tofae_jax.engine.checkpoint_format import CheckpointMeta
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.checks import first_difference
from tofae_jax.engine.device_precision import allow_64_bit, prepare
from tofae_jax.engine.operating_point import with_point
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.messages import warn
from tofae_jax.runs.record import RunRecord, read_record


class LoadedRun(NamedTuple):
    """A trained run, ready for use: its settings, model and weights."""

    paths: RunPaths
    """paths inside the run folder"""
    record: RunRecord
    """contents of `run.json`"""
    setup: RunSetup
    """settings, model and step options"""
    variables: Any
    """`{"params": …, "batch_stats": …}`, for `Model.apply`, `evaluate` and `denoise`"""
    epoch: int
    """epochs of training behind the weights"""


def load_run(folder: str | Path, *, best: bool = True, precision: str | None = None) -> LoadedRun:
    """Load the settings and weights of a run, from its best (or newest) good checkpoint.

    Args:
        folder: the run.
        best: its best checkpoint by validation (`checkpoints.metric`, F1 by default), else its newest.
        precision: use the weights in this precision policy; None: in the checkpoint's own. A run in float64, or its use
            in float64, switches 64-bit numbers on for the whole process.

    Returns:
        Settings with the run's operating point, model, weights in the policy's dtypes, and record of the run.

    Raises:
        RunError: there is no run in the folder, or its record is damaged or newer than this package.
        CheckpointError: it has no checkpoint that is whole and fits.
        ConfigError: its settings are not allowed in this package.
        PluginError: it was trained with a plugin that cannot be imported.
        ValueError: `precision` is unknown, or this device cannot compute in it.
    """
    paths, record = read_record(folder)
    config = from_tree(record.config, Config, str(paths.record))
    if precision is not None:
        prepare(precision)
    allow_64_bit(policy_by_name(config.precision.policy))  # to read; a run in float64 never falls back
    with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
        state, meta = checkpoints.restore(stored_shapes(config), best=best, objection=not_of(record), warn=warn)
    if precision is None:
        prepare(meta.precision)
    config = with_point(config, record.results.get("operating_point"), str(paths.record))
    setup = build_run(with_precision(config, precision or meta.precision))
    return LoadedRun(paths, record, setup, cast_variables(state.variables, setup.policy), meta.epoch)


def not_of(record: RunRecord) -> Callable[[CheckpointMeta], str | None]:
    """Return what objects to checkpoints of another run, and to those that were made with other settings."""

    def objection(meta: CheckpointMeta) -> str | None:
        if meta.run_id and meta.run_id != record.run_id:
            return f"is of run {meta.run_id}, not of {record.run_id}"
        if not meta.config:
            return None
        theirs, ours = (from_tree(_compared(tree), Config, "its settings") for tree in (meta.config, record.config))
        if (found := first_difference(theirs, ours)) is None:
            return None
        key, then, now = found
        return f"was made with {key} = {then!r}, but run.json has {now!r}: one of them was changed"

    return objection


def _compared(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that count: those in use, without the simulation's, as the data have a fingerprint."""
    tree = only_used(tree)
    if isinstance(data := tree.get("data"), dict):
        tree = tree | {"data": {name: value for name, value in data.items() if name != "simulate"}}
    return tree


def stored_shapes(config: Config) -> Callable[[CheckpointMeta], Any]:
    """What a checkpoint holds, without making it: to read, not to compute, so the device need not run its precision.

    64-bit numbers must be allowed where it holds such.
    """

    def shapes(meta: CheckpointMeta) -> Any:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        fresh = jax.eval_shape(build_run(with_precision(config, meta.precision)).fresh_state)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), fresh)

    return shapes
