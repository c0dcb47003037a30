"""The description of a dataset, `dataset.json`: what it holds, and the checksums of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from tofae_jax.config.documents import DocumentError, decode_json, schema_version, sealed, unsealed
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError

SCHEMA_VERSION = 3  # 1 had no tracks, 2 no checksum of the description
SEALED_FROM = 3
DESCRIPTION = "dataset.json"


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard."""

    n_events: int
    n_hits: int
    n_tracks: int = 0
    sha256: dict[str, str]
    """checksum of each of its files, by name"""


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `dataset.json`."""

    schema_version: int
    detector: Detector
    n_events: int
    n_hits: int
    hit_columns: list[str]
    event_columns: list[str]
    track_columns: list[str] | None = None
    """None: no tracks are known"""
    provenance: dict[str, Any]
    shards: list[Shard]


def encoded(description: Description) -> bytes:
    """Encode a description, with its checksum."""
    return msgspec.json.format(msgspec.json.encode(sealed(msgspec.to_builtins(description))), indent=1)


def file_of_part(shard: int, part: str) -> str:
    """Name the file of a part of a shard, e.g. `hits` or `hit.is_signal`."""
    return f"{shard:05d}.{part}.npy"


def check_column_name(name: str, where: str) -> None:
    """Columns are files, so their names must not lead elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_ .+-]*", name):
        raise DataError(f"{where}: column {name!r}: letters, digits, '_', ' ', '.', '+' and '-' allowed")


def read_description(path: Path) -> Description:
    """Read the description of the dataset at `path`; DataError where there is none, or it is damaged or newer."""
    if not path.exists():
        raise DataError(f"{path}: no such dataset")
    file = path / DESCRIPTION
    if not file.is_file():
        raise DataError(f"{path}: not a dataset: it has no {DESCRIPTION}")
    try:
        tree = decode_json(file.read_bytes())
        version = schema_version(tree, newest=SCHEMA_VERSION)
        description = msgspec.convert(unsealed(tree, is_required=version >= SEALED_FROM), Description)
    except DocumentError as error:
        raise DataError(f"{file}: {error}") from None
    except (msgspec.ValidationError, OSError) as error:
        raise DataError(f"{file}: damaged: {error}") from None
    counted = sum(s.n_events for s in description.shards), sum(s.n_hits for s in description.shards)
    if counted != (description.n_events, description.n_hits):
        raise DataError(
            f"{file}: says {description.n_events} events and {description.n_hits} hits, its shards have {counted}"
        )
    for shard in description.shards:
        for name in shard.sha256:
            if Path(name).name != name or name in ("", ".", ".."):
                raise DataError(f"{file}: damaged: names the file {name!r}, which is not in its folder")
    for name in [*description.hit_columns, *description.event_columns, *(description.track_columns or [])]:
        check_column_name(name, str(file))
    if not description.n_events:
        raise DataError(f"{file}: holds no events")
    return description
