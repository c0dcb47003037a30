"""Denoise measured events: from a dataset or any file that can be read to a hit file, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tofae_jax.config import Config
from tofae_jax.data.convert import check_no_reading_options, no_events, numbered_events
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.events import DataError, Events, offsets_from_counts, select_hits, slice_events
from tofae_jax.data.files.column_types import only_writable
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.track_files import TrackFile, read_tracks
from tofae_jax.data.files.units import Tally
from tofae_jax.data.files.write import HitFileWriter, open_hit_file
from tofae_jax.data.tracks import track_table, tracks_of
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.events import check_detector, check_module
from tofae_jax.engine.load import load_run
from tofae_jax.engine.operating_point import RUN_DEFAULT, ThresholdChoice, with_thresholds
from tofae_jax.engine.pretrained.packaged_model import PackagedModel, load_packaged
from tofae_jax.runs.messages import warn
from tofae_jax.steps import DenoiseOutput, denoise_step

TAKEN = ("score", "kept", "visible")
"""columns of a source that another denoiser has given it"""
LEAST_SLOTS = 64
MOST_SLOTS_PER_BATCH = 2**20  # an event with very many hits travels in a smaller batch


class DenoiseReport(NamedTuple):
    """What `denoise` did."""

    run: str
    epoch: int
    output: str
    events: int
    hits: int
    hits_kept: int
    precision: str
    """policy that it computed in"""
    score_threshold: float
    """hits of a higher score were kept"""
    tof_tolerance_ns: float | None
    """where their times agreed with the model's within this; None: any times"""
    hits_occluded: int
    """hits that shared a pixel with a later one, which the model could not see; they are never kept"""
    events_emptied: int
    """events that had hits, of which none was kept"""
    hits_outside: int
    """hits in physical units that lie outside the detector; they were dropped before and are not among `hits`"""
    tracks_unused: int | None = None
    """tracks of a file of their own whose events were not in the source"""
    events_without_tracks: int | None = None
    """events for which that file had none; nothing of them was kept"""


def events_of(source: str | Path, *, config: Config, **reading: Any) -> Iterator[Events]:
    """Events of a dataset folder or of any known file, part by part, numbered by a column `event`.

    Args:
        source: what to read; DataError where it does not fit the detector or the module of `config`.
        config: settings of the model.
        reading: options of `read_events`.
    """
    path = Path(source)
    if not path.is_dir():
        yield from read_events(path, detector=config.detector, **reading)
        return
    check_no_reading_options(path, reading)
    dataset = Dataset(path)
    check_detector(dataset, config.detector)
    check_module(dataset, config)
    yield from numbered_events(dataset)


def _padded(events: Events, rows: int, slots: int) -> np.ndarray:
    hits = np.zeros((rows, slots, 3), np.int16)
    filled = np.arange(slots) < events.counts[:, None]
    hits[: events.n_events][filled] = events.hits
    return hits


def _groups(events: Events, batch: int) -> Iterator[tuple[Events, int, int]]:
    """Events in batches, with the rows and slots to pad them to.

    Slots are a power of two: a new shape compiles anew, so there must be few of them. No hit is ever dropped.
    """
    start, batch = 0, min(batch, 1 << (max(events.n_events, 1) - 1).bit_length())  # few events fill a small batch
    while start < events.n_events:
        stop = min(start + batch, events.n_events)
        slots = _power_of_two(int(events.counts[start:stop].max()))
        rows = max(1, min(batch, MOST_SLOTS_PER_BATCH // slots))
        stop = min(stop, start + rows)
        yield slice_events(events, start, stop), rows, slots
        start = stop


def _power_of_two(n: int) -> int:
    return max(LEAST_SLOTS, 1 << (max(n, 1) - 1).bit_length())


class Denoiser:
    """A trained model, compiled for use on events of any size."""

    def __init__(self, setup: RunSetup, variables: Any) -> None:
        """Prepare.

        Args:
            setup: model and step options of a run, e.g. `load_run(folder).setup`; `with_thresholds` changes what it
                keeps.
            variables: its weights, e.g. `load_run(folder).variables`.
        """
        self.detector = setup.config.detector
        self._takes_tracks = setup.model.takes_tracks
        self._variables = variables
        self._settings = setup.step_settings()
        self._batch = setup.config.train.batch
        self._step = jax.jit(
            lambda variables, hits, settings, tracks: denoise_step(
                variables, hits, settings, tracks, model=setup.model, options=setup.options
            )
        )

    def __call__(self, parts: Iterator[Events]) -> Iterator[Events]:
        """The same events with hit columns `score`, `kept` and `visible`, in order.

        A model that is given tracks adds `track`: the place among its event's tracks, from 0, of the one that the hit
        most likely belongs to if it is signal, or -1 where there are none. DataError where tracks are not known.

        One batch is always under way on the device while the one before it is handed out.
        """
        waiting: tuple[Events, DenoiseOutput] | None = None
        for part in parts:
            for events, rows, slots in _groups(part, self._batch):
                known = self._step(
                    self._variables, _padded(events, rows, slots), self._settings, self._tracks(events, rows)
                )
                if waiting is not None:
                    yield _scored(*waiting)
                waiting = (events, known)
        if waiting is not None:
            yield _scored(*waiting)

    def _tracks(self, events: Events, rows: int) -> np.ndarray | None:
        """Padded tracks, as many slots as a power of two; an event without tracks has no signal."""
        if not self._takes_tracks:
            return None
        tracks = tracks_of(events)
        most = int(tracks.counts.max(initial=0)) if tracks is not None else 0
        where = "the input" if tracks is not None else "the input, without --tracks"
        table = track_table(tracks, slots=1 << (max(most, 1) - 1).bit_length(), where=where)
        return np.concatenate([table, np.zeros((rows - len(table), *table.shape[1:]), np.float32)])


def _scored(events: Events, denoised: DenoiseOutput) -> Events:
    columns = jax.device_get(denoised)
    filled = np.arange(columns.kept.shape[1]) < events.counts[:, None]
    given = {name: column for name, column in columns._asdict().items() if column is not None}
    found = {name: column[: events.n_events][filled] for name, column in given.items()}
    return events._replace(hit_columns={**events.hit_columns, **found})


def denoise_run(
    folder: str | Path | None,
    source: str | Path,
    output: str | Path,
    *,
    model: str | None = None,
    all_hits: bool = False,
    thresholds: ThresholdChoice = RUN_DEFAULT,
    tracks: str | Path | None = None,
    overwrite: bool = False,
    precision: str | None = None,
    **reading: Any,
) -> DenoiseReport:
    """Denoise a dataset or a file of events into a hit file.

    Its columns are event, x, y, t, then all columns of numbers of the source, then score, and of a model that is given
    tracks, track, in place of any of the source's. Columns of the source that are called score, kept or visible are
    left out, for another denoiser has given them.

    Args:
        folder: the run whose model to use; None: `model`.
        source: dataset folder, or a file that `convert` can read.
        output: a file that `open_hit_file` writes.
        model: in place of a run, a model that comes with the package, see `packaged`.
        all_hits: write all hits, with a column `kept`, instead of the kept ones.
        thresholds: which hits are kept, in place of the run's own choice.
        tracks: file of the events' tracks (`read_tracks`), for models that are given them; None: the source has them.
        overwrite: replace the output if it is there.
        precision: policy; None: as in training.
        reading: options of `read_events`, e.g. `array`, `tree`, `columns`, `units`.
    """
    for read in (source, tracks):
        if read is not None and Path(output).exists() and Path(read).resolve() == Path(output).resolve():
            raise DataError(f"{output}: is the input too; give another name")
    ready = _ready(folder, model, precision)
    setup = ready.setup._replace(config=with_thresholds(ready.setup, ready.scores, thresholds, warn=warn))
    tally = Tally()
    events = events_of(source, config=setup.config, tally=tally, **reading)
    table = _read_tracks(tracks, setup) if tracks is not None else None
    if table is not None:
        events = map(table.given_to, events)
    with open_hit_file(Path(output), overwrite=overwrite) as file:
        found = ("score", "track") if setup.model.takes_tracks else ("score",)
        counts = _write(Denoiser(setup, ready.variables)(events), file, found, all_hits=all_hits)
        if not counts["events"]:
            raise no_events(source, tally)
        if table is not None and not table.n_used:
            raise DataError(f"{tracks}: none of its tracks is of an event of {source}, by their numbers")
    return DenoiseReport(
        run=ready.name,
        epoch=ready.epoch,
        output=str(output),
        precision=setup.policy.name,
        score_threshold=setup.score_threshold,
        tof_tolerance_ns=setup.config.mask.tof_tolerance_ns,
        hits_outside=tally.n_outside,
        tracks_unused=None if table is None else table.n_unused,
        events_without_tracks=None if table is None else table.n_events_without,
        **counts,
    )


def _write(parts: Iterator[Events], file: HitFileWriter, found: tuple[str, ...], *, all_hits: bool) -> dict[str, int]:
    """Append all hits or the kept ones; returns how many events and hits there were, and how many were kept."""
    names = ("events", "hits", "hits_kept", "hits_occluded", "events_emptied")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    for part in parts:
        kept, visible = part.hit_columns["kept"], part.hit_columns["visible"]
        file.append(_written(part, (*found, "kept")) if all_hits else select_hits(_written(part, found), kept))
        n_kept_per_event = np.diff(offsets_from_counts(kept)[part.offsets])
        emptied = np.count_nonzero((part.counts > 0) & (n_kept_per_event == 0))
        numbers = (part.n_events, part.n_hits, kept.sum(), (~visible).sum(), emptied)
        for name, n in zip(counts, numbers, strict=True):
            counts[name] += int(n)
    return counts


def _ready(folder: str | Path | None, model: str | None, precision: str | None) -> PackagedModel:
    """A run, or a packaged model; both are used alike."""
    if model is not None and folder is None:
        return load_packaged(model, precision=precision)
    if model is not None or folder is None:
        raise ValueError(f"either a run or a packaged model is needed, got {folder} and {model}")
    run = load_run(folder, precision=precision)
    return PackagedModel(run.record.run_id, run.epoch, run.setup, run.variables, run.paths.scores)


def _read_tracks(tracks: str | Path, setup: RunSetup) -> TrackFile:
    if not setup.model.takes_tracks:
        raise DataError(f"{tracks}: model {setup.model.name} is not given tracks")
    return read_tracks(tracks)


def _written(events: Events, found: tuple[str, ...]) -> Events:
    """The events with their own columns and those that were found."""
    own = {name: values for name, values in events.hit_columns.items() if name not in (*TAKEN, *found)}
    return only_writable(events._replace(hit_columns={**own, **{name: events.hit_columns[name] for name in found}}))
