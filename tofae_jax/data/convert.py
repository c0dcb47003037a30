"""Convert events between datasets and files of other programs, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset, DatasetWriter
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import readable_endings, writable_endings
from tofae_jax.data.files.units import Tally
from tofae_jax.data.files.write import open_hit_file


class Converted(NamedTuple):
    """Result of `convert_events`."""

    n_events: int
    n_hits: int
    tally: Tally
    path: Path
    """dataset folder or file that was written"""


def numbered_events(dataset: Dataset) -> Iterator[Events]:
    """Yield all events of a dataset, part by part; a missing column `event` is added and counts them."""
    first = 0
    for events in dataset.events():
        counted = {"event": np.arange(first, first + events.n_events)}
        first += events.n_events
        yield events._replace(event_columns={**counted, **events.event_columns})


def check_no_reading_options(source: Path, reading: dict[str, Any]) -> None:
    """Raise `DataError` for options of `read_events`, which do not apply to the dataset `source`."""
    defaults = {"units": "pixels", "origin": "edge"}
    given = [name for name, value in reading.items() if name != "tally" and value and value != defaults.get(name)]
    if given:
        raise DataError(f"{source}: is a dataset, for which {', '.join(given)} cannot be chosen")


def no_events(source: str | Path, tally: Tally) -> DataError:
    """Return the error for a source without events."""
    return DataError(f"{source}: holds no events" + (f" ({tally})" if tally.n_outside else ""))


def convert_events(
    source: Path, out: Path, *, detector: Detector, overwrite: bool = False, **reading: Any
) -> Converted:
    """Write the events of `source` to `out`.

    Args:
        source: dataset folder, or a file that `read_events` reads.
        out: a file that `open_hit_file` writes, if it has such an ending, otherwise a dataset folder.
        detector: bounds of the hits of a file; a dataset has its own.
        overwrite: replace an existing dataset or file.
        reading: options of `read_events`.

    Raises:
        DataError: for a source that cannot be read or holds no events, and an output that cannot be written.
    """
    ending = out.suffix.lower()
    is_file = ending in writable_endings()
    if not is_file and ending in readable_endings():
        raise DataError(f"{out}: {ending} files cannot be written; {', '.join(writable_endings())} can")
    if is_file and out.exists() and out.resolve() == source.resolve():
        raise DataError(f"{out}: is the input too; give another name")
    tally = Tally()
    if source.is_dir():
        if not is_file:
            raise DataError(f"{out}: a dataset is written to files that end in {', '.join(writable_endings())}")
        check_no_reading_options(source, reading)
        parts = numbered_events(Dataset(source))
    else:
        parts = read_events(source, detector=detector, tally=tally, **reading)
    if is_file:
        return _to_file(parts, source, out, overwrite, tally)
    provenance = {"source": source.name, **reading}
    with DatasetWriter(out, detector=detector, provenance=provenance, overwrite=overwrite) as writer:
        for events in parts:
            writer.append(events)
        if not writer.n_appended:
            raise no_events(source, tally)
    return Converted(writer.n_events, writer.n_hits, tally, out)


def _to_file(parts: Iterator[Events], source: Path, out: Path, overwrite: bool, tally: Tally) -> Converted:
    n_events = n_hits = 0
    with open_hit_file(out, overwrite=overwrite) as file:
        for events in parts:
            file.append(events)
            n_events, n_hits = n_events + events.n_events, n_hits + events.n_hits
        if not n_events:
            raise no_events(source, tally)
    return Converted(n_events, n_hits, tally, out)
