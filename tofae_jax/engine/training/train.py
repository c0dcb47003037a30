"""Train a run from start to end: a new one, one that starts from another run's weights, or a resumed one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import msgspec

from tofae_jax.config import Config, parse_duration, with_plugins
from tofae_jax.core.precision import POLICIES
from tofae_jax.data.batches import Splits
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.engine.build import build_run, describe_devices
from tofae_jax.engine.checkpoint_format import CheckpointError, CheckpointMeta
from tofae_jax.engine.checkpoint_policy import CheckpointPolicy, checkpoint_policy
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.checks import check_new_run, check_resumable, check_run
from tofae_jax.engine.class_weights import resolved_losses
from tofae_jax.engine.data_checks import check_planned, warn_of_empty_splits
from tofae_jax.engine.detector_scale import differing_lengths, listed_lengths, with_lengths_of_dataset
from tofae_jax.engine.device_precision import check_device, prepare
from tofae_jax.engine.events import check_tracks, is_gone, open_events, splits_of, train_source
from tofae_jax.engine.given_settings import Given, check_given, given_by_program
from tofae_jax.engine.load import not_of
from tofae_jax.engine.memory_checks import check_batches, check_parameters
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.process import PROCESS_BEGAN_S
from tofae_jax.engine.training.control import Control
from tofae_jax.engine.training.finish import finish_run
from tofae_jax.engine.training.loop import Loop, TrainingError, TrainingJob
from tofae_jax.engine.training.warm_start import InitialWeights, load_initial_weights, start_from
from tofae_jax.engine.unused_settings import recorded_seeds, recorded_settings
from tofae_jax.runs import environment, folder
from tofae_jax.runs import record as runs
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.history import restore_history
from tofae_jax.runs.messages import say, warn
from tofae_jax.runs.record import RunRecord, Session
from tofae_jax.steps.loss_scaling import FALLBACKS
from tofae_jax.steps.state import TrainState

__all__ = ["TrainingError", "resume", "train"]


def train(
    config: Config,
    *,
    command: list[str] | None = None,
    checkpoints: CheckpointPolicy | None = None,
    given: Given | None = None,
) -> tuple[RunPaths, RunRecord]:
    """Train, evaluate on unseen events, draw, and write everything to a new run folder.

    Args:
        config: settings of the run. The lengths of the detector that were not given are those of the dataset.
        command: for the record.
        checkpoints: when to save and what to keep; None: as `config.checkpoints` says.
        given: the settings that were given; None: those that differ from their defaults.

    Returns:
        The folder's paths and its final record, which says `stopped` or `failed`, with the reason, if the run was
        stopped or anything raised.

    Raises:
        ConfigError: settings do not fit each other, or one was given that has no effect; the message names it.
        DataError: the dataset cannot be read, or does not fit the settings.
        RunError: the run to start from cannot be read, or does not fit.
    """
    config = _checked(with_plugins(config), given, has_policy=checkpoints is not None)
    parent = None
    if config.start.run:
        start = msgspec.structs.replace(config.start, run=str(Path(config.start.run).resolve()))
        config = msgspec.structs.replace(config, start=start)
        parent = load_initial_weights(start.run, build_run(config), optimiser=start.optimiser)  # before data are made
    dataset = open_events(config, say)
    warn_of_empty_splits(dataset.name, len(dataset), config.data)
    splits = splits_of(dataset, config.data)
    check_tracks(config, dataset, splits.train)
    config, automatic = resolved_losses(config, dataset, splits.train)
    for name, number in automatic.items():
        say(f"{name}: {number:.6g}, from the training data")
    source = train_source(config, dataset, splits)
    paths = folder.create_run_folder(config.runs.folder, config.runs.name)
    record = RunRecord(
        run_id=paths.folder.name,
        parent_run_id=parent.run_id if parent is not None else None,
        started=folder.timestamp(),
        command=command or [],
        config=(settings := recorded_settings(config, dataset, has_policy=checkpoints is not None)),
        data=_data_record(dataset, splits) | ({"automatic_weights": automatic} if automatic else {}),
        checkpoint_policy=_policy_name(checkpoints),
        seeds=recorded_seeds(settings),
        versions=environment.versions(),
        system=environment.system_information(describe_devices()),
        sessions=[Session(started=folder.timestamp(), command=command or [])],
    )
    policy = checkpoints or checkpoint_policy(config)
    job = TrainingJob(build_run(config), paths, record, dataset, splits, source, policy)
    with folder.locked(paths):
        return _run_job(job, parent)


def _checked(config: Config, given: Given | None, *, has_policy: bool) -> Config:
    """Check the settings of a new run before anything is computed; returns them with the dataset's lengths."""
    given, before = given or given_by_program(config), config.detector
    config = with_lengths_of_dataset(config, given.keys)
    _prepare(config)
    check_run(config)
    check_new_run(config)
    check_batches(config)
    for note in check_given(config, given, has_policy=has_policy):
        say(note)
    check_planned(config)
    check_parameters(build_run(config))  # what cannot be built is refused before data are made
    if names := differing_lengths(before, config.detector):
        say(f"detector: {listed_lengths(config.detector, names)}, of {config.data.path}")
    return config


def resume(
    run: str,
    config: Config,
    *,
    command: list[str] | None = None,
    checkpoints: CheckpointPolicy | None = None,
    given: Given | None = None,
) -> tuple[RunPaths, RunRecord]:
    """Continue a run from its newest good checkpoint, as if it had never been interrupted.

    Args:
        run: the run's folder.
        config: what `runs.record.settings_of` gave, with changes only in what does not change the results.
        command: for the record.
        checkpoints: as in `train`.
        given: the settings that were given anew; None: they are not known.

    Raises:
        ConfigError: a setting was changed that may not, or one was given that has no effect; the message names it.
        RunError: nothing is left to do, the data are gone, or another process works on the run.
    """
    with folder.locked(runs.read_record(run)[0]):
        job = _interrupted_job(run, config, command or [], checkpoints, given or Given())
        if (recorded := job.record.checkpoint_policy) != _policy_name(checkpoints):
            raise RunError(
                f"{run}: saved by the checkpoint policy {recorded or 'of its settings'}; resume it with that"
            )
        return _run_job(job._replace(policy=checkpoints or job.policy), None)


def _interrupted_job(
    run: str, config: Config, command: list[str], policy: CheckpointPolicy | None, given: Given
) -> TrainingJob:
    paths, record = runs.read_record(run)
    check_resumable(runs.settings_of(run), config, record)
    _prepare(config)
    check_run(config)
    check_given(config, given, has_policy=policy is not None)
    then = str(record.data.get("path", ""))
    if is_gone(config.data, then):
        raise RunError(f"{config.data.path}: the data of {record.run_id} are gone; name them with --data.path")
    dataset = open_events(config, say, places=[then])
    if dataset.fingerprint != record.data.get("fingerprint"):
        raise RunError(f"{dataset.name}: not the dataset that run {record.run_id} was trained on")
    if names := differing_lengths(config.detector, dataset.detector):
        warn(
            f"{dataset.name}: its detector has {listed_lengths(dataset.detector, names)}, that of the run "
            f"{listed_lengths(config.detector, names)}, with which it goes on as it began"
        )
    splits = splits_of(dataset, config.data)
    session = Session(started=folder.timestamp(), command=command)
    # a process that was killed could not say how it ended
    before = [
        msgspec.structs.replace(old, status="stopped", reason=old.reason or "killed") if not old.ended else old
        for old in record.sessions
    ]
    record = msgspec.structs.replace(
        record,
        status="running",
        reason="",
        ended="",
        config=recorded_settings(config, dataset, has_policy=policy is not None),
        sessions=[*before, session],
    )
    source = train_source(config, dataset, splits)
    return TrainingJob(build_run(config), paths, record, dataset, splits, source, checkpoint_policy(config))


def _policy_name(policy: CheckpointPolicy | None) -> str:
    """Name a checkpoint policy for the record; empty where the settings decide."""
    return "" if policy is None else f"{type(policy).__module__}.{type(policy).__qualname__}"


def _prepare(config: Config) -> None:
    """Prepare the process for the precision, and check that the device runs the one to fall back to as well."""
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


def _run_job(job: TrainingJob, parent: InitialWeights | None) -> tuple[RunPaths, RunRecord]:
    """Run a job until it ends one way or another, and write into its record how."""
    runs.write_record(job.paths, job.record)
    say(f"device: {', '.join(describe_devices()['devices'])} ({jax.default_backend()})")
    say(f"run: {job.paths.folder}")
    train = job.config.train
    debug: AbstractContextManager[Any] = nullcontext() if train.jit else jax.disable_jit()
    limit_s = parse_duration(train.time_limit)
    control = Control(job.paths.folder, time_limit_s=limit_s, began_s=PROCESS_BEGAN_S, say=say)
    try:
        with control, debug:
            stopped_by, results = _train_and_finish(job, control, parent)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = str(error) or "interrupted" if stopped else f"{type(error).__name__}: {error}"
        try:
            _end(job, "stopped" if stopped else "failed", reason, {})
        except OSError:  # the disk may be what failed
            error.add_note(f"{job.paths.record} could not be updated, and says that the run goes on")
        raise
    return job.paths, _end(job, "stopped" if stopped_by else "finished", stopped_by, results)


def _end(job: TrainingJob, status: runs.RunStatus, reason: str, results: dict[str, Any]) -> RunRecord:
    record, now = job.record, folder.timestamp()
    *before, session = record.sessions
    session = msgspec.structs.replace(session, ended=now, status=status, reason=reason)
    record = msgspec.structs.replace(
        record, status=status, reason=reason, ended=now, results=results, sessions=[*before, session]
    )
    runs.write_record(job.paths, record)
    return record


def _train_and_finish(job: TrainingJob, control: Control, parent: InitialWeights | None) -> tuple[str, dict[str, Any]]:
    """Train from the newest checkpoint, or from the start, and finish; returns why it stopped, and the results."""
    config, paths = job.config, job.paths
    with Checkpoints(paths.checkpoints, keep=job.policy.keep, keep_best=job.policy.keep_best) as checkpoints:
        state, meta = _restored(job, checkpoints) if checkpoints.numbers() else (_initial_state(job, parent), None)
        n_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        say(f"model: {config.model.name}, {f'{n_parameters:,}'.replace(',', ' ')} parameters")
        if meta:
            _restore_history(job, meta)
        resumed_after = (len(meta.history) if meta else 0) if paths.metrics.exists() else None
        settings = job.record.config
        with Callbacks(config, paths, settings=settings, resumed_after=resumed_after, say=say) as callbacks:
            loop = Loop(job, checkpoints, control, callbacks, resumed_from=meta)
            result = loop.run(state)
            if result.stopped_by:
                say(f"stopping after step {result.steps}: {result.stopped_by}")
            return result.stopped_by, finish_run(job, result, checkpoints, callbacks)


def _restore_history(job: TrainingJob, meta: CheckpointMeta) -> None:
    is_sealed = job.record.schema_version >= runs.SEALED_FROM
    restored = restore_history(job.paths.metrics, meta.history, is_sealed=is_sealed)
    if restored:
        say(f"{job.paths.metrics}: damaged or incomplete; restored from the checkpoint: epochs {restored}")


def _restored(job: TrainingJob, checkpoints: Checkpoints) -> tuple[TrainState, CheckpointMeta]:
    """Restore the newest checkpoint of the run itself."""

    def template(meta: CheckpointMeta) -> TrainState:
        return job.setup.with_policy(meta.precision).fresh_state()

    state, meta = checkpoints.restore(template, objection=not_of(job.record), warn=say)
    if meta.data_fingerprint != job.source.fingerprint:
        raise CheckpointError(f"{job.paths.checkpoints}: made with other data, batches or seeds")
    done = meta.partial_epoch.steps if meta.partial_epoch else 0
    epochs = len(meta.history)
    position = epochs * job.source.steps_per_epoch + done
    say(f"resuming after step {position} (epoch {epochs}, step {done} of the next)")
    return state, meta


def _initial_state(job: TrainingJob, parent: InitialWeights | None) -> TrainState:
    """Create the state of a new run, with the weights of its parent if it has one."""
    setup, start = job.setup, job.config.start
    state = setup.fresh_state()
    if not start.run:
        return state
    parent = parent or load_initial_weights(start.run, setup, optimiser=start.optimiser)
    say(f"starting from epoch {parent.epoch} of {parent.run_id}")
    return start_from(parent, state)
