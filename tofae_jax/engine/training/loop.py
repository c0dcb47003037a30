"""The training loop: epochs of steps, with validation, tracking and checkpoints; resumable after any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, at_epoch, in_force, parse_duration
from tofae_jax.core.precision import policy_by_name, prepare
from tofae_jax.data.batches import EvaluationSource, Splits, TrainSource, batches
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import RunSetup, build_run, learning_rate_at, step_settings, with_precision
from tofae_jax.engine.checkpoints import CheckpointMeta, Checkpoints, EpochTotals
from tofae_jax.engine.evaluator import Evaluator, evaluation_key
from tofae_jax.engine.events import evaluation_source
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.monitoring.progress import Progress
from tofae_jax.engine.operating_point import checkpoint_metric
from tofae_jax.engine.training.control import Control
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.messages import say
from tofae_jax.runs.record import RunRecord
from tofae_jax.steps import Batch, StepSettings, TrainMetrics, train_step
from tofae_jax.steps.loss_scaling import FALLBACKS, initial_scale, recast
from tofae_jax.steps.state import TrainState

AVERAGED = ("loss", "gradient_norm", "parameter_norm", "update_norm")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and why."""


class TrainingJob(NamedTuple):
    """What a run works on."""

    config: Config
    paths: RunPaths
    record: RunRecord
    dataset: EventStore
    splits: Splits
    source: TrainSource


def compiled_train_step(setup: RunSetup) -> Callable[..., tuple[TrainState, TrainMetrics]]:
    """`(state, batch, settings) -> (state, metrics)`, compiled once; the state's memory is reused."""

    def step(state: TrainState, batch: Batch, settings: StepSettings) -> tuple[TrainState, TrainMetrics]:
        return train_step(state, batch, settings, model=setup.model, optimiser=setup.optimiser, options=setup.options)

    return jax.jit(step, donate_argnums=0)


class Loop:
    """One run from where it stands to its last epoch, or to where it is asked to stop."""

    def __init__(self, work: TrainingJob) -> None:
        """Nothing is compiled before the first step."""
        self.work, self.config = work, work.config
        self.use(work.config.precision.policy)
        self.settings = step_settings(work.config)
        """of validation and test: what is scheduled is for training"""
        self.now = work.config
        """the settings in force in the epoch under way"""
        self.history: list[dict[str, Any]] = []
        self.sums = EpochTotals()
        self.fallback = ""
        self.stopped_by = ""
        self.key = evaluation_key(work.config.seed)
        """root of the draws of validation and test"""

    def use(self, policy: str) -> None:
        """Compute in this precision from now on."""
        self.setup = build_run(with_precision(self.config, policy))
        self.evaluator = Evaluator(self.setup)
        self.step = compiled_train_step(self.setup)

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return self.work.source.steps_per_epoch

    @property
    def position(self) -> int:
        """Training batches delivered and used."""
        return len(self.history) * self.steps_per_epoch + self.sums.steps

    def run(self, state: TrainState, checkpoints: Checkpoints, control: Control, callbacks: Callbacks) -> None:
        """Train until all epochs are done or `control` says stop; `stopped_by` then says why."""
        data = self.config.data
        self.checkpoints, self.control, self.callbacks = checkpoints, control, callbacks
        with ExitStack() as stack:
            iterator = batches(self.work.source, threads=data.threads, prefetch=data.prefetch_batches)
            stack.callback(iterator.close)
            iterator.set_state(iterator.get_state() | {"next_index": self.position})
            progress = stack.enter_context(Progress(self.config.train.epochs, self.steps_per_epoch))
            callbacks.plots.note = progress.say
            self.saved_at = time.monotonic()
            while len(self.history) < self.config.train.epochs and not self.stopped_by:
                state = self._epoch(state, iterator, progress)
        checkpoints.wait()

    def _epoch(self, state: TrainState, iterator: Any, progress: Progress) -> TrainState:
        epoch = len(self.history) + 1
        self.now = at_epoch(self.config, epoch)
        with self.callbacks.span("training"):
            state = self._steps(epoch, state, iterator, progress)
        if self.sums.steps < self.steps_per_epoch:
            return state
        progress.say(f"epoch {epoch}: validating")
        began = time.perf_counter()
        with self.callbacks.span("validation"):
            validation = self.evaluate(state, self.work.splits.validation)
        validation_s = time.perf_counter() - began
        if validation is not None and not np.isfinite(validation["loss"]):
            n_bad = validation["outputs"]["not_finite"]
            raise TrainingError(
                f"epoch {epoch}: validation loss {validation['loss']}, {n_bad} outputs not finite, so training "
                "stopped; a smaller optimiser.learning_rate may help"
            )
        train_s = self.sums.train_s
        self.history.append(
            {
                "epoch": epoch,
                "step": epoch * self.steps_per_epoch,
                "learning_rate": self._learning_rate(epoch, self.steps_per_epoch),
                "train": self._train_record(),
                "validation": validation,
                "hits_dropped": self.sums.hits_dropped,
                **({"scheduled": in_force(self.config, epoch)} if self.config.schedules else {}),
                "time": {"epoch_s": train_s + validation_s, "train_s": train_s, "validation_s": validation_s},
            }
        )
        self.sums = EpochTotals()
        self.callbacks.epoch(self.history[-1], self, state)
        progress.epoch_done(self.history[-1])
        last = epoch == self.config.train.epochs
        self.stopped_by = "" if last else self.control.reason_to_stop()
        last = last or bool(self.stopped_by)
        if last or epoch % self.config.checkpoints.every_epochs == 0:
            self._save(state, score=self._score())
        return state

    def _steps(self, epoch: int, state: TrainState, iterator: Any, progress: Progress) -> TrainState:
        """The rest of an epoch. The host looks at the losses now and then only, so the device never waits."""
        waiting: list[TrainMetrics] = []
        scheduled = step_settings(self.now)
        clock = time.perf_counter()
        for step in range(self.sums.steps + 1, self.steps_per_epoch + 1):
            batch = next(iterator)
            self.sums.hits_dropped += int(batch.n_dropped.sum())
            settings = scheduled._replace(learning_rate=np.float32(self._learning_rate(epoch, step)))
            with self.callbacks.step(self.position + 1 + len(waiting), state):
                state, metrics = self.step(state, jax.device_put(batch), settings)
            waiting.append(metrics)
            is_last = step == self.steps_per_epoch  # what is asked for then waits for the end of the epoch, which saves
            reason, pause = self.control.reason_to_stop(), self.control.is_to_pause() and not is_last
            saves = not is_last and (bool(reason) or pause or self._save_is_due())
            is_regular = is_last or step % self._look_every == 0
            if saves or is_regular:
                self._look(waiting, epoch, progress)
                failed = waiting[-1].stuck >= self.config.precision.fallback_after
                waiting = []
                if is_regular and failed:  # at no other places, or it would matter where a run was interrupted
                    state = self._fall_back(state, f"epoch {epoch}, step {step}")
                now = time.perf_counter()
                self.sums.train_s, clock = self.sums.train_s + now - clock, now
            if saves:
                self._save(state, score=None)
                clock = time.perf_counter()
            if pause and not reason:
                self.control.wait_while_paused()
                reason, clock = self.control.reason_to_stop(), time.perf_counter()
            if reason and not is_last:
                self.stopped_by = reason
                break
        return state

    @property
    def _look_every(self) -> int:
        """Steps between looks; the same places in an epoch whether it was interrupted or not."""
        every = self.config.train.log_every
        return min(every, self.config.precision.fallback_after) if self.setup.options.scale_loss else every

    def _look(self, waiting: list[TrainMetrics], epoch: int, progress: Progress) -> None:
        """Fetch and add up what the last steps gave."""
        looked: list[TrainMetrics] = jax.device_get(waiting)
        self._check_finite(looked, epoch)
        for metrics in looked:
            self.sums.steps += 1
            self.sums.loss_scale = float(metrics.loss_scale)
            if metrics.skipped:
                self.sums.skipped += 1
                continue
            for name in AVERAGED:
                self.sums.totals[name] = self.sums.totals.get(name, 0.0) + float(getattr(metrics, name))
        progress.step(epoch, self.sums.steps, float(looked[-1].loss))

    def _train_record(self) -> dict[str, Any]:
        """Means over the steps of an epoch that were not skipped; None where all were."""
        done = self.sums.steps - self.sums.skipped
        record: dict[str, Any] = {name: self.sums.totals[name] / done if done else None for name in AVERAGED}
        record["relative_update"] = record["update_norm"] / max(record["parameter_norm"], 1e-12) if done else None
        record["precision"] = self.setup.policy.name
        if policy_by_name(self.config.precision.policy).scales_loss:
            record |= {"steps_skipped": self.sums.skipped, "loss_scale": self.sums.loss_scale}
        return record

    def _fall_back(self, state: TrainState, where: str) -> TrainState:
        """The same state in a precision that overflows less, which the run uses from here on."""
        failed = self.setup.policy
        policy = prepare(FALLBACKS[failed.name, self.config.precision.fallback])
        self.fallback = (
            f"{where}: {failed.name} gave no finite gradients in {int(state.scale.stuck)} steps in a row at the "
            f"smallest loss scale; goes on in {policy.name}"
        )
        say(self.fallback)
        params, residual = recast(state.params, state.residual, policy)
        scale = initial_scale(1.0).replace(skipped=state.scale.skipped)
        self.use(policy.name)
        return state.replace(params=params, residual=residual, scale=scale)

    def _learning_rate(self, epoch: int, step: int) -> float:
        done = (epoch - 1) * self.steps_per_epoch + step - 1
        return learning_rate_at(self.now.optimiser, done, self.config.train.epochs * self.steps_per_epoch)

    def _check_finite(self, looked: list[TrainMetrics], epoch: int) -> None:
        for i, metrics in enumerate(looked, start=1):
            if not metrics.skipped and not (np.isfinite(metrics.loss) and np.isfinite(metrics.gradient_norm)):
                raise TrainingError(
                    f"epoch {epoch}, step {self.sums.steps + i} (step {self.position + i} of the run): loss "
                    f"{metrics.loss}, gradient norm {metrics.gradient_norm}: not finite, so training stopped; "
                    "a smaller optimiser.learning_rate may help"
                )

    def evaluate(self, state: TrainState, events: np.ndarray) -> dict[str, Any] | None:
        """Metrics over events by the run's own settings; None where there are no events."""
        if not len(events):
            return None
        source = self.evaluation_source(events)
        return self.evaluator.result(state.variables, source, self.key, self.settings)

    def evaluation_source(self, events: np.ndarray) -> EvaluationSource:
        """Batches of events to evaluate."""
        return evaluation_source(self.config, self.work.dataset, events)

    def _score(self) -> float:
        """What makes one checkpoint better than another, higher being better."""
        value: Any = self.history[-1]["validation"]
        if value is None:  # nothing to validate on
            loss = self.history[-1]["train"]["loss"]
            return -float("inf") if loss is None else -loss
        for name in checkpoint_metric(self.config).split("."):
            value = value[name]
        if value is None:
            return -float("inf")
        return value if self.config.checkpoints.better == "higher" else -value

    def _save_is_due(self) -> bool:
        minutes = self.config.checkpoints.every_minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _save(self, state: TrainState, *, score: float | None) -> None:
        with self.callbacks.span("checkpoint"):
            self.checkpoints.save(state, self._meta(), score=score)
        self.saved_at = time.monotonic()

    def _meta(self) -> CheckpointMeta:
        return CheckpointMeta(
            run_id=self.work.record.run_id,
            parent_run_id=self.work.record.parent_run_id,
            epoch=len(self.history),
            step=self.position,
            batches_delivered=self.position,
            data_fingerprint=self.work.source.fingerprint,
            package_versions=self.work.record.versions,
            model_name=self.setup.model.name,
            config=self.work.record.config,
            precision=self.setup.policy.name,
            history=self.history,
            under_way=msgspec.structs.replace(self.sums, totals=dict(self.sums.totals)) if self.sums.steps else None,
            fallback=self.fallback,
            git_revision=self.work.record.system.get("git_revision"),
        )

    def restore_progress(self, meta: CheckpointMeta) -> None:
        """Stand where a checkpoint of this run was made."""
        self.history, self.sums = list(meta.history), meta.under_way or EpochTotals()
        self.fallback = meta.fallback
        if meta.precision != self.setup.policy.name:
            self.use(meta.precision)

    def template(self, meta: CheckpointMeta) -> TrainState:
        """A state like that of a checkpoint of this run."""
        return build_run(with_precision(self.config, meta.precision)).fresh_state()


def control_of(work: TrainingJob) -> Control:
    """What may stop a run."""
    return Control(work.paths.folder, time_limit_s=parse_duration(work.config.train.time_limit), say=say)
