"""Activations, weights and biases by epoch, on disk.

A folder holds one `.npz` per flush, `flush-000002-epochs-000003-000005.npz`: its place in the order of writing, its
first and its last epoch. Its keys are `EPOCH-KIND-NAME`, e.g. `000003-weights-down_0%2Fkernel`: the epoch with leading
zeros, one of `KINDS`, and the name with every sign but letters, digits, `_`, `-` and `~` written as `%XX`, so
that the keys are plain file names: `np.load(path)["000003-weights-down_0%2Fkernel"]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

import jax
import jax.numpy as jnp
import numpy as np

from tofae_jax.config import leaves
from tofae_jax.data.storage.atomic import replacing_file, writable_folder
from tofae_jax.engine.parameters import named_parameters
from tofae_jax.models import Model, Variables

Kind = Literal["activations", "weights", "biases"]
KINDS: tuple[str, ...] = get_args(Kind)
Recording = dict[int, dict[str, dict[str, np.ndarray]]]
"""arrays by epoch, kind and name"""

_FILE = re.compile(r"flush-(\d+)-epochs-(\d+)-(\d+)\.npz")
_KEY = re.compile(rf"(\d+)-({'|'.join(KINDS)})-(.*)", re.DOTALL)
_KEPT_TYPES = "fiubc"  # NumPy's own numbers, by `dtype.kind`


class Recorder:
    """Keeps arrays in host memory and writes them every few epochs; nothing is kept after a flush.

    A context manager: leaving it writes what is left, also on an exception. One recorder at a time per folder; a later
    one, of a resumed run, adds its files to those that are there and replaces none.
    """

    def __init__(self, folder: Path, *, flush_every: int, memory_cap_bytes: int) -> None:
        """Record to `folder`.

        Args:
            folder: made if it is missing.
            flush_every: so many epochs are collected before they are written.
            memory_cap_bytes: an array that would make the collected ones exceed this has them written first. An array
                larger than that is written by itself at once.

        Raises:
            ValueError: a number is below 1, or the folder cannot be written.
        """
        for name, value in (("flush_every", flush_every), ("memory_cap_bytes", memory_cap_bytes)):
            if value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        self._folder = writable_folder(Path(folder))
        self._flush_every, self._cap = flush_every, memory_cap_bytes
        self._held: dict[int, dict[str, np.ndarray]] = {}
        self._held_bytes = 0
        self._is_open = False

    def __enter__(self) -> Recorder:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self.flush()

    @property
    def held_bytes(self) -> int:
        """Bytes of the arrays that wait to be written."""
        return self._held_bytes

    def record(self, epoch: int, kind: Kind | str, arrays: Mapping[str, Any]) -> None:
        """Copy arrays of an epoch, by name, to the host.

        The first array of a new epoch has the collected ones written once there are `flush_every` of them: so an epoch
        is written whole, whatever is recorded of it. An array recorded twice replaces the former one. Numbers of types
        that NumPy does not know, like bfloat16, become float32.

        Raises:
            ValueError: outside the context, for an unknown kind, a negative epoch, or an array that holds no numbers.
        """
        if not self._is_open:
            raise ValueError("the recorder is not open: record inside its with statement")
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, allowed are {', '.join(map(repr, KINDS))}")
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}, must not be negative")
        for name, array in arrays.items():
            host = _host_copy(array, f"{kind} {name!r} of epoch {epoch}")
            self._keep(epoch, f"{epoch:06d}-{kind}-{_safe(name)}", host)

    def _keep(self, epoch: int, key: str, array: np.ndarray) -> None:
        is_full = epoch not in self._held and len(self._held) >= self._flush_every
        if is_full or self._held_bytes + array.nbytes > self._cap:
            self.flush()
        of_epoch = self._held.setdefault(epoch, {})
        if key in of_epoch:
            self._held_bytes -= of_epoch[key].nbytes
        of_epoch[key] = array
        self._held_bytes += array.nbytes
        if self._held_bytes > self._cap:
            self.flush()

    def flush(self) -> Path | None:
        """Write all epochs since the last flush to a new file and forget them; its path, None if there were none.

        The file is there completely or not at all; if it cannot be written, nothing is forgotten.
        """
        if not self._held:
            return None
        order = 1 + max((int(match[1]) for match in _files(self._folder)), default=0)
        path = self._folder / f"flush-{order:06d}-epochs-{min(self._held):06d}-{max(self._held):06d}.npz"
        arrays = {key: array for of_epoch in self._held.values() for key, array in of_epoch.items()}
        with replacing_file(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._held, self._held_bytes = {}, 0
        return path


def _host_copy(array: Any, what: str) -> np.ndarray:
    dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
    if not (jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)):
        raise ValueError(f"{what} has type {dtype}: only numbers can be recorded")
    return np.array(array, dtype=None if dtype.kind in _KEPT_TYPES else np.float32)


def _safe(name: str) -> str:
    # a dot as well: NumPy takes ".npy" off the end of a key
    return quote(name, safe="").replace(".", "%2E")


def _files(folder: Path) -> list[re.Match[str]]:
    """The names of a folder's files, in the order of writing."""
    matches = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    return sorted((match for match in matches if match), key=lambda match: int(match[1]))


def read_recording(folder: Path) -> Recording:
    """All arrays of a folder by epoch, kind and name, epochs ascending.

    Where files hold the same array of the same epoch, as after a resume that repeats epochs, the last one written
    counts. ValueError naming the folder if there is none, or the file that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such recording")
    recording: Recording = {}
    for match in _files(folder):
        for (epoch, kind, name), array in _read_file(folder / match[0]).items():
            recording.setdefault(epoch, {}).setdefault(kind, {})[name] = array
    return dict(sorted(recording.items()))


def _read_file(path: Path) -> dict[tuple[int, str, str], np.ndarray]:
    arrays = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for key in file.files:
                match = _KEY.fullmatch(key)
                if match is None:
                    raise ValueError(f"unknown key {key!r}")
                arrays[int(match[1]), match[2], unquote(match[3], errors="strict")] = file[key]
    except Exception as error:  # NumPy and zip files have a dozen kinds of error for damaged bytes
        raise ValueError(f"{path}: cannot be read as a recording: {error}") from error
    return arrays


def split_parameters(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split nested parameters into weights and biases, each by slash-joined name, e.g. `down_0/kernel`.

    A leaf called `bias` is a bias; all others are weights, the scales of batch normalisation too.
    """
    weights: dict[str, Any] = {}
    biases: dict[str, Any] = {}
    for name, array in named_parameters(params).items():
        (biases if name.rpartition("/")[2] == "bias" else weights)[name] = array
    return weights, biases


def activations_of(model: Model, variables: Variables, x: jax.Array) -> dict[str, jax.Array]:
    """Return the output of every layer of the model for input `x`, by slash-joined name; pure, may be traced.

    Batch statistics are the running ones, as in inference. `down_0` is that layer's output, `down_0/BatchNorm_0` that
    of a part of it, `__call__` the model's own; what a layer sows stands under the name it chose. Several values of
    one name, as of a layer that is used twice, are called `name/0`, `name/1` and so on.
    """
    with jax.default_matmul_precision(model.matmul):
        _, updated = model.module.apply(
            variables, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
    activations = {}
    for path, values in leaves(updated["intermediates"], separator="/"):
        name = path.removesuffix("/__call__")
        arrays = jax.tree.leaves(values)
        if len(arrays) == 1:
            activations[name] = arrays[0]
        else:
            activations |= {f"{name}/{index}": array for index, array in enumerate(arrays)}
    return activations
