"""The end of a run: its best epoch evaluated on events that nothing has seen, summary, figures."""

from __future__ import annotations

from typing import Any

import jax

from tofae_jax import plots
from tofae_jax.checkpoints import Checkpoints
from tofae_jax.config import to_tree
from tofae_jax.evaluation import stored_shapes
from tofae_jax.loop import Loop, say
from tofae_jax.observers import Observers
from tofae_jax.precision import policy_by_name
from tofae_jax.summary import write_summary
from tofae_jax.train_state import TrainState

N_VIEWS = 4  # events drawn


def finish(loop: Loop, checkpoints: Checkpoints, observers: Observers) -> dict[str, Any]:
    """Results of a run that is done, or was asked to stop, as they go into its record."""
    state, meta = checkpoints.restore(stored_shapes(loop.config), best=True, warn=say)
    if meta.precision != loop.assembly.policy.name:
        loop.use(meta.precision)
    with observers.span("test"):
        test = loop.evaluate(state, loop.work.splits.test)
    results = {
        "best_epoch": meta.epoch,
        "epochs": len(loop.history),
        "steps": loop.position,
        "test": test,
        "hits_dropped": sum(record["hits_dropped"] for record in loop.history) + loop.sums.hits_dropped,
        "training_s": sum(record["time"]["epoch_s"] for record in loop.history) + loop.sums.train_s,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "precision": meta.precision,
    }
    if policy_by_name(loop.config.precision.policy).scales_loss:
        skipped = sum(record["train"]["steps_skipped"] for record in loop.history) + loop.sums.skipped
        results |= {"steps_skipped": skipped, "fallback": loop.fallback}
    if test is not None:
        observers.tracker.hyperparameters(to_tree(loop.config), test)
    write_summary(loop.work.paths, loop.work.record, results, loop.history, parameters=state.params)
    if loop.config.train.plots != "none":
        with observers.span("plots"):
            _draw(loop, state, test)
    return results


def _draw(loop: Loop, state: TrainState, test: dict[str, Any] | None) -> None:
    mode, folder, detector = loop.config.train.plots, loop.work.paths.plots, loop.config.detector

    def deliver(figure: Any, name: str) -> None:
        if path := plots.deliver(figure, folder / f"{name}.png", mode):
            say(f"plot saved: {path}")

    say("plotting: training curves")
    deliver(plots.training_curves(loop.history, against="epoch"), "curves")
    deliver(plots.training_curves(loop.history, against="time"), "curves_time")
    say("plotting: outputs about the threshold")
    deliver(plots.threshold_telemetry(loop.history), "threshold")
    if test is None:
        return
    say("plotting: comparison of outputs")
    deliver(plots.output_comparison(test), "outputs")
    source = loop.evaluation_source(loop.work.splits.test)
    views = loop.evaluator.views(state.variables, source, loop.key, loop.settings, n_events=N_VIEWS)
    plots.save_views(loop.work.paths.plot_data, views, detector)
    for i, view in enumerate(views, start=1):
        say(f"plotting: event {i} of {len(views)}")
        deliver(plots.stage_panels(view, detector=detector), f"event_{i}_stages")
        deliver(plots.event_3d(view, detector=detector), f"event_{i}_3d")
