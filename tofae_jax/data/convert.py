"""Convert events between datasets and files of other programs, in bounded memory."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_description import DESCRIPTION
from tofae_jax.data.dataset_writer import DatasetWriter
from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.column_types import naming_source
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.registry import ending_of, readable_endings, writable_endings
from tofae_jax.data.files.several import source_files
from tofae_jax.data.files.tables import Reading
from tofae_jax.data.files.units import Tally
from tofae_jax.data.files.write import HitFileWriter, open_hit_file

OutputUnits = Literal["own", "pixels"]
"""of a file made from another: its columns as they are there, or event, x, y, t in pixels and time bins"""


class Converted(NamedTuple):
    """Result of `convert_events`."""

    n_events: int
    n_hits: int
    reading: Reading
    """what was found out about the source, if it is a file"""
    path: Path
    """dataset folder or file that was written"""


def is_dataset(path: Path) -> bool:
    """Whether a path is a dataset folder; a folder of other files is read as these."""
    return (path / DESCRIPTION).is_file()


def numbered_events(dataset: Dataset) -> Iterator[Events]:
    """Yield all events of a dataset, part by part; a missing column `event` is added and counts them."""
    first = 0
    for events in dataset.events():
        counted = {"event": np.arange(first, first + events.n_events)}
        first += events.n_events
        yield events._replace(event_columns={**counted, **events.event_columns})


def check_no_reading_options(source: Path, reading: dict[str, Any]) -> None:
    """Raise `DataError` for options of `read_events`, which do not apply to the dataset `source`."""
    defaults = {"units": "pixels", "origin": "edge", "decimal": ".", "per": "", "columns": {}, "limits": Limits()}
    ours = ("reading", "keeps_own")
    given = [name for name, value in reading.items() if name not in ours and value not in (None, defaults.get(name))]
    if given:
        raise DataError(f"{source}: is a dataset, for which {', '.join(given)} cannot be chosen")


def no_events(source: str | Path, tally: Tally) -> DataError:
    """Return the error for a source without events."""
    return DataError(f"{source}: holds no events" + (f" ({tally})" if tally.n_outside else ""))


def convert_events(
    source: Path,
    out: Path,
    *,
    detector: Detector,
    overwrite: bool = False,
    output_units: OutputUnits = "own",
    **reading: Any,
) -> Converted:
    """Write the events of `source` to `out`.

    Args:
        source: dataset folder, or what `read_events` reads: a file, a pattern, or a folder of files.
        out: a file that `open_hit_file` writes, if it has such an ending, otherwise a dataset folder.
        detector: bounds of the hits of a file; a dataset has its own.
        overwrite: replace an existing dataset or file.
        output_units: of a file made from a table: `own`, the names, units and values of its columns, or `pixels`.
        reading: options of `read_events`.

    Raises:
        DataError: for a source that cannot be read or holds no events, and an output that cannot be written.
    """
    ending = ending_of(out)
    is_file = ending in writable_endings()
    if not is_file and ending in readable_endings():
        raise DataError(f"{out}: {ending} files cannot be written; {', '.join(writable_endings())} can")
    about, sources = Reading(), files_of_source(source)
    if is_dataset(source):
        if not is_file:
            raise DataError(f"{out}: a dataset is written to files that end in {', '.join(writable_endings())}")
        check_no_reading_options(source, reading)
        parts = numbered_events(Dataset(source))
    else:
        keeps_own = is_file and output_units == "own"
        parts = read_events(source, detector=detector, reading=about, keeps_own=keeps_own, **reading)
    if is_file:
        layout = (lambda: about.layout) if output_units == "own" else None
        with naming_source(source), open_hit_file(out, overwrite=overwrite, sources=sources, layout=layout) as file:
            return _to_file(parts, source, file, out, about)
    provenance = {"source": source.name, **{name: value for name, value in reading.items() if name != "limits"}}
    with DatasetWriter(out, detector=detector, provenance=provenance, overwrite=overwrite, sources=sources) as writer:
        for events in parts:
            writer.append(_with_plain_names(events))
        if not writer.n_appended:
            raise no_events(source, about.tally)
    return Converted(writer.n_events, writer.n_hits, about, out)


def files_of_source(source: str | Path) -> list[Path]:
    """Return what is read of a source: a dataset folder, or its files; nothing where there are none to read."""
    if is_dataset(Path(source)):
        return [Path(source)]
    try:
        return [Path(source), *(file.path for file in source_files(Path(source)))]
    except DataError:
        return [Path(source)]


def _to_file(parts: Iterator[Events], source: Path, file: HitFileWriter, out: Path, about: Reading) -> Converted:
    n_events = n_hits = 0
    for events in parts:
        file.append(events)
        n_events, n_hits = n_events + events.n_events, n_hits + events.n_hits
    if not n_events:
        raise no_events(source, about.tally)
    return Converted(n_events, n_hits, about, out)


def _with_plain_names(events: Events) -> Events:
    """Return events whose columns have names that a dataset can have: `edep[MeV]` becomes `edep_MeV`, `θ` `theta`."""
    return events._replace(
        hit_columns=_plain(events.hit_columns),
        event_columns=_plain(events.event_columns),
        track_columns=_plain(events.track_columns),
    )


def _plain(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        plain = (
            re.sub(r"[^A-Za-z0-9_ .+-]+", "_", "".join(map(_plain_letter, name))).lstrip(" .+-").rstrip() or "column"
        )
        plain = plain if plain == name else plain.strip("_") or "column"
        while plain in named:
            plain += "_"
        named[plain] = values
    return named


def _plain_letter(letter: str) -> str:
    """Return a letter in ASCII: those of Greek by their names, others without accents."""
    if letter.isascii():
        return letter
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK ") or letter == "µ":
        return "mu" if letter == "µ" else name.rpartition(" ")[2].lower()
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "_"
