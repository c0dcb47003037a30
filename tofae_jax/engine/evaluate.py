"""Evaluation: metrics over a set of events, in training and by command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, DataConfig, as_range
from tofae_jax.data.batches import NO_TRACKS, EvaluationSource, TrackSlots
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError, Events, offsets_from_counts
from tofae_jax.data.files.write import check_hit_file, open_hit_file
from tofae_jax.engine.build import RunSetup, build_run
from tofae_jax.engine.data_checks import empty_split
from tofae_jax.engine.denoiser import BATCH
from tofae_jax.engine.detector_scale import check_length, check_time_bins, on_scale_of
from tofae_jax.engine.evaluator import Evaluator, evaluation_key, run_evaluator
from tofae_jax.engine.events import check_detector, evaluation_source, is_gone, open_events, splits_of
from tofae_jax.engine.operating_point import RUN_DEFAULT, ThresholdChoice, with_thresholds
from tofae_jax.engine.pretrained.packaged_model import PackagedModel, load_model
from tofae_jax.models import Model, Variables
from tofae_jax.runs.messages import warn
from tofae_jax.steps import Batch, EvalOutput, StepOptions, StepSettings, TrainState
from tofae_jax.steps.inputs import check_background
from tofae_jax.steps.options import check_fit, check_slots
from tofae_jax.steps.state import variables_of
from tofae_jax.steps.types import typed

HIT_COLUMNS = {"is_signal": np.dtype(bool), "score": np.dtype(np.float32), "kept": np.dtype(bool)}
"""types of the columns of evaluated hits"""
SPLITS = ("auto", "train", "validation", "test", "all")


def evaluate(
    state: TrainState | Variables,
    model: Model,
    dataset: EventStore | str | Path,
    *,
    options: StepOptions,
    settings: StepSettings | None = None,
    events: np.ndarray | None = None,
    seed: int = 0,
    batch: int = BATCH,
    max_hits: int = DataConfig().max_hits,
    max_background: int = 0,
    max_tracks: int = DataConfig().max_tracks,
) -> dict[str, Any]:
    """Evaluate a model on patterns, degraded as the settings say.

    The same numbers as the command `evaluate` on the same events with the same settings and seed.

    Args:
        state: variables of the model, or the train state that holds them.
        model: the model.
        dataset: a `Dataset` or its folder, or simulated events.
        options: of `step_options`.
        settings: numbers of the steps; None: the defaults of `StepSettings`.
        events: int[n], which events; None: all.
        seed: of the degradation's draws; an event's draws depend on it and on the event's number alone.
        batch: events per batch; it does not change the result.
        max_hits: slots of an event's hits; events with more keep a random subset.
        max_background: slots of background hits, for the noise profile `data`.
        max_tracks: slots of an event's tracks, for models that are given them.

    Returns:
        What `metrics.compute` returns, with 95 % confidence intervals over the events under `intervals`.

    Raises:
        DataError: the dataset cannot be read, its detector is of another shape, its time bins are not those of an LHCb
            TORCH model, or there are no events.
        ValueError: losses, model and options do not fit each other; the noise profile `data` and no `max_background`.
    """
    check_fit(model, options)
    store = Dataset(dataset) if isinstance(dataset, str | Path) else dataset
    check_detector(store, model.shape_xyt)
    check_time_bins(model, store.detector, store.name)
    tracks = TrackSlots(max_tracks) if model.takes_tracks else NO_TRACKS
    source = EvaluationSource(
        store, events, batch=batch, max_hits=max_hits, max_background=max_background, tracks=tracks
    )
    data = DataConfig()
    evaluator = Evaluator(model, options, threads=data.threads, prefetch=data.prefetch_batches)
    settings = StepSettings() if settings is None else settings
    check_slots(settings, options)
    check_background(max_background, settings)
    variables, settings = variables_of(state), typed(settings)
    return evaluator.details(variables, source, evaluation_key(seed), settings).result


def with_degradation(config: Config, *, n_signal: Any = None, n_noise: Any = None, smear_t_ns: Any = None) -> Config:
    """The same settings with other counts of signal and noise hits, or times smeared otherwise; None keeps each."""
    given = {"n_signal": n_signal, "n_noise": n_noise, "smear_t_ns": smear_t_ns}
    changes = {name: value for name, value in given.items() if value is not None}
    degradation = msgspec.structs.replace(config.degradation, **changes)
    return msgspec.structs.replace(config, degradation=degradation)


def _events_of(run: PackagedModel, config: Config, data: str | None) -> EventStore:
    """The dataset that is named, or the run's own events; its dataset is where it was given, or where it was then."""
    if data is not None:
        Dataset(data)  # says what is wrong with it; what is missing is not simulated here
        section = msgspec.structs.replace(config.data, source="dataset", path=data)
        return open_events(msgspec.structs.replace(config, data=section), warn)
    if not run.data:
        raise DataError(f"model {run.name} has no dataset of its own: name one with --data")
    then = str(run.data.get("path", ""))
    if is_gone(config.data, then):
        raise DataError(f"{then or config.data.path}: the run's dataset is not there any more; name one with --data")
    return open_events(config, warn, places=[then])


def _evaluation_source(
    run: PackagedModel, config: Config, store: EventStore, split: str
) -> tuple[EvaluationSource, str]:
    own = store.fingerprint == run.data.get("fingerprint")
    if split == "auto":
        split = "test" if own else "all"
    events = np.arange(len(store)) if split == "all" else getattr(splits_of(store, config.data), split)
    if split == "train":
        events = store.events_for_epoch(events, 0)
    if not len(events):
        raise empty_split(store.name, len(store), config.data, split, "choose another with --split")
    return evaluation_source(config, store, events), split


def evaluate_run(
    folder: str | Path | None,
    *,
    model: str | None = None,
    data: str | None = None,
    split: str = "auto",
    n_signal: Any = None,
    n_noise: Any = None,
    smear_t_ns: Any = None,
    seed: int = 0,
    save_hits: str | None = None,
    overwrite: bool = False,
    precision: str | None = None,
    thresholds: ThresholdChoice = RUN_DEFAULT,
) -> dict[str, Any]:
    """Evaluate a run on a dataset of patterns, degraded as in training unless other numbers are given.

    Lengths in mm and ns are those of the dataset's detector, also where the run was trained with others; a warning says
    so.

    Args:
        folder: the run; None: `model`.
        model: in place of a run, a model that comes with the package, see `load_packaged`; it needs `data`.
        data: dataset of patterns; None: the one it was trained on.
        split: `train`, `validation`, `test`, `all`, or `auto`: the test events of the run's own dataset, all of others.
        n_signal: signal hits per event, a number or a range; None: as in training.
        n_noise: noise hits per event, likewise.
        smear_t_ns: smearing of signal times [ns], likewise.
        seed: of the degradation's draws.
        save_hits: write all degraded hits with `is_signal`, `score` and `kept` to this file.
        overwrite: replace that file if it is there.
        precision: policy; None: as in training.
        thresholds: which hits are kept, in place of the run's own choice.

    Returns:
        What `metrics.compute` returns, 95 % confidence intervals over the events under `intervals`, and what was
        evaluated. Errors: as for `load_model` and `evaluate`; ConfigError where `thresholds` do not fit the model.
    """
    _check_request(split, save_hits, overwrite=overwrite)
    run = load_model(folder, model, precision=precision)
    store = _events_of(run, run.setup.config, data)
    config = with_thresholds(_setup_for(run, store), run.scores, thresholds, warn=warn)
    config = with_degradation(config, n_signal=n_signal, n_noise=n_noise, smear_t_ns=smear_t_ns)
    if smear_t_ns is not None:
        check_length("smear_t_ns", as_range(smear_t_ns)[1], config.detector, "window_ns")
    setup = build_run(config)
    source, split = _evaluation_source(run, config, store, split)
    evaluator = run_evaluator(setup)
    inputs = (run.variables, source, evaluation_key(seed), setup.step_settings())
    if save_hits is None:
        details = evaluator.details(*inputs)
    else:
        with open_hit_file(Path(save_hits), overwrite=overwrite, columns=HIT_COLUMNS) as file:
            details = evaluator.details(*inputs, each=lambda batch, known: file.append(_evaluated_hits(batch, known)))
    about = {"run": run.name, "epoch": run.epoch, "data": source.dataset.name, "split": split, "seed": seed}
    about |= {"precision": config.precision.policy}
    about |= {name: getattr(config.degradation, name) for name in ("n_signal", "n_noise", "smear_t_ns")}
    about |= {"score_threshold": setup.score_threshold, "tof_tolerance_ns": config.mask.tof_tolerance_ns}
    return about | details.result


def _setup_for(run: PackagedModel, store: EventStore) -> RunSetup:
    """Return the setup of a model with the lengths of the events' detector."""
    return run.setup._replace(config=on_scale_of(run.setup.config, store, warn=warn))


def _check_request(split: str, save_hits: str | None, *, overwrite: bool) -> None:
    """Check, before anything is loaded, that there is such a split, and that the hits can be written."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if save_hits is not None:
        check_hit_file(Path(save_hits), overwrite=overwrite)


def _evaluated_hits(batch: Batch, evaluated: EvalOutput) -> Events:
    degraded = evaluated.degraded.events
    hits, is_signal, score, kept = jax.device_get((degraded.hits, degraded.is_signal, evaluated.score, evaluated.kept))
    return compact_hits(hits, batch.is_event, {"is_signal": is_signal, "score": score, "kept": kept}, event=batch.event)


def compact_hits(
    hits: np.ndarray, is_event: np.ndarray, columns: dict[str, np.ndarray], *, event: Iterable[int] | np.ndarray
) -> Events:
    """Padded hit lists and per-hit columns `[batch, k]` as events, without empty slots and filling events."""
    hits = hits[is_event]
    filled = hits[..., 2] > 0
    offsets = offsets_from_counts(filled.sum(axis=1))
    numbers = np.asarray(event, np.int64)[is_event]
    kept = {name: column[is_event][filled] for name, column in columns.items()}
    return Events(hits[filled].astype(np.int16), offsets, kept, {"event": numbers})
