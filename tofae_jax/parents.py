"""A run that starts from another run's weights."""

from __future__ import annotations

import jax

from tofae_jax.assembly import Assembly
from tofae_jax.checkpoints import Checkpoints, misfit
from tofae_jax.evaluation import LoadedRun, template_of, warn
from tofae_jax.precision import cast_variables
from tofae_jax.runs import RunError
from tofae_jax.train_state import TrainState


def start_from(parent: LoadedRun, child: Assembly, state: TrainState, *, optimiser: bool) -> TrainState:
    """The fresh `state` of a child with its parent's best weights, and if wanted the parent's optimiser's state.

    RunError names what does not fit: the detector's shape, the model, or one of its arrays.
    """
    mine, theirs = child.config, parent.assembly.config
    if mine.detector.shape != theirs.detector.shape:
        raise RunError(
            f"{parent.record.run_id}: its detector has n_x, n_y, n_t = {theirs.detector.shape}, "
            f"the settings say {mine.detector.shape}"
        )
    if mine.model.name != theirs.model.name:
        raise RunError(f"{parent.record.run_id}: its model is {theirs.model.name}, the settings say {mine.model.name}")
    variables = cast_variables(parent.variables, child.policy)
    if (problem := misfit(variables, state.variables)) is not None:
        raise RunError(f"{parent.record.run_id}: its model does not fit: {problem}")
    state = state.replace(params=variables["params"], batch_stats=variables["batch_stats"])
    if not optimiser:
        return state
    with Checkpoints(parent.paths.checkpoints, read_only=True) as checkpoints:
        other, _ = checkpoints.restore(template_of(theirs), best=True, warn=warn)
    moments = jax.tree.map(lambda own, old: old.astype(own.dtype), state.opt_state, other.opt_state)
    return state.replace(opt_state=moments)
