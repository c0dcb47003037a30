"""Denoise measured events: from a dataset or any file that can be read to a hit file, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.convert import check_no_reading_options, no_events, numbered_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events, offsets_from_counts, select_hits
from tofae_jax.data.files.column_types import only_writable
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.track_files import TrackFile, read_tracks
from tofae_jax.data.files.units import Tally
from tofae_jax.data.files.write import HitFileWriter, open_hit_file
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.denoiser import BATCH, Denoiser, check_has_pattern
from tofae_jax.engine.detector_scale import check_scale, check_time_bins, on_scale_of_source
from tofae_jax.engine.events import check_detector, check_module
from tofae_jax.engine.load import load_run
from tofae_jax.engine.operating_point import RUN_DEFAULT, ThresholdChoice, with_thresholds
from tofae_jax.engine.pretrained.packaged_model import PackagedModel, load_packaged
from tofae_jax.models import Model, Variables
from tofae_jax.runs.messages import warn
from tofae_jax.steps import StepOptions, StepSettings, TrainState

Written = Literal["kept", "all", "pattern"]
"""hits that are written: those that are kept; all, with a column `kept`; or those of the direct output"""
TAKEN = ("score", "kept", "visible")
"""columns of a source that another denoiser has given it"""


class DenoiseCounts(NamedTuple):
    """Numbers of a denoised file."""

    events: int
    hits: int
    hits_kept: int | None
    """None where the pattern was written: then no hits are kept or dropped"""
    hits_written: int
    hits_occluded: int | None
    """hits that shared a pixel with a later one, which the model could not see; they are never kept"""
    events_emptied: int
    """events that had hits, of which none was written or kept"""
    hits_outside: int
    """hits in physical units that lie outside the detector; they were dropped before and are not among `hits`"""
    tracks_unused: int | None = None
    """tracks of a file of their own whose events were not in the source"""
    events_without_tracks: int | None = None
    """events for which that file had none; nothing of them was kept"""


class DenoiseReport(NamedTuple):
    """What the command `denoise` did; counts as in `DenoiseCounts`."""

    run: str
    epoch: int
    output: str
    precision: str
    """policy that it computed in"""
    score_threshold: float | None
    """hits of a higher score were kept; None where the pattern was written"""
    tof_tolerance_ns: float | None
    """where their times agreed with the model's within this; None: any times"""
    counts: DenoiseCounts


def denoise(
    state: TrainState | Variables,
    model: Model,
    source: str | Path,
    output: str | Path,
    *,
    options: StepOptions,
    detector: Detector,
    settings: StepSettings | None = None,
    write: Written = "kept",
    tracks: str | Path | None = None,
    batch: int = BATCH,
    check: Callable[[Dataset], None] | None = None,
    overwrite: bool = False,
    **reading: Any,
) -> DenoiseCounts:
    """Denoise a dataset or a file of events into a file of hits.

    Its columns are event, x, y, t, then all columns of numbers of the source except score, kept and visible, then
    `score` and, for a model that is given tracks, `track`. A pattern has event, x, y, t and columns of events alone.

    Args:
        state: variables of the model, or the train state that holds them.
        model: the model.
        source: dataset folder, or any file that `read_events` reads.
        output: file of an ending that can be written.
        options: of `step_options`, as in training.
        detector: shape and scale of the detector; its shape is that of the model, and of a dataset it is its own.
        settings: numbers of the steps, e.g. the thresholds; None: the defaults of `StepSettings`.
        write: `kept` hits; `all` hits, with a column `kept`; or the hits of the reconstructed `pattern`, which are the
            pixels that the direct output lights.
        tracks: file of the events' tracks (`read_tracks`), for models that are given them; None: the source has them.
        batch: events per batch.
        check: is given a source that is a dataset, and raises where the model is for other events; None: no check.
        overwrite: replace the output if it is there.
        reading: options of `read_events`, e.g. `array`, `tree`, `columns`, `units`.

    Returns:
        Numbers of events and hits.

    Raises:
        DataError: the source cannot be read, has no events or another detector; the output is there, or is the input.
        ValueError: `write` is `pattern` and the model gives none.
    """
    _check(model, options, detector, (source, tracks), output, write)
    tally = Tally()
    events = events_of(source, detector, check=check, tally=tally, **reading)
    table = _read_tracks(tracks, model) if tracks is not None else None
    if table is not None:
        events = map(table.given_to, events)
    denoiser = Denoiser(model, state, options=options, settings=settings, batch=batch)
    with open_hit_file(Path(output), overwrite=overwrite) as file:
        write_events = _write_pattern if write == "pattern" else partial(_write_hits, write)
        counts = write_events(denoiser, events, file)
        if not counts.events:
            raise no_events(source, tally)
        if table is not None and not table.n_used:
            raise DataError(f"{tracks}: none of its tracks is of an event of {source}, by their numbers")
    found = {} if table is None else {"tracks_unused": table.n_unused, "events_without_tracks": table.n_events_without}
    return counts._replace(hits_outside=tally.n_outside, **found)


def _check(
    model: Model,
    options: StepOptions,
    detector: Detector,
    inputs: tuple[str | Path | None, ...],
    output: str | Path,
    write: Written,
) -> None:
    """Check the arguments of `denoise`."""
    for path in inputs:
        if path is not None and Path(output).exists() and Path(path).resolve() == Path(output).resolve():
            raise DataError(f"{output}: is the input too; give another name")
    if detector.shape != model.shape_xyt:
        raise ValueError(f"detector is of shape {detector.shape}, but model {model.name} of {model.shape_xyt}")
    check_time_bins(model, detector, "detector")
    if write not in get_args(Written):
        raise ValueError(f"write must be one of {', '.join(get_args(Written))}, got {write!r}")
    if write == "pattern":
        check_has_pattern(model, options)


def denoise_run(
    folder: str | Path | None,
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    write: Written = "kept",
    thresholds: ThresholdChoice = RUN_DEFAULT,
    tracks: str | Path | None = None,
    overwrite: bool = False,
    precision: str | None = None,
    **reading: Any,
) -> DenoiseReport:
    """Denoise a dataset or a file of events with the model of a run; see `denoise`.

    Args:
        folder: the run whose model to use; None: `model`.
        source: dataset folder, or a file that `convert` can read.
        output: a file that `open_hit_file` writes.
        model: in place of a run, a model that comes with the package, see `load_packaged`.
        write: which hits to write, as for `denoise`.
        thresholds: which hits are kept, in place of the run's own choice.
        tracks: file of the events' tracks (`read_tracks`), for models that are given them; None: the source has them.
        overwrite: replace the output if it is there.
        precision: policy; None: as in training.
        reading: options of `read_events`, e.g. `array`, `tree`, `columns`, `units`.

    Returns:
        What was computed, and how many events and hits there were.

    Raises:
        ValueError: not one of `folder` and `model`; `thresholds` do not fit; and as for `load_run` and `denoise`.
    """
    _check_thresholds(write, thresholds)
    ready = _ready(folder, model, precision)
    setup = _setup_for(ready, source, thresholds)
    counts = denoise(
        ready.variables,
        setup.model,
        source,
        output,
        options=setup.options,
        detector=setup.config.detector,
        settings=setup.step_settings(),
        write=write,
        tracks=tracks,
        batch=setup.config.train.batch,
        check=lambda dataset: check_module(dataset, ready.setup.config),
        overwrite=overwrite,
        **reading,
    )
    return DenoiseReport(
        run=ready.name,
        epoch=ready.epoch,
        output=str(output),
        precision=setup.policy.name,
        score_threshold=setup.score_threshold if write != "pattern" else None,
        tof_tolerance_ns=setup.config.mask.tof_tolerance_ns if write != "pattern" else None,
        counts=counts,
    )


def _check_thresholds(write: Written, thresholds: ThresholdChoice) -> None:
    """Check that thresholds, which choose hits of the input, are given for these alone."""
    if write == "pattern" and thresholds != RUN_DEFAULT:
        raise ValueError("a pattern is the whole direct output: thresholds choose hits of the input, leave them out")


def events_of(
    source: str | Path, detector: Detector, *, check: Callable[[Dataset], None] | None = None, **reading: Any
) -> Iterator[Events]:
    """Read events of a dataset folder or of any known file, part by part, numbered by a column `event`.

    Args:
        source: what to read; DataError where its detector has another shape, or a dataset's other lengths.
        detector: detector of the model.
        check: is given a dataset, and raises where it does not fit the model.
        reading: options of `read_events`.
    """
    path = Path(source)
    if not path.is_dir():
        yield from read_events(path, detector=detector, **reading)
        return
    check_no_reading_options(path, reading)
    dataset = Dataset(path)
    check_detector(dataset, detector.shape)
    if check is not None:
        check(dataset)
    check_scale(dataset, detector)
    yield from numbered_events(dataset)


def _write_hits(write: Written, denoiser: Denoiser, events: Iterator[Events], file: HitFileWriter) -> DenoiseCounts:
    """Append all hits or the kept ones; returns how many events and hits there were, and how many were kept."""
    found, all_hits = ("score", "track") if denoiser.model.takes_tracks else ("score",), write == "all"
    counts = dict.fromkeys(("events", "hits", "hits_kept", "hits_occluded", "events_emptied"), 0)
    for part in denoiser(events):
        kept, visible = part.hit_columns["kept"], part.hit_columns["visible"]
        file.append(_written(part, (*found, "kept")) if all_hits else select_hits(_written(part, found), kept))
        n_kept_per_event = np.diff(offsets_from_counts(kept)[part.offsets])
        emptied = np.count_nonzero((part.counts > 0) & (n_kept_per_event == 0))
        numbers = (part.n_events, part.n_hits, kept.sum(), (~visible).sum(), emptied)
        for name, n in zip(counts, numbers, strict=True):
            counts[name] += int(n)
    return DenoiseCounts(**counts, hits_written=counts["hits" if all_hits else "hits_kept"], hits_outside=0)


def _write_pattern(denoiser: Denoiser, events: Iterator[Events], file: HitFileWriter) -> DenoiseCounts:
    """Append the hits of the direct output."""
    n_events = n_hits = n_written = n_emptied = 0
    for part, pattern in denoiser.patterns(events):
        file.append(only_writable(pattern))
        n_events, n_hits, n_written = n_events + part.n_events, n_hits + part.n_hits, n_written + pattern.n_hits
        n_emptied += int(np.count_nonzero((part.counts > 0) & (pattern.counts == 0)))
    return DenoiseCounts(n_events, n_hits, None, n_written, None, n_emptied, hits_outside=0)


def _ready(folder: str | Path | None, model: str | None, precision: str | None) -> PackagedModel:
    """A run, or a packaged model; both are used alike."""
    if model is not None and folder is None:
        return load_packaged(model, precision=precision)
    if model is not None or folder is None:
        raise ValueError(f"either a run or a packaged model is needed, got {folder} and {model}")
    run = load_run(folder, precision=precision)
    return PackagedModel(run.record.run_id, run.epoch, run.setup, run.variables, run.paths.scores)


def _setup_for(ready: PackagedModel, source: str | Path, thresholds: ThresholdChoice) -> RunSetup:
    """Return the setup with the lengths of a source that has its own, and with other thresholds."""
    setup = ready.setup._replace(config=on_scale_of_source(ready.setup.config, source, warn=warn))
    return setup._replace(config=with_thresholds(setup, ready.scores, thresholds, warn=warn))


def _read_tracks(tracks: str | Path, model: Model) -> TrackFile:
    if not model.takes_tracks:
        raise DataError(f"{tracks}: model {model.name} is not given tracks")
    return read_tracks(tracks)


def _written(events: Events, found: tuple[str, ...]) -> Events:
    """The events with their own columns and those that were found."""
    own = {name: values for name, values in events.hit_columns.items() if name not in (*TAKEN, *found)}
    return only_writable(events._replace(hit_columns={**own, **{name: events.hit_columns[name] for name in found}}))
