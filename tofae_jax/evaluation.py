"""Evaluation: metrics over a set of events, in training and by command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from tofae_jax import metrics
from tofae_jax.assembly import (
    Assembly,
    assemble,
    evaluation_source,
    is_gone,
    open_events,
    score_threshold,
    splits_of,
    step_settings,
    with_precision,
)
from tofae_jax.checkpoints import CheckpointMeta, Checkpoints
from tofae_jax.config import Config, from_tree
from tofae_jax.core.normalisation import NORMALISATIONS
from tofae_jax.core.precision import allow_64_bit, cast_variables, policy_by_name, prepare
from tofae_jax.data.batches import EvaluationSource, evaluation_batches
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.write import open_hit_file
from tofae_jax.operating import AS_CHOSEN, Cut, with_cut, with_point
from tofae_jax.plots import EventView
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.record import RunRecord, read_record
from tofae_jax.steps import Batch, Evaluated, StepSettings, eval_step, model_input

BATCHES_ON_DEVICE = 16  # most partial sums merged there before they move to the host's wider numbers
MOST_PIXELS_ON_DEVICE = 2**30  # counts there are int32
EVALUATION_STREAM = 2**32 - 1  # in the place of an epoch, and none has this number: draws apart from training's


def pixels_per_event(assembly: Assembly) -> int:
    """Pixels of an event's image."""
    return assembly.config.detector.n_x * assembly.config.detector.n_y


def evaluation_key(seed: int) -> jax.Array:
    """Root key of an evaluation's draws."""
    return jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM)


class Details(NamedTuple):
    """All that an evaluation gives."""

    result: dict[str, Any]
    """as `metrics.compute` gives it, with `intervals`"""
    of_each: metrics.Metrics
    """of single events, NumPy arrays `[n, …]`, in the order of the source"""
    views: list[EventView]


class Evaluator:
    """Compiles an evaluation once and runs it over any number of event sets."""

    def __init__(self, assembly: Assembly) -> None:
        """Nothing is compiled before the first batch."""
        self._assembly = assembly

        def step(variables: Any, batch: Batch, key: jax.Array, settings: StepSettings) -> Evaluated:
            return eval_step(variables, batch, key, settings, model=assembly.model, options=assembly.options)

        self._sums = jax.jit(lambda *inputs: step(*inputs).metrics)
        self._all = jax.jit(step)

    def sums(self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings) -> metrics.Metrics:
        """Merged metrics of all events."""
        return self._merged(source, lambda batch: self._sums(variables, jax.device_put(batch), key, settings))

    def _merged(self, source: EvaluationSource, step: Callable[[Batch], metrics.Metrics]) -> metrics.Metrics:
        data = self._assembly.config.data
        n_pixels = source.batch * pixels_per_event(self._assembly)
        merged = max(1, min(BATCHES_ON_DEVICE, MOST_PIXELS_ON_DEVICE // n_pixels))
        on_device: metrics.Metrics | None = None
        on_host: metrics.Metrics | None = None
        for i, batch in enumerate(
            evaluation_batches(source, threads=data.threads, prefetch=data.prefetch_batches), start=1
        ):
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
        normalisation = NORMALISATIONS[self._assembly.options.normalisation]
        reads_hits = self._assembly.options.reads == "hits"
        threshold = settings.score_threshold if reads_hits else normalisation.lit_above(settings.threshold)
        return {"threshold": float(threshold), "direct_has_time": normalisation.has_time}

    def details(
        self,
        variables: Any,
        source: EvaluationSource,
        key: jax.Array,
        settings: StepSettings,
        *,
        n_views: int = 0,
        each: Callable[[Batch, Evaluated], None] | None = None,
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
            of_each = jax.device_get(evaluated.of_each)
            parts.append(jax.tree.map(lambda leaf: leaf[batch.is_event], of_each))
            if each is not None:
                each(batch, evaluated)
            return evaluated.metrics

        sums = self._merged(source, step)
        of_each = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        reading = self._reading(settings)
        result = metrics.compute(sums, **reading) | {"intervals": metrics.intervals(of_each, **reading)}
        return Details(result, of_each, views)

    def views(
        self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings, *, n_events: int
    ) -> list[EventView]:
        """The first events of a source at every stage, for plots."""
        batch = source[0]
        return self._views(batch, self._all(variables, jax.device_put(batch), key, settings), n_events)

    def _views(self, batch: Batch, evaluated: Evaluated, n_events: int) -> list[EventView]:
        n = min(n_events, int(batch.is_event.sum()))
        shown = evaluated._replace(metrics=None, of_each=None)
        shown = jax.device_get(jax.tree.map(lambda leaf: leaf[:n], shown))
        return [self._view(batch.hits[i], jax.tree.map(lambda leaf: leaf[i], shown)) for i in range(n)]  # noqa: B023

    def inputs(self, variables: Any, source: EvaluationSource, key: jax.Array, settings: StepSettings) -> Any:
        """What the model is given for the first batch of a source, without filling."""
        batch = source[0]
        views = self._all(variables, jax.device_put(batch), key, settings).views
        model, options = self._assembly.model, self._assembly.options
        given = model_input(model, views.input, views.degraded.hits, batch.tracks, settings, options)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[batch.is_event], given)

    def _view(self, pattern: np.ndarray, event: Evaluated) -> EventView:
        degraded = event.views.degraded
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
            has_time=NORMALISATIONS[self._assembly.options.normalisation].has_time,
            target=self._assembly.options.target,
        )


class LoadedRun(NamedTuple):
    """A trained run, ready for use."""

    paths: RunPaths
    record: RunRecord
    assembly: Assembly
    variables: Any
    epoch: int


def warn(message: str) -> None:
    """A warning for the user, on stderr."""
    print(f"warning: {message}", file=sys.stderr)


def load_run(folder: str | Path, *, best: bool = True, precision: str | None = None) -> LoadedRun:
    """The settings and weights of a run, from its best (or newest) good checkpoint.

    Args:
        folder: the run.
        best: its best checkpoint by validation F1, else its newest.
        precision: use the weights in this precision policy; None: in the checkpoint's own. A run in float64, or its
            use in float64, switches 64-bit numbers on for the whole process.
    """
    paths, record = read_record(folder)
    config = from_tree(record.config, Config, str(paths.record))
    if precision is not None:
        prepare(precision)
    allow_64_bit(policy_by_name(config.precision.policy))  # to read; a run in float64 never falls back
    with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
        state, meta = checkpoints.restore(stored_shapes(config), best=best, warn=warn)
    if precision is None:
        prepare(meta.precision)
    config = with_point(config, record.results.get("operating_point"))
    assembly = assemble(with_precision(config, precision or meta.precision))
    return LoadedRun(paths, record, assembly, cast_variables(state.variables, assembly.policy), meta.epoch)


def stored_shapes(config: Config) -> Callable[[CheckpointMeta], Any]:
    """What a checkpoint holds, without making it: to read, not to compute, so the device need not run its precision.

    64-bit numbers must be allowed where it holds such.
    """

    def shapes(meta: CheckpointMeta) -> Any:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        fresh = jax.eval_shape(assemble(with_precision(config, meta.precision)).fresh_state)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), fresh)

    return shapes


def with_degradation(config: Config, *, n_signal: Any = None, n_noise: Any = None, smear_t_ns: Any = None) -> Config:
    """The same settings with other counts of signal and noise hits, or times smeared otherwise; None keeps each."""
    given = {"n_signal": n_signal, "n_noise": n_noise, "smear_t_ns": smear_t_ns}
    changes = {name: value for name, value in given.items() if value is not None}
    degradation = msgspec.structs.replace(config.degradation, **changes)
    return msgspec.structs.replace(config, degradation=degradation)


def _events_of(run: LoadedRun, config: Config, data: str | None) -> EventStore:
    """The dataset that is named, or the run's own events; its dataset is where it was given, or where it was then."""
    if data is not None:
        Dataset(data)  # says what is wrong with it; what is missing is not simulated here
        section = msgspec.structs.replace(config.data, source="dataset", path=data)
        return open_events(msgspec.structs.replace(config, data=section), warn)
    then = str(run.record.data.get("path", ""))
    if is_gone(config.data, then):
        raise DataError(f"{then or config.data.path}: the run's dataset is not there any more; name one with --data")
    return open_events(config, warn, places=[then])


def _evaluation_source(run: LoadedRun, config: Config, data: str | None, split: str) -> tuple[EvaluationSource, str]:
    store = _events_of(run, config, data)
    own = store.fingerprint == run.record.data.get("fingerprint")
    if split == "auto":
        split = "test" if own else "all"
    events = np.arange(len(store)) if split == "all" else getattr(splits_of(store, config.data), split)
    if split == "train":
        events = store.anew(events, 0)
    if not len(events):
        raise DataError(f"{store.name}: its {split} split is empty; choose another with --split")
    return evaluation_source(config, store, events), split


def evaluate_run(
    folder: str | Path,
    *,
    data: str | None = None,
    split: str = "auto",
    n_signal: Any = None,
    n_noise: Any = None,
    smear_t_ns: Any = None,
    seed: int = 0,
    save_hits: str | None = None,
    overwrite: bool = False,
    precision: str | None = None,
    cut: Cut = AS_CHOSEN,
) -> dict[str, Any]:
    """Evaluate a run on a dataset of patterns, degraded as in training unless told otherwise.

    Returns what `metrics.compute` gives, with 95 % confidence intervals over the events (`metrics.intervals`) and with
    what was evaluated.

    Args:
        folder: the run.
        data: dataset of patterns; None: the one it was trained on.
        split: `train`, `validation`, `test`, `all`, or `auto`: the test events of the run's own dataset, all of others.
        n_signal: signal hits per event, a number or a range; None: as in training.
        n_noise: noise hits per event, likewise.
        smear_t_ns: smearing of signal times, likewise.
        seed: of the degradation's draws.
        save_hits: write all degraded hits with `is_signal`, `score` and `kept` to this file.
        overwrite: replace that file if it is there.
        precision: policy; None: as in training.
        cut: which hits are kept, in place of the run's own choice.
    """
    run = load_run(folder, precision=precision)
    config = with_cut(run.assembly, run.paths.scores, cut, warn=warn)
    config = with_degradation(config, n_signal=n_signal, n_noise=n_noise, smear_t_ns=smear_t_ns)
    assembly = assemble(config)
    source, split = _evaluation_source(run, config, data, split)
    evaluator = Evaluator(assembly)
    inputs = (run.variables, source, evaluation_key(seed), step_settings(config))
    if save_hits is None:
        details = evaluator.details(*inputs)
    else:
        columns = {"is_signal": np.dtype(bool), "score": np.dtype(np.float32), "kept": np.dtype(bool)}
        with open_hit_file(Path(save_hits), overwrite=overwrite, columns=columns) as file:
            details = evaluator.details(*inputs, each=lambda batch, known: file.append(_evaluated_hits(batch, known)))
    about = {
        "run": run.record.run_id,
        "epoch": run.epoch,
        "data": source.dataset.name,
        "split": split,
        "seed": seed,
        "precision": config.precision.policy,
        "n_signal": config.degradation.n_signal,
        "n_noise": config.degradation.n_noise,
        "smear_t_ns": config.degradation.smear_t_ns,
        "score_threshold": score_threshold(config),
        "tof_tolerance_ns": config.mask.tof_tolerance_ns,
    }
    return about | details.result


def _evaluated_hits(batch: Batch, evaluated: Evaluated) -> Events:
    degraded = evaluated.views.degraded
    hits, is_signal, score, kept = jax.device_get((degraded.hits, degraded.is_signal, evaluated.score, evaluated.kept))
    return compact_hits(hits, batch.is_event, {"is_signal": is_signal, "score": score, "kept": kept}, event=batch.event)


def compact_hits(
    hits: np.ndarray, is_event: np.ndarray, columns: dict[str, np.ndarray], *, event: Iterable[int] | np.ndarray
) -> Events:
    """Padded hit lists and per-hit columns `[batch, k]` as events, without empty slots and filling events."""
    hits = hits[is_event]
    filled = hits[..., 2] > 0
    offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int64)
    numbers = np.asarray(event, np.int64)[is_event]
    kept = {name: column[is_event][filled] for name, column in columns.items()}
    return Events(hits[filled].astype(np.int16), offsets, kept, {"event": numbers})
