"""What a run left behind to look at: record, history, and the raw data of its figures. No jax, no dataset needed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tofae_jax.config import SAME
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.plots import EventView, LossNames
from tofae_jax.runs.arrays import load_arrays, load_scores, reason_of, save_arrays
from tofae_jax.runs.event_views import load_views
from tofae_jax.runs.folder import RunPaths
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import SEALED_FROM, RunRecord, read_record
from tofae_jax.runs.record_contents import contents_of

NO_LABEL = ""


class Latents(NamedTuple):
    """The latent space of a model that has one."""

    vectors: np.ndarray
    """float[n, d]: of test events"""
    labels: np.ndarray
    """str[n]: what kind of event each is, empty if not known"""
    samples: np.ndarray
    """float[m, Y, X]: direct outputs, in time bins, of draws from the space"""
    has_time: bool
    """False where these are only lit (1) or not"""


class SavedRun(NamedTuple):
    """A run as its folder tells it; what it never wrote is empty."""

    paths: RunPaths
    record: RunRecord
    history: list[dict[str, Any]]
    """records of its epochs"""
    detector: Detector
    views: list[EventView]
    """a few test events at every stage"""
    events: dict[str, np.ndarray]
    """numbers of each test event, [n] by dotted name, e.g. `masked.n_true_positives`"""
    latents: Latents | None
    spans: list[Any]
    """of its timer"""
    scores: dict[str, np.ndarray]
    """counts of validation hits by score, the fields of `metrics.ScoreSums`; empty if it kept none"""
    problems: list[str]
    """what of it could not be read, and why"""

    @property
    def loss_names(self) -> LossNames:
        """Names of the losses of training and of validation, which differ where their settings do."""
        sections = [self.record.config.get(name) for name in ("loss", "evaluation_loss")]
        train, validation = [section if isinstance(section, dict) else {} for section in sections]
        name, other = [str(section.get("name") or "") for section in (train, validation)]
        if other in ("", SAME) or validation == train:
            return LossNames(name, name)
        return LossNames(name, other if other != name else f"{other}, other settings")

    @property
    def test(self) -> dict[str, Any] | None:
        """Metrics of the test events, if it was evaluated."""
        return self.record.results.get("test")


def save_latents(path: Path, latents: Latents) -> Path:
    """Write the latents; returns the path."""
    return save_arrays(path, {name: np.asarray(part) for name, part in latents._asdict().items()})


def load_latents(path: Path) -> Latents:
    """What `save_latents` wrote; DataError naming the file if it is no such."""
    arrays = load_arrays(path)
    try:
        vectors, labels, samples, has_time = (arrays[name] for name in Latents._fields)
    except KeyError as error:
        raise DataError(f"{path}: holds no {error}") from None
    kinds = "".join(array.dtype.kind for array in (vectors, labels, samples, has_time))
    if vectors.ndim != 2 or samples.ndim != 3 or labels.shape != vectors.shape[:1] or has_time.size != 1:
        raise DataError(f"{path}: its arrays do not match")
    if kinds != "fUfb":
        raise DataError(f"{path}: its arrays are of other types than float, text, float and bool")
    return Latents(vectors, labels, samples, bool(has_time))


def load_events(path: Path) -> dict[str, np.ndarray]:
    """Numbers of each test event; DataError naming the file if it holds none, or not as many of each."""
    arrays = load_arrays(path)
    if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{path}: its arrays do not match")
    return arrays


def _spans(path: Path) -> list[Any]:
    from tofae_jax.runs.timeline import read_timeline

    return list(read_timeline(path).spans)


def _views(path: Path, detector: Detector) -> list[EventView]:
    views, of = load_views(path)
    if of != detector:
        raise DataError(f"{path}: made with another detector than the run's")
    return views


def _latents(path: Path, detector: Detector) -> Latents:
    latents = load_latents(path)
    if latents.samples.shape[1:] != (detector.n_y, detector.n_x):
        raise DataError(f"{path}: made with another detector than the run's")
    return latents


def read_saved(folder: str | Path, *, views: Path | None = None) -> SavedRun:
    """A run from its folder; RunError where there is none, or its record tells nonsense.

    What is damaged beside its record is left out, and named in `problems`.

    `views` is the file of the events to show; None: those of the run's end.
    """
    paths, record = read_record(folder)
    problems: list[str] = []

    def read(path: Path, reader: Any, empty: Any) -> Any:
        try:
            return reader(path) if path.exists() else empty
        except Exception as error:  # whatever is wrong with a file beside the record, the rest can still be told
            why = reason_of(error)
            problems.append(why if str(path) in why else f"{path}: cannot be read: {why}")
            return empty

    detector = contents_of(msgspec.to_builtins(record)).config.detector
    return SavedRun(
        paths=paths,
        record=record,
        history=read(paths.metrics, partial(read_history, is_sealed=record.schema_version >= SEALED_FROM), []),
        detector=detector,
        views=read(views or paths.plot_data, lambda path: _views(path, detector), []),
        events=read(paths.plot_events, load_events, {}),
        latents=read(paths.plot_latents, lambda path: _latents(path, detector), None),
        spans=read(paths.timeline, _spans, []),
        scores=read(paths.scores, load_scores, {}),
        problems=problems,
    )
