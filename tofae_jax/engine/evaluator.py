"""Run a compiled evaluation over any number of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tofae_jax import metrics
from tofae_jax.data.batches import EvaluationSource, evaluation_batches
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.events import evaluation_source
from tofae_jax.models import Model
from tofae_jax.plots import EventView
from tofae_jax.steps import Batch, EvalOutput, StepOptions, StepSettings, eval_step, model_input
from tofae_jax.steps.outputs import score_threshold

BATCHES_ON_DEVICE = 16  # most partial sums merged there before they move to the host's wider numbers
MOST_PIXELS_ON_DEVICE = 2**30  # counts there are int32
EVALUATION_STREAM = 2**32 - 1  # in the place of an epoch, and none has this number: draws apart from training's


def evaluation_key(seed: int) -> jax.Array:
    """Return the root key of an evaluation's draws, for `eval_step`; `evaluate` and the command use it too.

    Args:
        seed: of the draws; a training with the same seed draws others.

    Returns:
        The key. `eval_step` draws from it and the event's number.
    """
    return jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM)


class Details(NamedTuple):
    """All that an evaluation gives."""

    result: dict[str, Any]
    """as `metrics.compute` gives it, with `intervals`"""
    per_event: metrics.Metrics
    """of single events, NumPy arrays `[n, …]`, in the order of the source"""
    views: list[EventView]


class Evaluator:
    """Compiles an evaluation once and runs it over any number of event sets."""

    def __init__(self, model: Model, options: StepOptions, *, threads: int, prefetch: int) -> None:
        """Prepare; nothing is compiled before the first batch.

        Args:
            model: the model.
            options: of its steps.
            threads: threads that read batches ahead; 0: the caller's.
            prefetch: batches read ahead.
        """
        self._model, self._options = model, options
        self._reading_ahead = {"threads": threads, "prefetch": prefetch}

        def step(variables: Any, batch: Batch, key: jax.Array, settings: StepSettings) -> EvalOutput:
            return eval_step(variables, batch, key, settings, model=model, options=options)

        self._sums = jax.jit(lambda *inputs: step(*inputs).metrics)
        self._all = jax.jit(step)

    def sums(self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings) -> metrics.Metrics:
        """Merged metrics of all events."""
        return self._merged(source, lambda batch: self._sums(variables, jax.device_put(batch), key, settings))

    def _merged(self, source: EvaluationSource, step: Callable[[Batch], metrics.Metrics]) -> metrics.Metrics:
        n_x, n_y, _ = self._options.shape_xyt
        n_pixels = source.batch * n_x * n_y
        merged = max(1, min(BATCHES_ON_DEVICE, MOST_PIXELS_ON_DEVICE // n_pixels))
        on_device: metrics.Metrics | None = None
        on_host: metrics.Metrics | None = None
        for i, batch in enumerate(evaluation_batches(source, **self._reading_ahead), start=1):
            part = step(batch)
            on_device = part if on_device is None else metrics.merge(on_device, part)
            if i % merged == 0 or i == len(source):
                moved = metrics.to_host(jax.device_get(on_device))
                on_host = moved if on_host is None else metrics.merge(on_host, moved)
                on_device = None
        assert on_host is not None  # a source always has a batch
        return on_host

    def result(
        self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings
    ) -> dict[str, Any]:
        """Numbers for people of all events."""
        return metrics.compute(self.sums(variables, source, key, settings), **self._reading(settings))

    def _reading(self, settings: StepSettings) -> dict[str, Any]:
        normalisation = self._options.normalisation
        lit_above = normalisation.lit_above(settings.threshold)
        threshold = score_threshold(settings, self._options) if self._options.scores_hits else lit_above
        return {"threshold": float(threshold), "direct_has_time": normalisation.has_time}

    def details(
        self,
        variables: Any,
        source: EvaluationSource,
        key: jax.Array,
        settings: StepSettings,
        *,
        n_views: int = 0,
        each: Callable[[Batch, EvalOutput], None] | None = None,
    ) -> Details:
        """Numbers of all events together, with confidence intervals, and of each.

        Args:
            variables: of the model.
            source: events.
            key: of their draws.
            settings: of the step.
            n_views: so many of the first events of the first batch are kept at every stage, for plots.
            each: is given every batch with all that is known of it, still on the device.
        """
        parts: list[metrics.Metrics] = []
        views: list[EventView] = []

        def step(batch: Batch) -> metrics.Metrics:
            evaluated = self._all(variables, jax.device_put(batch), key, settings)
            if not parts and n_views:
                views.extend(self._views(batch, evaluated, n_views))
            per_event = jax.device_get(evaluated.per_event)
            parts.append(jax.tree.map(lambda leaf: leaf[batch.is_event], per_event))
            if each is not None:
                each(batch, evaluated)
            return evaluated.metrics

        sums = self._merged(source, step)
        per_event = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        reading = self._reading(settings)
        result = metrics.compute(sums, **reading) | {"intervals": metrics.intervals(per_event, **reading)}
        return Details(result, per_event, views)

    def views(
        self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings, *, n_events: int
    ) -> list[EventView]:
        """The first events of a source at every stage, for plots."""
        batch = source[0]
        return self._views(batch, self._all(variables, jax.device_put(batch), key, settings), n_events)

    def _views(self, batch: Batch, evaluated: EvalOutput, n_events: int) -> list[EventView]:
        n = min(n_events, int(batch.is_event.sum()))
        shown = evaluated._replace(metrics=None, per_event=None)
        shown = jax.device_get(jax.tree.map(lambda leaf: leaf[:n], shown))
        return [self._view(batch.hits[i], jax.tree.map(lambda leaf: leaf[i], shown)) for i in range(n)]  # noqa: B023

    def inputs(self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings) -> Any:
        """What the model is given for the first batch of a source, without filling."""
        batch = source[0]
        degraded = self._all(variables, jax.device_put(batch), key, settings).degraded
        event_hits = degraded.events.hits
        given = model_input(self._model, degraded.input, event_hits, batch.tracks, settings, self._options)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[batch.is_event], given)

    def _view(self, pattern: np.ndarray, event: EvalOutput) -> EventView:
        degraded = event.degraded.events
        hits = np.asarray(degraded.hits)
        filled = hits[:, 2] > 0

        def compact(padded: Any) -> np.ndarray:
            array = np.asarray(padded)
            return array[array[:, 2] > 0]

        return EventView(
            pattern=compact(pattern),
            sparse=compact(degraded.sparse),
            smeared=compact(degraded.smeared),
            hits=hits[filled],
            is_signal=np.asarray(degraded.is_signal)[filled],
            direct=np.asarray(event.direct),
            kept=np.asarray(event.kept)[filled],
            has_time=self._options.normalisation.has_time,
            target=self._options.target,
        )


def run_evaluator(setup: RunSetup) -> Evaluator:
    """Build the evaluation of a run, which reads as many batches ahead as its settings say."""
    data = setup.config.data
    return Evaluator(setup.model, setup.options, threads=data.threads, prefetch=data.prefetch_batches)


class RunEvaluator:
    """Evaluate events of a run with the run's own settings and draws; compiles once."""

    def __init__(self, setup: RunSetup, dataset: EventStore) -> None:
        """Prepare; nothing is compiled before the first batch."""
        self.setup, self.dataset = setup, dataset
        self.compiled = run_evaluator(setup)
        self.key = evaluation_key(setup.config.seed)
        """root of the draws of validation and test"""
        self.settings = setup.step_settings()
        """settings of validation and test; schedules change those of the training only"""

    def source(self, events: np.ndarray) -> EvaluationSource:
        """Make batches of the events with these numbers."""
        return evaluation_source(self.setup.config, self.dataset, events)

    def metrics(self, variables: Any, events: np.ndarray) -> dict[str, Any] | None:
        """Compute the metrics of events; None where there are no events."""
        if not len(events):
            return None
        return self.compiled.result(variables, self.source(events), self.key, self.settings)

    def sums(self, variables: Any, events: np.ndarray) -> metrics.Metrics:
        """Sum the metrics of events."""
        return self.compiled.sums(variables, self.source(events), self.key, self.settings)

    def views(self, variables: Any, events: np.ndarray, *, n_events: int) -> list[EventView]:
        """Show the first events at every stage; none where there are no events."""
        if not len(events):
            return []
        return self.compiled.views(variables, self.source(events), self.key, self.settings, n_events=n_events)

    def inputs(self, variables: Any, events: np.ndarray) -> Any:
        """Return the model's input for the first batch of events."""
        return self.compiled.inputs(variables, self.source(events), self.key, self.settings)

    def details(
        self,
        variables: Any,
        events: np.ndarray,
        settings: StepSettings,
        *,
        n_views: int,
        each: Callable[[Batch, EvalOutput], None] | None,
    ) -> Details:
        """Evaluate events in detail, with these settings; see `Evaluator.details`."""
        source = self.source(events)
        return self.compiled.details(variables, source, self.key, settings, n_views=n_views, each=each)
