"""Trainings from start to end: new ones, children of other runs, and resumed ones. Only here do the parts meet."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import msgspec

from tofae_jax.config import Config, ConfigError, to_tree
from tofae_jax.core.precision import POLICIES, check_device, prepare
from tofae_jax.data.batches import Splits
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import build_run, describe_devices, seeds_of
from tofae_jax.engine.checkpoints import CheckpointError, Checkpoints
from tofae_jax.engine.checks import _check_metric, check_losses, check_mask, check_resumable, check_schedules
from tofae_jax.engine.class_weights import resolved_losses
from tofae_jax.engine.events import check_tracks, is_gone, open_events, splits_of, train_source
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.training.control import Control
from tofae_jax.engine.training.finish import finish
from tofae_jax.engine.training.loop import Loop, TrainingError, TrainingJob, control_of
from tofae_jax.engine.training.warm_start import InitialWeights, load_initial_weights, start_from
from tofae_jax.runs import environment, folder
from tofae_jax.runs import record as runs
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.messages import say
from tofae_jax.runs.record import RunRecord, Session
from tofae_jax.steps.loss_scaling import FALLBACKS

__all__ = ["TrainingError", "resume", "train"]


def train(config: Config, *, command: list[str] | None = None) -> tuple[RunPaths, RunRecord]:
    """Train, evaluate on unseen events, draw, and write it all to a new run folder.

    Returns the folder's paths and its final record. The record says `stopped` or `failed`, with the reason, if it was
    stopped or anything raised.
    """
    _prepare(config)
    check_losses(config)
    check_mask(config)
    check_schedules(config)
    _check_metric(config)
    parent = None
    if config.start.run:
        start = msgspec.structs.replace(config.start, run=str(Path(config.start.run).resolve()))
        config = msgspec.structs.replace(config, start=start)
        parent = load_initial_weights(start.run, build_run(config), optimiser=start.optimiser)
    dataset = open_events(config, say)
    splits = splits_of(dataset, config.data)
    if config.mask.choose != "none" and not len(splits.validation):
        raise ConfigError(f"mask.choose = {config.mask.choose!r} chooses on validation events, and there are none")
    check_tracks(config, dataset, splits.train)
    config, automatic = resolved_losses(config, dataset, splits.train)
    for name, number in automatic.items():
        say(f"{name}: {number:.6g}, from the training data")
    source = train_source(config, dataset, splits)
    paths = folder.create_run_folder(config.runs.folder, config.runs.name)
    record = RunRecord(
        run_id=paths.folder.name,
        parent_run_id=parent.run_id if parent is not None else None,
        started=folder.now(),
        command=command or [],
        config=to_tree(config),
        data=_data_record(dataset, splits) | ({"automatic_weights": automatic} if automatic else {}),
        seeds=seeds_of(config),
        versions=environment.versions(),
        system=environment.system_information(describe_devices()),
        sessions=[Session(started=folder.now(), command=command or [])],
    )
    with folder.locked(paths):
        return _worked(TrainingJob(config, paths, record, dataset, splits, source), parent)


def resume(run: str, config: Config, *, command: list[str] | None = None) -> tuple[RunPaths, RunRecord]:
    """Go on with a run from its newest good checkpoint, as if it had never been interrupted.

    `config` is what `runs.settings_of` gave, changed in nothing that the run has computed with: ConfigError names what
    may not change. RunError where there is nothing left to do, or another process works on the run.
    """
    with folder.locked(runs.read_record(run)[0]):
        return _resumed(run, config, command or [])


def _resumed(run: str, config: Config, command: list[str]) -> tuple[RunPaths, RunRecord]:
    paths, record = runs.read_record(run)
    check_resumable(runs.settings_of(run), config, record)
    _prepare(config)
    check_schedules(config)
    then = str(record.data.get("path", ""))
    if is_gone(config.data, then):
        raise RunError(f"{config.data.path}: the data of {record.run_id} are gone; name them with --data.path")
    dataset = open_events(config, say, places=[then])
    if dataset.fingerprint != record.data.get("fingerprint"):
        raise RunError(f"{dataset.name}: not the dataset that run {record.run_id} was trained on")
    splits = splits_of(dataset, config.data)
    session = Session(started=folder.now(), command=command)
    # a process that was killed could not say how it ended
    before = [
        msgspec.structs.replace(old, status="stopped", reason=old.reason or "killed") if not old.ended else old
        for old in record.sessions
    ]
    record = msgspec.structs.replace(
        record, status="running", reason="", ended="", config=to_tree(config), sessions=[*before, session]
    )
    return _worked(TrainingJob(config, paths, record, dataset, splits, train_source(config, dataset, splits)), None)


def _prepare(config: Config) -> None:
    """Make the process ready for the precision, and see that the one to fall back to would run too."""
    policy = prepare(config.precision.policy)
    if policy.scales_loss:
        check_device(POLICIES[FALLBACKS[policy.name, config.precision.fallback]])


def _data_record(dataset: EventStore, splits: Splits) -> dict[str, Any]:
    return {
        "path": str(dataset.path.resolve()) if isinstance(dataset, Dataset) else dataset.name,
        "fingerprint": dataset.fingerprint,
        "provenance": dataset.provenance,
        "events": len(dataset),
        "splits": {name: len(events) for name, events in splits._asdict().items()},
    }


def _worked(work: TrainingJob, parent: InitialWeights | None) -> tuple[RunPaths, RunRecord]:
    """Work on a run until it ends one way or another, and say in its record how."""
    runs.write_record(work.paths, work.record)
    say(f"device: {', '.join(describe_devices()['devices'])} ({jax.default_backend()})")
    say(f"run: {work.paths.folder}")
    debug: AbstractContextManager[Any] = nullcontext() if work.config.train.jit else jax.disable_jit()
    try:
        with control_of(work) as control, debug:
            loop = Loop(work)
            results = _run(loop, control, parent)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = str(error) or "interrupted" if stopped else f"{type(error).__name__}: {error}"
        try:
            _ended(work, "stopped" if stopped else "failed", reason, {})
        except OSError as second:  # the disk may be what failed
            say(f"{work.paths.record}: could not be written: {second}")
        raise
    return work.paths, _ended(work, "stopped" if loop.stopped_by else "finished", loop.stopped_by, results)


def _ended(work: TrainingJob, status: runs.RunStatus, reason: str, results: dict[str, Any]) -> RunRecord:
    record, now = work.record, folder.now()
    *before, session = record.sessions
    session = msgspec.structs.replace(session, ended=now, status=status, reason=reason)
    record = msgspec.structs.replace(
        record, status=status, reason=reason, ended=now, results=results, sessions=[*before, session]
    )
    runs.write_record(work.paths, record)
    return record


def _run(loop: Loop, control: Control, parent: InitialWeights | None) -> dict[str, Any]:
    config, paths = loop.config, loop.work.paths
    keep = config.checkpoints
    with Checkpoints(paths.checkpoints, keep=keep.keep, keep_best=keep.keep_best) as checkpoints:
        if checkpoints.numbers():
            state, meta = checkpoints.restore(loop.template, warn=say)
            if meta.data_fingerprint != loop.work.source.fingerprint:
                raise CheckpointError(f"{paths.checkpoints}: made with other data, batches or seeds")
            loop.restore_progress(meta)
            say(f"resuming after step {loop.position} (epoch {len(loop.history)}, step {loop.sums.steps} of the next)")
        else:
            state = loop.setup.fresh_state()
            if config.start.run:
                parent = parent or load_initial_weights(config.start.run, loop.setup, optimiser=config.start.optimiser)
                state = start_from(parent, state)
                say(f"starting from epoch {parent.epoch} of {parent.run_id}")
        n_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(f"model: {loop.setup.model.name}, {n_parameters:,} parameters".replace(",", " "))
        resumed_after = len(loop.history) if paths.metrics.exists() else None
        with Callbacks(config, paths, resumed_after=resumed_after, say=say) as callbacks:
            loop.run(state, checkpoints, control, callbacks)
            if loop.stopped_by:
                say(f"stopping after step {loop.position}: {loop.stopped_by}")
            return finish(loop, checkpoints, callbacks)
