"""The history of a run: one record per epoch, each a line of `metrics.jsonl` with a checksum."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tofae_jax.config.documents import DocumentError, decode_json, sealed, unsealed
from tofae_jax.data.storage.atomic import write_text
from tofae_jax.runs.record_contents import EpochContents


def encoded_epoch(record: Mapping[str, Any]) -> str:
    """Encode the record of an epoch as a line, with its checksum; ValueError for NaN and infinity."""
    return json.dumps(sealed(dict(record)), allow_nan=False) + "\n"


def read_history(metrics_file: Path, *, is_sealed: bool = False) -> list[dict[str, Any]]:
    """Read all complete lines of `metrics.jsonl`; a torn last line is left out.

    Args:
        metrics_file: the file; it may be missing.
        is_sealed: whether each line must have a checksum, as those of runs since schema version 3.

    Raises:
        ValueError: a line is damaged; the message names it.
    """
    history = []
    for number, record in _lines(metrics_file, is_sealed=is_sealed):
        if isinstance(record, DocumentError):
            raise ValueError(f"{metrics_file}: line {number}: {record}")
        history.append(record)
    return history


def restore_history(metrics_file: Path, known: Sequence[Mapping[str, Any]], *, is_sealed: bool) -> list[int]:
    """Restore the lines of epochs that the file lost, or that are damaged; the others stay as they are.

    Args:
        metrics_file: the file; it may be missing.
        known: records of the first epochs, as a checkpoint has them.
        is_sealed: as for `read_history`.

    Returns:
        The epochs that were restored.
    """
    found: dict[Any, dict[str, Any]] = {}
    is_whole = True
    for _, record in _lines(metrics_file, is_sealed=is_sealed):
        if isinstance(record, DocumentError):
            is_whole = False
        else:
            found.setdefault(record["epoch"], record)
    restored = [record["epoch"] for record in known if record["epoch"] not in found]
    if restored or not is_whole:
        records = found | {record["epoch"]: _plain(record) for record in known if record["epoch"] in restored}
        write_text(metrics_file, "".join(encoded_epoch(records[epoch]) for epoch in sorted(records)))
    return restored


def _lines(metrics_file: Path, *, is_sealed: bool) -> Iterator[tuple[int, dict[str, Any] | DocumentError]]:
    """Yield number and record of each complete line, or what is wrong with it."""
    if not metrics_file.is_file():
        return
    for number, line in enumerate(metrics_file.read_bytes().split(b"\n")[:-1], start=1):
        if not line:
            continue
        try:
            record = unsealed(decode_json(line), is_required=is_sealed)
            msgspec.convert(record, EpochContents)
            yield number, record
        except DocumentError as error:
            yield number, error
        except msgspec.ValidationError as error:
            yield number, DocumentError(f"damaged: {error}")


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as a line has it: NaN and infinity are null."""
    return decode_json(msgspec.json.encode(record))
