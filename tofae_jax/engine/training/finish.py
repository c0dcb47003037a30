"""The end of a run: its best epoch evaluated on events that nothing has seen, raw data of figures, summary, figures."""

from __future__ import annotations

from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax import plots
from tofae_jax.config import to_tree
from tofae_jax.core.precision import policy_by_name
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.simulated import PATTERN_GENERATOR
from tofae_jax.data.simulated.patterns import PATTERNS
from tofae_jax.engine.build import step_settings
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.evaluator import Details
from tofae_jax.engine.latents import LatentCollector
from tofae_jax.engine.load import stored_shapes
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.operating_point import chosen_point, not_reached, point_record, save_scores, with_point
from tofae_jax.engine.training.loop import Loop
from tofae_jax.runs.arrays import save_arrays
from tofae_jax.runs.figures import deliver_all, run_drawings
from tofae_jax.runs.messages import say
from tofae_jax.runs.saved_run import NO_LABEL, read_saved, save_latents
from tofae_jax.runs.summary import write_summary
from tofae_jax.steps.state import TrainState

N_VIEWS = 4  # events drawn


def finish(loop: Loop, checkpoints: Checkpoints, callbacks: Callbacks) -> dict[str, Any]:
    """Results of a run that is done, or was asked to stop, as they go into its record."""
    state, meta = checkpoints.restore(stored_shapes(loop.config), best=True, warn=say)
    if meta.precision != loop.setup.policy.name:
        loop.use(meta.precision)
    point = _operating_point(loop, state)
    with callbacks.span("test"):
        test = _tested(loop, state)
    results: dict[str, Any] = {
        "best_epoch": meta.epoch,
        "epochs": len(loop.history),
        "steps": loop.position,
        "test": test,
        "hits_dropped": sum(record["hits_dropped"] for record in loop.history) + loop.sums.hits_dropped,
        "training_s": sum(record["time"]["epoch_s"] for record in loop.history) + loop.sums.train_s,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "precision": meta.precision,
    }
    if point:
        results["operating_point"] = point
    if policy_by_name(loop.config.precision.policy).scales_loss:
        skipped = sum(record["train"]["steps_skipped"] for record in loop.history) + loop.sums.skipped
        results |= {"steps_skipped": skipped, "fallback": loop.fallback}
    if plots_s := sum(record["time"].get("plots_s", 0.0) for record in loop.history):
        callbacks.plots.wait()
        background_s = sum(record["time"].get("drawing_cpu_s", 0.0) for record in loop.history)
        results["plots_in_training"] = {
            "s": plots_s,
            "share": plots_s / results["training_s"],
            "background_cpu_s": background_s + callbacks.plots.take_cpu_s(),
        }
    if test is not None:
        callbacks.tracker.hyperparameters(to_tree(loop.config), test)
    write_summary(loop.work.paths, loop.work.record, results, loop.history, parameters=state.params)
    if loop.config.train.plots != "none":
        with callbacks.span("plots"):
            _draw(loop, results)
    return results


def _draw(loop: Loop, results: dict[str, Any]) -> None:
    """All figures, from what was saved: whoever draws them again gets the same."""
    run = read_saved(loop.work.paths.folder)
    run = run._replace(record=msgspec.structs.replace(run.record, results=results))
    if saved := deliver_all(run_drawings(run), run.paths.plots, loop.config.train.plots, say=say):
        say(f"plots saved: {len(saved)}, in {run.paths.plots}")


def _tested(loop: Loop, state: TrainState) -> dict[str, Any] | None:
    """Metrics of the test events; what figures need of them is saved. None where there are no such events."""
    events = loop.work.splits.test
    if not len(events):
        return None
    model = loop.setup.model
    collector = LatentCollector(loop.setup, state.variables, loop.settings) if model.has_latent else None
    details = loop.evaluator.details(
        state.variables,
        loop.evaluation_source(events),
        loop.key,
        loop.settings,
        n_views=N_VIEWS,
        each=collector.add if collector is not None else None,
    )
    paths, labels = loop.work.paths, _labels(loop.work.dataset, events)
    plots.save_views(paths.plot_data, details.views, loop.config.detector)
    save_arrays(paths.plot_events, _numbers(details, events, labels))
    if collector is not None:
        save_latents(paths.plot_latents, collector.latents(labels, seed=loop.config.seed))
    return details.result


def _operating_point(loop: Loop, state: TrainState) -> dict[str, Any] | None:
    """Keep the validation events' scores; choose the cuts that test and use will have, if that is asked for."""
    events = loop.work.splits.validation
    if not len(events):
        return None
    sums = loop.evaluator.sums(state.variables, loop.evaluation_source(events), loop.key, loop.settings)
    assert sums.scores is not None  # sums of a whole evaluation have them
    save_scores(loop.work.paths.scores, sums.scores)
    if loop.config.mask.choose == "none":
        return None
    point = chosen_point(loop.config, loop.setup.options, sums.scores)
    record = point_record(loop.config, point)
    if not point.reached:
        say(not_reached(loop.config.mask))
    loop.settings = step_settings(with_point(loop.config, record))
    return record


def _numbers(details: Details, events: np.ndarray, labels: list[str]) -> dict[str, np.ndarray]:
    """Counts of each event, by dotted name."""
    per_event = details.per_event
    counts = {name: np.asarray(count) for name, count in per_event.events._asdict().items() if name != "n_events"}
    for output in ("input", "direct", "masked"):
        confusion = getattr(per_event, output).confusion
        counts |= {f"{output}.{name}": np.asarray(count) for name, count in confusion._asdict().items()}
    return {"event": events, "label": np.asarray(labels, np.str_), "loss": np.asarray(per_event.loss), **counts}


def _labels(dataset: EventStore, events: np.ndarray) -> list[str]:
    """What pattern each event is, as its simulation says; empty for data from elsewhere."""
    ours = dataset.provenance.get("generator") == PATTERN_GENERATOR
    column = dataset.event_column("pattern", events) if ours else None
    if column is None:
        return [NO_LABEL] * len(events)
    names = dict(enumerate(PATTERNS)) | {-1: "mixed"}
    return [names.get(number, NO_LABEL) for number in column.tolist()]
