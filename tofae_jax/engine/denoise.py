"""Denoise measured events: from a dataset or any file that can be read to a hit file, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.convert import (
    OutputUnits,
    check_no_reading_options,
    files_of_source,
    is_dataset,
    no_events,
    numbered_events,
)
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events, offsets_from_counts, select_hits
from tofae_jax.data.files.column_types import naming_source, only_writable
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.tables import Reading
from tofae_jax.data.files.track_files import TrackFile, read_tracks
from tofae_jax.data.files.write import HitFileWriter, check_hit_file, open_hit_file
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.denoiser import BATCH, Denoiser, check_has_pattern
from tofae_jax.engine.detector_scale import check_scale, check_time_bins, on_scale_of_source
from tofae_jax.engine.events import check_detector, check_module
from tofae_jax.engine.operating_point import RUN_DEFAULT, ThresholdChoice, with_thresholds
from tofae_jax.engine.pretrained.packaged_model import PackagedModel, load_model
from tofae_jax.models import Model, Variables
from tofae_jax.runs.messages import warn
from tofae_jax.steps import StepOptions, StepSettings, TrainState

Written = Literal["kept", "all", "pattern"]
"""hits that are written: those that are kept; all, with a column `kept`; or those of the direct output"""
FOUND = ("score", "kept", "visible", "track")
"""hit columns that the denoiser adds"""
_ASIDE = "\0"
"""before the names of columns that the denoiser would replace; no column of a file begins so"""


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
    output_units: OutputUnits = "own",
    about: Reading | None = None,
    **reading: Any,
) -> DenoiseCounts:
    """Denoise a dataset or a file of events into a file of hits.

    A file made from a table has its columns and layout (docs/files.md); others have event, x, y, t and all further
    columns of numbers. Then come `score` and, for a model that is given tracks, `track`; `score_found`, `track_found`
    where the source has such a column. A pattern has event, x, y, t in pixels and time bins, and columns of events.

    Args:
        state: variables of the model, or the train state that holds them.
        model: the model.
        source: dataset folder, or what `read_events` reads: a file, a pattern, or a folder of files.
        output: file of an ending that can be written.
        options: of `step_options`, as in training.
        detector: shape and scale of the detector; its shape is that of the model, and of a dataset it is its own.
        settings: numbers of the steps, e.g. the thresholds; None: those of `StepSettings`.
        write: `kept` hits; `all` hits, with a column `kept`; or those of the `pattern` that the direct output lights.
        tracks: file of the events' tracks (`read_tracks`), for models that are given them; None: the source has them.
        batch: events per batch.
        check: is given a source that is a dataset, and raises where the model is for other events; None: no check.
        overwrite: replace the output if it is there.
        output_units: `own`: as in the source; `pixels`: event, x, y, t in pixels and time bins.
        about: is given what is found out about a file that is read.
        reading: options of `read_events`, e.g. `array`, `tree`, `columns`, `units`.

    Returns:
        Numbers of events and hits.

    Raises:
        DataError: the source cannot be read, has no events or another detector; the output is there, or is the input.
        ValueError: `write` is `pattern` and the model gives none.
    """
    _check(model, options, detector, write)
    inputs = _inputs(source, tracks)
    check_hit_file(Path(output), overwrite=overwrite, sources=inputs)
    about, is_own = about or Reading(), output_units == "own" and write != "pattern"
    table = _read_tracks(tracks, model, reading.get("limits", Limits()))
    events = map(_aside, events_of(source, detector, check=check, about=about, keeps_own=is_own, **reading))
    events = events if table is None else map(table.given_to, events)
    denoiser = Denoiser(model, state, options=options, settings=settings, batch=batch)
    write_events = _write_pattern if write == "pattern" else partial(_write_hits, write)
    layout = (lambda: about.layout) if is_own else None
    with naming_source(source), open_hit_file(Path(output), overwrite=overwrite, sources=inputs, layout=layout) as file:
        return _with_tallies(write_events(denoiser, events, file), source, about, table)


def _with_tallies(counts: DenoiseCounts, source: str | Path, about: Reading, table: TrackFile | None) -> DenoiseCounts:
    """Add what was counted while reading; DataError where there were no events, or no tracks of theirs."""
    if not counts.events:
        raise no_events(source, about.tally)
    if table is not None and not table.n_used:
        raise DataError(f"{table.path}: none of its tracks is of an event of {source}, by their numbers")
    found = {} if table is None else {"tracks_unused": table.n_unused, "events_without_tracks": table.n_events_without}
    return counts._replace(hits_outside=about.tally.n_outside, **found)


def _inputs(source: str | Path, tracks: str | Path | None) -> list[Path]:
    return [*files_of_source(source), *([] if tracks is None else [Path(tracks)])]


def _check(
    model: Model,
    options: StepOptions,
    detector: Detector,
    write: Written,
) -> None:
    """Check the arguments of `denoise`."""
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
    output_units: OutputUnits = "own",
    about: Reading | None = None,
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
        output_units: `own`: as in the source; `pixels`: event, x, y, t in pixels and time bins.
        about: is given what is found out about a file that is read.
        reading: options of `read_events`, e.g. `array`, `tree`, `columns`, `units`.

    Returns:
        What was computed, and how many events and hits there were.

    Raises:
        ValueError: not one of `folder` and `model`; `thresholds` do not fit; and as for `load_run` and `denoise`.
    """
    _check_request(write, thresholds, Path(output), _inputs(source, tracks), overwrite=overwrite)
    ready = load_model(folder, model, precision=precision)
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
        output_units=output_units,
        about=about,
        **reading,
    )
    shown = (setup.score_threshold, setup.config.mask.tof_tolerance_ns) if write != "pattern" else (None, None)
    return DenoiseReport(ready.name, ready.epoch, str(output), setup.policy.name, *shown, counts)


def _check_request(
    write: Written, thresholds: ThresholdChoice, output: Path, inputs: list[Path], *, overwrite: bool
) -> None:
    """Check, before anything is loaded, that thresholds fit what is written, and that it can be written."""
    check_hit_file(output, overwrite=overwrite, sources=inputs)
    if write == "pattern" and thresholds != RUN_DEFAULT:
        raise ValueError("a pattern is the whole direct output: thresholds choose hits of the input, leave them out")


def events_of(
    source: str | Path,
    detector: Detector,
    *,
    check: Callable[[Dataset], None] | None = None,
    about: Reading | None = None,
    **reading: Any,
) -> Iterator[Events]:
    """Read events of a dataset folder or of any known file, part by part, numbered by a column `event`.

    Args:
        source: what to read; DataError where its detector has another shape, or a dataset's other lengths.
        detector: detector of the model.
        check: is given a dataset, and raises where it does not fit the model.
        about: is given what is found out about a file.
        reading: options of `read_events`.
    """
    path = Path(source)
    if not is_dataset(path):
        yield from read_events(path, detector=detector, reading=about, **reading)
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


def _setup_for(ready: PackagedModel, source: str | Path, thresholds: ThresholdChoice) -> RunSetup:
    """Return the setup with the lengths of a source that has its own, and with other thresholds."""
    setup = ready.setup._replace(config=on_scale_of_source(ready.setup.config, source, warn=warn))
    return setup._replace(config=with_thresholds(setup, ready.scores, thresholds, warn=warn))


def _read_tracks(tracks: str | Path | None, model: Model, limits: Limits) -> TrackFile | None:
    if tracks is None:
        return None
    if not model.takes_tracks:
        raise DataError(f"{tracks}: model {model.name} is not given tracks")
    return read_tracks(tracks, limits=limits)


def _written(events: Events, found: tuple[str, ...]) -> Events:
    """Return the events with their own columns and those that were found, by other names where they have such ones."""
    columns = {name.removeprefix(_ASIDE): values for name, values in events.hit_columns.items() if name not in FOUND}
    for name in found:
        free = name
        while free in columns:
            free += "_found"
        columns[free] = events.hit_columns[name]
    return only_writable(events._replace(hit_columns=columns))


def _aside(events: Events) -> Events:
    """Return the events with other names for the columns that the denoiser would replace."""
    columns = {f"{_ASIDE}{name}" if name in FOUND else name: v for name, v in events.hit_columns.items()}
    return events._replace(hit_columns=columns)
