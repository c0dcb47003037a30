"""Start a run from another run's weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tofae_jax.config import Config, from_tree
from tofae_jax.core.precision import policy_by_name, wide_dtype
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.checksums import misfit
from tofae_jax.engine.detector_scale import differing_lengths, listed_lengths
from tofae_jax.engine.load import not_of, stored_shapes
from tofae_jax.models import MODELS
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.messages import warn
from tofae_jax.runs.record import read_record
from tofae_jax.steps.state import TrainState


class InitialWeights(NamedTuple):
    """Weights of the parent run, as NumPy arrays in the child's dtypes."""

    run_id: str
    epoch: int
    params: Any
    batch_stats: Any
    opt_state: Any
    """None: not taken over"""


def load_initial_weights(run: str, child: RunSetup, *, optimiser: bool) -> InitialWeights:
    """Load the best weights of a run and, if asked for, its optimiser's state.

    Raises:
        RunError: the detector's shape, the model, or one of its arrays does not fit the child, or an LHCb TORCH model
            was trained with another time window.
    """
    paths, record = read_record(run)
    mine, theirs = child.config, from_tree(record.config, Config, str(paths.record))
    if mine.detector.shape != theirs.detector.shape:
        raise RunError(
            f"{record.run_id}: its detector has n_x, n_y, n_t = {theirs.detector.shape}, "
            f"the settings say {mine.detector.shape}"
        )
    if mine.model.name != theirs.model.name:
        raise RunError(f"{record.run_id}: its model is {theirs.model.name}, the settings say {mine.model.name}")
    _check_scale(mine, theirs, record.run_id)
    # 64-bit numbers only while a parent in float64 is read: the child may do without
    policies = (child.policy, policy_by_name(theirs.precision.policy))
    with jax.enable_x64(any(policy.needs_64_bit for policy in policies)):
        with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
            state, meta = checkpoints.restore(stored_shapes(theirs), best=True, objection=not_of(record), warn=warn)
        state = jax.tree.map(np.asarray, state.replace(key=None, scale=None))
    param, statistic = jnp.dtype(child.policy.param), wide_dtype(child.policy.param)
    parent = InitialWeights(
        run_id=record.run_id,
        epoch=meta.epoch,
        params=jax.tree.map(lambda leaf: leaf.astype(param), state.params),
        batch_stats=jax.tree.map(lambda leaf: leaf.astype(statistic), state.batch_stats),
        opt_state=jax.tree.map(lambda leaf: _as_moment(leaf, statistic), state.opt_state) if optimiser else None,
    )
    fresh = jax.eval_shape(child.fresh_state)
    if (problem := misfit(parent.params, fresh.params)) is not None:
        raise RunError(f"{record.run_id}: its model does not fit: {problem}")
    return parent


def _check_scale(mine: Config, theirs: Config, run_id: str) -> None:
    """Warn of another scale of the detector; RunError where the model knows the length of a time bin."""
    if names := differing_lengths(mine.detector, theirs.detector):
        said = (
            f"{run_id}: its detector has {listed_lengths(theirs.detector, names)}, that of this training "
            f"{listed_lengths(mine.detector, names)}"
        )
        if "window_ns" in names and MODELS[mine.model.name].of_module:
            raise RunError(f"{said}; model {mine.model.name} is made for one length of its time bins")
        warn(f"{said}; its weights work in pixels and time bins")


def _as_moment(leaf: np.ndarray, dtype: Any) -> np.ndarray:
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def start_from(parent: InitialWeights, state: TrainState) -> TrainState:
    """The fresh `state` of a child with what it takes over."""
    taken = {"params": parent.params, "batch_stats": parent.batch_stats}
    if parent.opt_state is not None:
        taken["opt_state"] = parent.opt_state
    return state.replace(**jax.device_put(taken))
