"""The training loop: epochs of steps, with validation, monitoring and checkpoints; resumable after any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, at_epoch, in_force
from tofae_jax.core.precision import policy_by_name
from tofae_jax.data.batches import Splits, TrainSource, batches
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import RunSetup, learning_rate_at
from tofae_jax.engine.checkpoint_format import CheckpointMeta, EpochTotals
from tofae_jax.engine.checkpoint_policy import CheckpointPolicy
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.device_precision import prepare
from tofae_jax.engine.evaluator import RunEvaluator
from tofae_jax.engine.monitoring.callbacks import Callbacks, EpochEnd
from tofae_jax.engine.monitoring.progress import Progress
from tofae_jax.engine.training.control import Control
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.messages import say
from tofae_jax.runs.record import RunRecord
from tofae_jax.steps import Batch, StepSettings, TrainMetrics, train_step
from tofae_jax.steps.loss_scaling import FALLBACKS, initial_scale, recast
from tofae_jax.steps.state import TrainState

AVERAGED = ("loss", "gradient_norm", "parameter_norm", "update_norm")


class TrainingError(RuntimeError):
    """Training cannot continue; the message says where and why."""


class TrainingJob(NamedTuple):
    """What a run trains, what on, and where it is kept."""

    setup: RunSetup
    paths: RunPaths
    record: RunRecord
    dataset: EventStore
    splits: Splits
    source: TrainSource
    policy: CheckpointPolicy

    @property
    def config(self) -> Config:
        """Settings of the run."""
        return self.setup.config


class LoopResult(NamedTuple):
    """Where a training ended."""

    history: list[dict[str, Any]]
    """one record per epoch done"""
    totals: EpochTotals
    """of the epoch that was interrupted; zero where none was"""
    steps: int
    """training steps done"""
    stopped_by: str
    """why it stopped before its last epoch; empty if it did not"""
    fallback: str
    """why the precision is not that of the settings; empty if it is"""
    evaluator: RunEvaluator
    """compiled for the precision of the last epoch"""


def compiled_train_step(setup: RunSetup) -> Callable[..., tuple[TrainState, TrainMetrics]]:
    """Compile `(state, batch, settings) -> (state, metrics)` once; the memory of the given state is reused."""

    def step(state: TrainState, batch: Batch, settings: StepSettings) -> tuple[TrainState, TrainMetrics]:
        return train_step(state, batch, settings, model=setup.model, optimiser=setup.optimiser, options=setup.options)

    return jax.jit(step, donate_argnums=0)


class Loop:
    """Train one run from a given position to its last epoch, or to where it is asked to stop."""

    def __init__(
        self,
        job: TrainingJob,
        checkpoints: Checkpoints,
        control: Control,
        callbacks: Callbacks,
        *,
        resumed_from: CheckpointMeta | None = None,
    ) -> None:
        """Prepare the loop; nothing is compiled before the first step."""
        self.job, self.config = job, job.config
        self.checkpoints, self.control, self.callbacks = checkpoints, control, callbacks
        self.epoch_config = job.config
        """settings in force in the present epoch"""
        self.history: list[dict[str, Any]] = list(resumed_from.history) if resumed_from else []
        self.totals = (resumed_from and resumed_from.partial_epoch) or EpochTotals()
        self.fallback = resumed_from.fallback if resumed_from else ""
        self.stopped_by = ""
        self.saved_at = time.monotonic()
        self.set_precision(resumed_from.precision if resumed_from else job.config.precision.policy)

    def set_precision(self, policy: str) -> None:
        """Compute in this precision policy from now on."""
        self.setup = self.job.setup.with_policy(policy)
        self.evaluator = RunEvaluator(self.setup, self.job.dataset)
        self.step = compiled_train_step(self.setup)

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return self.job.source.steps_per_epoch

    @property
    def position(self) -> int:
        """Training batches delivered and used."""
        return len(self.history) * self.steps_per_epoch + self.totals.steps

    def run(self, state: TrainState) -> LoopResult:
        """Train until all epochs are done or `control` asks to stop, and wait until all checkpoints are written."""
        data = self.config.data
        with ExitStack() as stack:
            iterator = batches(self.job.source, threads=data.threads, prefetch=data.prefetch_batches)
            stack.callback(iterator.close)
            iterator.set_state(iterator.get_state() | {"next_index": self.position})
            progress = stack.enter_context(Progress(self.config.train.epochs, self.steps_per_epoch))
            self.callbacks.plots.note = progress.say
            self.saved_at = time.monotonic()
            while len(self.history) < self.config.train.epochs and not self.stopped_by:
                state = self._epoch(state, iterator, progress)
        self.checkpoints.wait()
        return LoopResult(self.history, self.totals, self.position, self.stopped_by, self.fallback, self.evaluator)

    def _epoch(self, state: TrainState, iterator: Any, progress: Progress) -> TrainState:
        epoch = len(self.history) + 1
        self.epoch_config = at_epoch(self.config, epoch)
        with self.callbacks.span("training"):
            state = self._steps(epoch, state, iterator, progress)
        if self.totals.steps < self.steps_per_epoch:
            return state
        progress.say(f"epoch {epoch}: validating")
        began = time.perf_counter()
        with self.callbacks.span("validation"):
            validation = self.evaluator.metrics(state.variables, self.job.splits.validation)
        validation_s = time.perf_counter() - began
        if validation is not None and not np.isfinite(validation["loss"]):
            n_bad = validation["outputs"]["not_finite"]
            raise TrainingError(
                f"epoch {epoch}: validation loss {validation['loss']}, {n_bad} outputs not finite, so training "
                "stopped; a smaller optimiser.learning_rate may help"
            )
        self.history.append(self._epoch_record(epoch, validation, validation_s))
        self.totals = EpochTotals()
        self.callbacks.epoch(self._epoch_end(state))
        progress.epoch_done(self.history[-1])
        is_last = epoch == self.config.train.epochs
        self.stopped_by = "" if is_last else self.control.reason_to_stop()
        if is_last or self.stopped_by or self.job.policy.is_due(epoch, time.monotonic() - self.saved_at):
            self._save(state, score=self.job.policy.score(self.history[-1]))
        return state

    def _epoch_record(self, epoch: int, validation: dict[str, Any] | None, validation_s: float) -> dict[str, Any]:
        train_s = self.totals.train_s
        return {
            "epoch": epoch,
            "step": epoch * self.steps_per_epoch,
            "learning_rate": self._learning_rate(epoch, self.steps_per_epoch),
            "train": self._train_record(),
            "validation": validation,
            "hits_dropped": self.totals.hits_dropped,
            **({"scheduled": in_force(self.config, epoch)} if self.config.schedules else {}),
            "time": {"epoch_s": train_s + validation_s, "train_s": train_s, "validation_s": validation_s},
        }

    def _epoch_end(self, state: TrainState) -> EpochEnd:
        splits, variables = self.job.splits, state.variables
        recorded = splits.validation[:1] if len(splits.validation) else splits.train[:1]
        return EpochEnd(
            record=self.history[-1],
            state=state,
            model=self.setup.model,
            detector=self.config.detector,
            views=lambda: self.evaluator.views(variables, splits.validation, n_events=1),
            inputs=lambda: self.evaluator.inputs(variables, recorded),
        )

    def _steps(self, epoch: int, state: TrainState, iterator: Any, progress: Progress) -> TrainState:
        """Train the rest of an epoch. Metrics are fetched now and then, so that the host does not block the device."""
        waiting: list[TrainMetrics] = []
        scheduled = self.setup.step_settings(self.epoch_config)
        clock = time.perf_counter()
        for step in range(self.totals.steps + 1, self.steps_per_epoch + 1):
            batch = next(iterator)
            self.totals.hits_dropped += int(batch.n_dropped.sum())
            settings = scheduled._replace(learning_rate=np.float32(self._learning_rate(epoch, step)))
            with self.callbacks.step(self.position + 1 + len(waiting), state):
                state, metrics = self.step(state, jax.device_put(batch), settings)
            waiting.append(metrics)
            is_last = step == self.steps_per_epoch  # stop and pause requests wait for the end of the epoch, which saves
            reason, pause = self.control.reason_to_stop(), self.control.is_to_pause() and not is_last
            is_due = self.job.policy.is_due(None, time.monotonic() - self.saved_at)
            saves = not is_last and (bool(reason) or pause or is_due)
            is_regular = is_last or step % self._fetch_every == 0
            if saves or is_regular:
                self._fetch_metrics(waiting, epoch, progress)
                failed = waiting[-1].stuck >= self.config.precision.fallback_after
                waiting = []
                if is_regular and failed:  # at no other places, or it would matter where a run was interrupted
                    state = self._fall_back(state, f"epoch {epoch}, step {step}")
                now = time.perf_counter()
                self.totals.train_s, clock = self.totals.train_s + now - clock, now
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
    def _fetch_every(self) -> int:
        """Steps between fetches; the same places in an epoch whether it was interrupted or not."""
        every = self.config.train.log_every
        return min(every, self.config.precision.fallback_after) if self.setup.policy.scales_loss else every

    def _fetch_metrics(self, waiting: list[TrainMetrics], epoch: int, progress: Progress) -> None:
        """Fetch the metrics of the last steps and add them up."""
        fetched: list[TrainMetrics] = jax.device_get(waiting)
        self._check_finite(fetched, epoch)
        for metrics in fetched:
            self.totals.steps += 1
            self.totals.loss_scale = float(metrics.loss_scale)
            if metrics.skipped:
                self.totals.skipped += 1
                continue
            for name in AVERAGED:
                self.totals.totals[name] = self.totals.totals.get(name, 0.0) + float(getattr(metrics, name))
        progress.step(epoch, self.totals.steps, float(fetched[-1].loss))

    def _train_record(self) -> dict[str, Any]:
        """Average over the steps of an epoch that were not skipped; None where all were."""
        done = self.totals.steps - self.totals.skipped
        record: dict[str, Any] = {name: self.totals.totals[name] / done if done else None for name in AVERAGED}
        record["relative_update"] = record["update_norm"] / max(record["parameter_norm"], 1e-12) if done else None
        record["precision"] = self.setup.policy.name
        if policy_by_name(self.config.precision.policy).scales_loss:
            record |= {"steps_skipped": self.totals.skipped, "loss_scale": self.totals.loss_scale}
        return record

    def _fall_back(self, state: TrainState, where: str) -> TrainState:
        """Continue in a precision that overflows less, with the same state."""
        failed = self.setup.policy
        policy = prepare(FALLBACKS[failed.name, self.config.precision.fallback])
        self.fallback = (
            f"{where}: {failed.name} gave no finite gradients in {int(state.scale.stuck)} steps in a row at the "
            f"smallest loss scale; goes on in {policy.name}"
        )
        say(self.fallback)
        params, residual = recast(state.params, state.residual, policy)
        scale = initial_scale(1.0, in_use=False).replace(skipped=state.scale.skipped)
        self.set_precision(policy.name)
        return state.replace(params=params, residual=residual, scale=scale)

    def _learning_rate(self, epoch: int, step: int) -> float:
        done = (epoch - 1) * self.steps_per_epoch + step - 1
        return learning_rate_at(self.epoch_config.optimiser, done, self.config.train.epochs * self.steps_per_epoch)

    def _check_finite(self, fetched: list[TrainMetrics], epoch: int) -> None:
        for i, metrics in enumerate(fetched, start=1):
            if not metrics.skipped and not (np.isfinite(metrics.loss) and np.isfinite(metrics.gradient_norm)):
                raise TrainingError(
                    f"epoch {epoch}, step {self.totals.steps + i} (step {self.position + i} of the run): loss "
                    f"{metrics.loss}, gradient norm {metrics.gradient_norm}: not finite, so training stopped; "
                    "a smaller optimiser.learning_rate may help"
                )

    def _save(self, state: TrainState, *, score: float | None) -> None:
        with self.callbacks.span("checkpoint"):
            self.checkpoints.save(state, self._meta(), score=score)
        self.saved_at = time.monotonic()

    def _meta(self) -> CheckpointMeta:
        record, totals = self.job.record, self.totals
        return CheckpointMeta(
            run_id=record.run_id,
            parent_run_id=record.parent_run_id,
            epoch=len(self.history),
            step=self.position,
            batches_delivered=self.position,
            data_fingerprint=self.job.source.fingerprint,
            package_versions=record.versions,
            model_name=self.setup.model.name,
            config=record.config,
            precision=self.setup.policy.name,
            history=self.history,
            partial_epoch=msgspec.structs.replace(totals, totals=dict(totals.totals)) if totals.steps else None,
            fallback=self.fallback,
            git_revision=record.system.get("git_revision"),
        )
