"""Read the predecessor's checkpoint files: weights and a few numbers; nothing in them is run.

Such a file holds a dictionary: `encoder_state_dict`, `decoder_state_dict`, `latent_dim`, `fc_input_dim`, `precision`
(bits per number), `optimizer_state_dict`, and the source code of the network as text, which is neither run nor kept.
The image threshold, `reconstruction_threshold`, was a setting of the session and is rarely in the file.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import listing, naming_file
from tofae_jax.data.files.format_pt import load_tensors
from tofae_jax.data.storage.checksum import file_checksum

_STATES = {"enc.": "encoder_state_dict", "dec.": "decoder_state_dict"}  # by prefix in `models.predecessor_weights`
_SIZES = ("latent_dim", "fc_input_dim")
_POLICIES = {16: "float16", 32: "float32", 64: "float64"}
_LEFT_OUT = ("optimizer_state_dict", "autoencoder_py_file_script")
_DEFAULT_THRESHOLD = 0.5
_MOST_SNIFFED_BYTES = 16 * 2**20  # the largest pickle that is read at all
_LARGEST = 2**31  # whole number: size, epoch


class PredecessorCheckpoint(NamedTuple):
    """Contents of a checkpoint that are used."""

    path: Path
    sha256: str
    weights: dict[str, np.ndarray]
    """by the predecessor's names, such as `enc.encoder_cnn.0.weight`; finite, shapes unchecked"""
    latent: int
    fc: int
    policy: str
    """precision policy"""
    threshold: float
    """of the gapped normalisation"""
    epoch: int
    """epochs done, from the file, else from its name, else 0"""
    left_out: tuple[str, ...]
    """fields of the file that are not used"""


def read_predecessor_checkpoint(path: Path) -> PredecessorCheckpoint | None:
    """Read the checkpoint at `path`; None if there is something else, or nothing.

    The content decides: a checkpoint is a PyTorch file whose top level has both state dictionaries. A file with the
    ending `.pth` must be one.

    Raises `DataError` for a checkpoint that is damaged, holds objects of a program, or lacks a field, and names it.
    """
    is_called_one = path.suffix.lower() == ".pth"
    if is_called_one and not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if not is_called_one and not _mentions_states(path):
        return None
    tree = load_tensors(path)
    fields = tree if isinstance(tree, dict) else {}
    if not is_called_one and not all(name in fields for name in _STATES.values()):
        return None
    with naming_file(path, damage=()):
        return _checkpoint(path, fields)


def _mentions_states(path: Path) -> bool:
    """Whether the file may be a checkpoint, found without reading all of it: it may be a large bundle of images."""
    try:
        with zipfile.ZipFile(path) as file:
            (name,) = [name for name in file.namelist() if name.split("/")[-1] == "data.pkl"]
            with file.open(name) as member:
                pickled = member.read(_MOST_SNIFFED_BYTES)
    except Exception:  # not such a file, or damaged: reading it as data gives the error
        return False
    return all(name.encode() in pickled for name in _STATES.values())


def _checkpoint(path: Path, tree: dict[Any, Any]) -> PredecessorCheckpoint:
    needed = [*_STATES.values(), *_SIZES, "precision"]
    if missing := [name for name in needed if name not in tree]:
        has = f"it has {listing([str(name) for name in tree])}" if tree else "it holds no dictionary"
        raise DataError(f"is no checkpoint of the predecessor: it lacks {', '.join(missing)}; {has}")
    latent, fc = (_whole_number(tree, name, least=1) for name in _SIZES)
    bits = tree["precision"]
    if type(bits) is not int or bits not in _POLICIES:
        raise DataError(f"precision is {_shown(bits)}; known are {', '.join(map(str, _POLICIES))}")
    return PredecessorCheckpoint(
        path=path,
        sha256=file_checksum(path),
        weights=_weights(tree),
        latent=latent,
        fc=fc,
        policy=_POLICIES[bits],
        threshold=_threshold(tree),
        epoch=_whole_number(tree, "epoch", least=0) if "epoch" in tree else _epoch_of_name(path),
        left_out=tuple(name for name in _LEFT_OUT if name in tree),
    )


def _weights(tree: dict[Any, Any]) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for prefix, state in _STATES.items():
        if not isinstance(tree[state], dict):
            raise DataError(f"{state} is {_shown(tree[state])}; a dictionary of arrays expected")
        for name, array in tree[state].items():
            if not isinstance(name, str):
                raise DataError(f"{state} has a key of type {type(name).__name__}; names of arrays expected")
            shown = f"array {one_line(repr(name))} of {state}"
            if not isinstance(array, np.ndarray):
                raise DataError(f"{shown} is {_shown(array)}; an array expected")
            if name.endswith(".num_batches_tracked"):  # a count, of no use here
                continue
            if not np.issubdtype(array.dtype, np.floating):
                raise DataError(f"{shown} is of {array.dtype}; floating-point numbers expected")
            if not np.all(np.isfinite(array)):
                raise DataError(f"{shown} has numbers that are not finite")
            weights[f"{prefix}{name}"] = array
    return weights


def _threshold(tree: dict[Any, Any]) -> float:
    value = tree.get("reconstruction_threshold", _DEFAULT_THRESHOLD)
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise DataError(f"reconstruction_threshold is {_shown(value)}; a number from 0 to below 1 expected")
    return float(value)


def _whole_number(tree: dict[Any, Any], name: str, *, least: int) -> int:
    value = tree[name]
    if type(value) is not int or not least <= value < _LARGEST:
        raise DataError(f"{name} is {_shown(value)}; a whole number from {least} to below {_LARGEST} expected")
    return value


def _epoch_of_name(path: Path) -> int:
    found = re.search(r"epoch[ _-]?(\d{1,9})(?!\d)", path.stem, re.IGNORECASE)
    return int(found.group(1)) if found else 0


def _shown(value: object) -> str:
    """Return a value of a file for a message: itself if it is known to be small, otherwise its type."""
    is_small = type(value) is float or value is None or (isinstance(value, int) and abs(value) < 2**63)
    return repr(value) if is_small else f"of type {type(value).__name__}"
