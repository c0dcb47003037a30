"""Finish a run: evaluate the best checkpoint on the test split; write figures and summary."""

from __future__ import annotations

from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax.core.precision import policy_by_name
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.simulated import PATTERN_GENERATOR
from tofae_jax.data.simulated.patterns import PATTERNS
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.evaluator import Details, RunEvaluator
from tofae_jax.engine.latents import LatentCollector
from tofae_jax.engine.load import not_of, stored_shapes
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.operating_point import chosen_point, not_reached, point_record, save_scores, with_point
from tofae_jax.engine.parameters import parameter_rows
from tofae_jax.engine.training.loop import LoopResult, TrainingJob
from tofae_jax.runs.arrays import save_arrays
from tofae_jax.runs.event_views import save_views
from tofae_jax.runs.figures import deliver_all, run_drawings
from tofae_jax.runs.messages import say
from tofae_jax.runs.saved_run import NO_LABEL, read_saved, save_latents
from tofae_jax.runs.summary import write_summary
from tofae_jax.steps import StepSettings
from tofae_jax.steps.state import TrainState

N_VIEWS = 4  # events drawn


def finish_run(job: TrainingJob, result: LoopResult, checkpoints: Checkpoints, callbacks: Callbacks) -> dict[str, Any]:
    """Evaluate the best checkpoint of a run that is done or was stopped; write figures and summary.

    Returns:
        The results, as they go into the run's record.
    """
    config = job.config
    state, meta = checkpoints.restore(stored_shapes(config), best=True, objection=not_of(job.record), warn=say)
    evaluator = result.evaluator
    if meta.precision != evaluator.setup.policy.name:
        evaluator = RunEvaluator(job.setup.with_policy(meta.precision), job.dataset)
    point = _operating_point(job, evaluator, state)
    with callbacks.span("test"):
        test = _test_metrics(job, evaluator, state, evaluator.setup.step_settings(with_point(config, point)))
    results: dict[str, Any] = {
        "best_epoch": meta.epoch,
        **_progress(result),
        "test": test,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "precision": meta.precision,
        "scores_hits": job.setup.options.scores_hits,
    }
    if point:
        results["operating_point"] = point
    if policy_by_name(config.precision.policy).scales_loss:
        skipped = sum(record["train"]["steps_skipped"] for record in result.history) + result.totals.skipped
        results |= {"steps_skipped": skipped, "fallback": result.fallback}
    if plots_s := sum(record["time"].get("plots_s", 0.0) for record in result.history):
        results["plots_in_training"] = _plot_times(result, callbacks, plots_s, results["training_s"])
    if test is not None:
        callbacks.tracker.hyperparameters(job.record.config, test)
    write_summary(job.paths, job.record, results, result.history, parameters=parameter_rows(state.params))
    if config.train.plots != "none":
        with callbacks.span("plots"):
            _draw(job, results)
    return results


def _progress(result: LoopResult) -> dict[str, Any]:
    history, totals = result.history, result.totals
    return {
        "epochs": len(history),
        "steps": result.steps,
        "hits_dropped": sum(record["hits_dropped"] for record in history) + totals.hits_dropped,
        "training_s": sum(record["time"]["epoch_s"] for record in history) + totals.train_s,
    }


def _plot_times(result: LoopResult, callbacks: Callbacks, plots_s: float, training_s: float) -> dict[str, float]:
    callbacks.plots.wait()
    background_s = sum(record["time"].get("drawing_cpu_s", 0.0) for record in result.history)
    return {
        "s": plots_s,
        "share": plots_s / training_s,
        "background_cpu_s": background_s + callbacks.plots.take_cpu_s(),
    }


def _draw(job: TrainingJob, results: dict[str, Any]) -> None:
    """Draw all figures from what was saved, so that drawing them again gives the same."""
    run = read_saved(job.paths.folder)
    run = run._replace(record=msgspec.structs.replace(run.record, results=results))
    if saved := deliver_all(run_drawings(run), run.paths.plots, job.config.train.plots, say=say):
        say(f"plots saved: {len(saved)}, in {run.paths.plots}")


def _test_metrics(
    job: TrainingJob, evaluator: RunEvaluator, state: TrainState, settings: StepSettings
) -> dict[str, Any] | None:
    """Evaluate the test events and save what figures need of them; None where there are no such events."""
    events = job.splits.test
    if not len(events):
        return None
    setup, paths = evaluator.setup, job.paths
    collector = LatentCollector(setup, state.variables, settings) if setup.model.has_latent else None
    each = collector.add if collector is not None else None
    details = evaluator.details(state.variables, events, settings, n_views=N_VIEWS, each=each)
    labels = _labels(job.dataset, events)
    save_views(paths.plot_data, details.views, job.config.detector)
    save_arrays(paths.plot_events, _numbers(details, events, labels))
    if collector is not None:
        save_latents(paths.plot_latents, collector.latents(labels, seed=job.config.seed))
    return details.result


def _operating_point(job: TrainingJob, evaluator: RunEvaluator, state: TrainState) -> dict[str, Any] | None:
    """Save the scores of the validation events and, if asked for, choose the thresholds for test and use."""
    events = job.splits.validation
    if not len(events):
        return None
    sums = evaluator.sums(state.variables, events)
    assert sums.scores is not None  # sums of a whole evaluation have them
    save_scores(job.paths.scores, sums.scores)
    if job.config.mask.choose == "none":
        return None
    point = chosen_point(job.config, evaluator.setup.options, sums.scores)
    if not point.reached:
        say(not_reached(job.config.mask))
    return point_record(job.config, point)


def _numbers(details: Details, events: np.ndarray, labels: list[str]) -> dict[str, np.ndarray]:
    """Collect the counts of each event, by dotted name."""
    per_event = details.per_event
    counts = {name: np.asarray(count) for name, count in per_event.events._asdict().items() if name != "n_events"}
    for output in ("input", "direct", "masked"):
        confusion = getattr(per_event, output).confusion
        counts |= {f"{output}.{name}": np.asarray(count) for name, count in confusion._asdict().items()}
    return {"event": events, "label": np.asarray(labels, np.str_), "loss": np.asarray(per_event.loss), **counts}


def _labels(dataset: EventStore, events: np.ndarray) -> list[str]:
    """Name the simulated pattern of each event; empty for other data."""
    ours = dataset.provenance.get("generator") == PATTERN_GENERATOR
    column = dataset.event_column("pattern", events) if ours else None
    if column is None:
        return [NO_LABEL] * len(events)
    names = dict(enumerate(PATTERNS)) | {-1: "mixed"}
    return [names.get(number, NO_LABEL) for number in column.tolist()]
