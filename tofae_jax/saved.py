"""What a run left behind to look at: record, history, and the raw data of its figures. No jax, no dataset needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import msgspec
import numpy as np

from tofae_jax.datasets.events import DataError
from tofae_jax.detector import Detector
from tofae_jax.files import replacing
from tofae_jax.plots import EventView, load_views
from tofae_jax.runs import RunPaths, RunRecord, read_record
from tofae_jax.tracking import read_history

_VERSION = 1
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
    problems: list[str]
    """what of it could not be read, and why"""

    @property
    def test(self) -> dict[str, Any] | None:
        """Metrics of the test events, if it was evaluated."""
        return self.record.results.get("test")


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write arrays to one `.npz`, completely or not at all; returns its path."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, version=np.asarray(_VERSION), **arrays)
    return path


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote; DataError naming the file if it is no such."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        version = int(arrays.pop("version"))
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, OSError, BadZipFile) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if version != _VERSION:
        raise DataError(f"{path}: of version {version}, this program reads {_VERSION}")
    return arrays


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
    latents = Latents(vectors, labels, samples, bool(has_time))
    if latents.vectors.ndim != 2 or latents.samples.ndim != 3 or latents.labels.shape != latents.vectors.shape[:1]:
        raise DataError(f"{path}: its arrays do not match")
    return latents


def load_events(path: Path) -> dict[str, np.ndarray]:
    """Numbers of each test event; DataError naming the file if it holds none, or not as many of each."""
    arrays = load_arrays(path)
    if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{path}: its arrays do not match")
    return arrays


def _spans(path: Path) -> list[Any]:
    from tofae_jax.instruments import read_timeline  # here: the other instruments load jax

    return list(read_timeline(path).spans)


def _views(path: Path, detector: Detector) -> list[EventView]:
    views, of = load_views(path)
    if of != detector:
        raise DataError(f"{path}: made with another detector than the run's")
    return views


def read_saved(folder: str | Path, *, views: Path | None = None) -> SavedRun:
    """A run from its folder; RunError where there is none. What is damaged beside its record is named in `problems`.

    `views` is the file of the events to show; None: those of the run's end.
    """
    paths, record = read_record(folder)
    problems: list[str] = []

    def read(path: Path, reader: Any, empty: Any) -> Any:
        if not path.exists():
            return empty
        try:
            return reader(path)
        except (ValueError, OSError) as error:  # every reader names the file
            problems.append(str(error))
            return empty

    try:
        detector = msgspec.convert(record.config.get("detector", {}), Detector)
    except msgspec.ValidationError as error:
        raise DataError(f"{paths.record}: detector: {error}") from None
    return SavedRun(
        paths=paths,
        record=record,
        history=read(paths.metrics, read_history, []),
        detector=detector,
        views=read(views or paths.plot_data, lambda path: _views(path, detector), []),
        events=read(paths.plot_events, load_events, {}),
        latents=read(paths.plot_latents, load_latents, None),
        spans=read(paths.timeline, _spans, []),
        problems=problems,
    )


def training_seconds(history: list[dict[str, Any]]) -> float:
    """How long the epochs took together; what is not known adds nothing."""
    known = (record.get("time", {}).get("epoch_s") for record in history)
    return float(sum(seconds for seconds in known if isinstance(seconds, int | float) and math.isfinite(seconds)))
