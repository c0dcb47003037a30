"""The training loop. Only here do the parts of a run meet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from tofae_jax import plots, runs
from tofae_jax.assembly import (
    Assembly,
    assemble,
    check_losses,
    describe_devices,
    learning_rate_at,
    open_training_data,
    resolved_losses,
    splits_of,
    step_settings,
    with_precision,
)
from tofae_jax.checkpoints import CheckpointMeta, Checkpoints
from tofae_jax.config import Config, to_tree
from tofae_jax.datasets.format import Dataset
from tofae_jax.datasets.pipeline import EvaluationSource, Splits, TrainSource, batches
from tofae_jax.evaluation import Evaluator, evaluation_key
from tofae_jax.precision import FALLBACKS, initial_scale, policy_by_name, prepare, recast
from tofae_jax.progress import Progress
from tofae_jax.runs import RunPaths, RunRecord
from tofae_jax.steps import Batch, StepSettings, TrainMetrics, train_step
from tofae_jax.summary import write_summary
from tofae_jax.tracking import Tracker
from tofae_jax.train_state import TrainState

N_VIEWS = 4  # events drawn at the end of a run


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and why."""


class EpochOutcome(NamedTuple):
    """What one epoch of training gave."""

    state: TrainState
    record: dict[str, Any]
    n_dropped: int


def compiled_train_step(assembly: Assembly) -> Callable[..., tuple[TrainState, TrainMetrics]]:
    """`(state, batch, settings) -> (state, metrics)`, compiled once; the state's memory is reused."""

    def step(state: TrainState, batch: Batch, settings: StepSettings) -> tuple[TrainState, TrainMetrics]:
        return train_step(
            state, batch, settings, model=assembly.model, optimiser=assembly.optimiser, options=assembly.options
        )

    return jax.jit(step, donate_argnums=0)


def train(config: Config, *, command: list[str] | None = None) -> tuple[RunPaths, RunRecord]:
    """Train, evaluate on unseen events, draw, and write it all to a new run folder.

    Returns the folder's paths and its final record. The record says `failed`, with the reason, if anything raises.
    """
    say = _say
    prepare(config.precision.policy)
    check_losses(config)
    dataset = open_training_data(config, say)
    splits = splits_of(dataset, config.data)
    config, automatic = resolved_losses(config, dataset, splits.train)
    for name, number in automatic.items():
        say(f"{name}: {number:.6g}, from the training data")
    train_source = _train_source(config, dataset, splits)
    say(f"device: {', '.join(describe_devices()['devices'])} ({jax.default_backend()})")
    paths = runs.create_run_folder(config.runs.folder, config.runs.name)
    record = RunRecord(
        run_id=paths.folder.name,
        started=runs.now(),
        command=command or [],
        config=to_tree(config),
        data=_data_record(dataset, splits) | ({"automatic_weights": automatic} if automatic else {}),
        versions=runs.versions(),
        system=runs.system_information(describe_devices()),
    )
    runs.write_record(paths, record)
    say(f"run: {paths.folder}")
    debug: AbstractContextManager[Any] = nullcontext() if config.train.jit else jax.disable_jit()
    try:
        with debug:
            results = _Training(config, paths, record, dataset, splits, train_source).run()
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        ended = msgspec.structs.replace(
            record,
            status="stopped" if stopped else "failed",
            reason="interrupted" if stopped else f"{type(error).__name__}: {error}",
            ended=runs.now(),
        )
        runs.write_record(paths, ended)
        raise
    record = msgspec.structs.replace(record, status="finished", ended=runs.now(), results=results)
    runs.write_record(paths, record)
    return paths, record


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _train_source(config: Config, dataset: Dataset, splits: Splits) -> TrainSource:
    return TrainSource(
        dataset,
        splits.train,
        batch=config.train.batch,
        max_hits=config.data.max_hits,
        seed=config.seed,
        repeat_every=config.train.repeat_every,
    )


def _data_record(dataset: Dataset, splits: Splits) -> dict[str, Any]:
    return {
        "path": str(dataset.path.resolve()),
        "fingerprint": dataset.fingerprint,
        "provenance": dataset.description.provenance,
        "events": len(dataset),
        "splits": {name: len(events) for name, events in splits._asdict().items()},
    }


class _Training:
    """One run from its first step to its last figure."""

    def __init__(
        self,
        config: Config,
        paths: RunPaths,
        record: RunRecord,
        dataset: Dataset,
        splits: Splits,
        train_source: TrainSource,
    ) -> None:
        self.config, self.paths, self.record = config, paths, record
        self.dataset, self.splits, self.source = dataset, splits, train_source
        self._use(config.precision.policy)
        self.settings = step_settings(config)
        self.history: list[dict[str, Any]] = []
        self.n_dropped = 0
        self.fallback = ""

    def _use(self, policy: str) -> None:
        """Compute in another precision from now on."""
        self.assembly = assemble(with_precision(self.config, policy))
        self.evaluator = Evaluator(self.assembly)
        self.step = compiled_train_step(self.assembly)

    def run(self) -> dict[str, Any]:
        """Train all epochs, then evaluate, summarise and draw."""
        state = self.assembly.fresh_state()
        n_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        _say(f"model: {self.assembly.model.name}, {n_parameters:,} parameters".replace(",", " "))
        with ExitStack() as stack:
            tracker = stack.enter_context(Tracker(self.paths.metrics, self._tensorboard_folder()))
            checkpoints = stack.enter_context(
                Checkpoints(self.paths.checkpoints, keep=self.config.train.keep_checkpoints)
            )
            iterator = batches(
                self.source, threads=self.config.data.threads, prefetch=self.config.data.prefetch_batches
            )
            stack.callback(iterator.close)
            progress = stack.enter_context(Progress(self.config.train.epochs, self.source.steps_per_epoch))
            tracker.text("settings", msgspec.json.format(msgspec.json.encode(self.config), indent=1).decode())
            for epoch in range(1, self.config.train.epochs + 1):
                state = self._one_epoch(epoch, state, iterator, progress)
                tracker.epoch(self.history[-1])
                checkpoints.save(state, self._meta(epoch, state), score=self._score())
        return self._finish(state)

    def _tensorboard_folder(self) -> Any:
        return self.paths.tensorboard if self.config.runs.tensorboard else None

    def _one_epoch(self, epoch: int, state: TrainState, iterator: Iterator[Batch], progress: Progress) -> TrainState:
        began = time.perf_counter()
        outcome = self._train_epoch(epoch, state, iterator, progress)
        trained = time.perf_counter()
        progress.say(f"epoch {epoch}: validating")
        validation = self._evaluate(outcome.state, self.splits.validation)
        ended = time.perf_counter()
        self.n_dropped += outcome.n_dropped
        record = {
            "epoch": epoch,
            "step": epoch * self.source.steps_per_epoch,
            "learning_rate": self._learning_rate(epoch, self.source.steps_per_epoch),
            "train": outcome.record,
            "validation": validation,
            "hits_dropped": outcome.n_dropped,
            "time": {"epoch_s": ended - began, "train_s": trained - began, "validation_s": ended - trained},
        }
        self.history.append(record)
        progress.epoch_done(record)
        return outcome.state

    def _train_epoch(
        self, epoch: int, state: TrainState, iterator: Iterator[Batch], progress: Progress
    ) -> EpochOutcome:
        """All steps of an epoch. The host looks at the losses now and then only, so the device never waits."""
        seen: list[TrainMetrics] = []
        waiting: list[TrainMetrics] = []
        n_dropped = 0
        steps = self.source.steps_per_epoch
        for step in range(1, steps + 1):
            batch = next(iterator)
            n_dropped += int(batch.n_dropped.sum())
            settings = self.settings._replace(learning_rate=np.float32(self._learning_rate(epoch, step)))
            state, metrics = self.step(state, jax.device_put(batch), settings)
            waiting.append(metrics)
            if len(waiting) == self.config.train.log_every or step == steps:
                looked = jax.device_get(waiting)
                self._check_finite(looked, epoch, step - len(looked) + 1)
                progress.step(epoch, step, float(looked[-1].loss))
                seen += looked
                waiting = []
                if looked[-1].stuck >= self.config.precision.fallback_after:
                    state = self._fall_back(state, f"epoch {epoch}, step {step}")
        return EpochOutcome(state, self._train_record(seen), n_dropped)

    def _train_record(self, seen: list[TrainMetrics]) -> dict[str, Any]:
        """Means over the steps of an epoch that were not skipped."""
        done = [metrics for metrics in seen if not metrics.skipped]
        names = ("loss", "gradient_norm", "parameter_norm", "update_norm")
        record: dict[str, Any] = dict.fromkeys((*names, "relative_update"))
        if done:
            record |= {name: float(np.mean([getattr(m, name) for m in done])) for name in names}
            record["relative_update"] = record["update_norm"] / max(record["parameter_norm"], 1e-12)
        record["precision"] = self.assembly.policy.name
        if policy_by_name(self.config.precision.policy).scales_loss:
            record |= {"steps_skipped": len(seen) - len(done), "loss_scale": float(seen[-1].loss_scale)}
        return record

    def _fall_back(self, state: TrainState, where: str) -> TrainState:
        """The same state in a precision that overflows less, which the run uses from here on."""
        failed = self.assembly.policy
        policy = prepare(FALLBACKS[failed.name, self.config.precision.fallback])
        self.fallback = (
            f"{where}: {failed.name} gave no finite gradients in {int(state.scale.stuck)} steps in a row at the "
            f"smallest loss scale; goes on in {policy.name}"
        )
        _say(self.fallback)
        params, residual = recast(state.params, state.residual, policy)
        scale = initial_scale(1.0).replace(skipped=state.scale.skipped)
        self._use(policy.name)
        return state.replace(params=params, residual=residual, scale=scale)

    def _learning_rate(self, epoch: int, step: int) -> float:
        steps = self.source.steps_per_epoch
        done = (epoch - 1) * steps + step - 1
        return learning_rate_at(self.config.optimiser, done, self.config.train.epochs * steps)

    def _check_finite(self, looked: list[TrainMetrics], epoch: int, first_step: int) -> None:
        for i, metrics in enumerate(looked):
            if not metrics.skipped and not (np.isfinite(metrics.loss) and np.isfinite(metrics.gradient_norm)):
                step = first_step + i
                total = (epoch - 1) * self.source.steps_per_epoch + step
                raise TrainingError(
                    f"epoch {epoch}, step {step} (step {total} of the run): loss {metrics.loss}, gradient norm "
                    f"{metrics.gradient_norm}: not finite, so training stopped; "
                    "a smaller optimiser.learning_rate may help"
                )

    def _evaluate(self, state: TrainState, events: np.ndarray) -> dict[str, Any] | None:
        if not len(events):
            return None
        source = self._evaluation_source(events)
        return self.evaluator.result(
            self.evaluator.sums(state.variables, source, evaluation_key(self.config.seed), self.settings)
        )

    def _evaluation_source(self, events: np.ndarray) -> EvaluationSource:
        return EvaluationSource(self.dataset, events, batch=self.config.train.batch, max_hits=self.config.data.max_hits)

    def _score(self) -> float:
        """What makes one checkpoint better than another: F1 of the masked output on validation events."""
        validation, train = (self.history[-1][name] for name in ("validation", "train"))
        if validation:
            return validation["masked"]["f1"]
        return -float("inf") if train["loss"] is None else -train["loss"]

    def _meta(self, epoch: int, state: TrainState) -> CheckpointMeta:
        return CheckpointMeta(
            run_id=self.record.run_id,
            parent_run_id=self.record.parent_run_id,
            epoch=epoch,
            step=int(state.step),
            batches_delivered=epoch * self.source.steps_per_epoch,
            data_fingerprint=self.source.fingerprint,
            package_versions=self.record.versions,
            model_name=self.assembly.model.name,
            config=self.record.config,
            precision=self.assembly.policy.name,
            history=self.history,
        )

    def _finish(self, state: TrainState) -> dict[str, Any]:
        """Evaluate the best epoch on events that nothing has seen, write the summary, draw."""
        with Checkpoints(self.paths.checkpoints, keep=self.config.train.keep_checkpoints, read_only=True) as saved:
            state, meta = saved.restore(lambda meta: self._template(state, meta), best=True, warn=_say)
        if meta.precision != self.assembly.policy.name:
            self._use(meta.precision)
        test = self._evaluate(state, self.splits.test)
        results = {
            "best_epoch": meta.epoch,
            "test": test,
            "hits_dropped": self.n_dropped,
            "training_s": sum(record["time"]["epoch_s"] for record in self.history),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "precision": meta.precision,
        }
        if policy_by_name(self.config.precision.policy).scales_loss:
            results["steps_skipped"] = sum(record["train"]["steps_skipped"] for record in self.history)
            results["fallback"] = self.fallback
        write_summary(self.paths, self.record, results, self.history, parameters=state.params)
        if self.config.train.plots != "none":
            self._draw(state, self.splits.test, test)
        return results

    def _template(self, state: TrainState, meta: CheckpointMeta) -> TrainState:
        if meta.precision == self.assembly.policy.name:
            return state
        return assemble(with_precision(self.config, meta.precision)).fresh_state()

    def _draw(self, state: TrainState, events: np.ndarray, test: dict[str, Any] | None) -> None:
        mode, folder, detector = self.config.train.plots, self.paths.plots, self.config.detector

        def deliver(figure: Any, name: str) -> None:
            if path := plots.deliver(figure, folder / f"{name}.png", mode):
                _say(f"plot saved: {path}")

        _say("plotting: training curves")
        deliver(plots.training_curves(self.history, against="epoch"), "curves")
        deliver(plots.training_curves(self.history, against="time"), "curves_time")
        _say("plotting: outputs about the threshold")
        deliver(plots.threshold_telemetry(self.history), "threshold")
        if test is None:
            return
        _say("plotting: comparison of outputs")
        deliver(plots.output_comparison(test), "outputs")
        source = self._evaluation_source(events)
        views = self.evaluator.views(
            state.variables, source, evaluation_key(self.config.seed), self.settings, n_events=N_VIEWS
        )
        plots.save_views(self.paths.plot_data, views, detector)
        for i, view in enumerate(views, start=1):
            _say(f"plotting: event {i} of {len(views)}")
            deliver(plots.stage_panels(view, detector=detector), f"event_{i}_stages")
            deliver(plots.event_3d(view, detector=detector), f"event_{i}_3d")
