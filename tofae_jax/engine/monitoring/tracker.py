"""What a run reports while it runs: `metrics.jsonl` and TensorBoard.

Both are written at once by whoever calls, with no thread between: a process that is killed leaves all that was reported
before, and a full disk is an error here. tensorboardX's own `SummaryWriter` writes from a thread; when that thread
dies of a full disk, the next calls wait for ever. So only its summaries and its record format are used.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tofae_jax.config import leaves
from tofae_jax.core.detector import NO_HIT
from tofae_jax.data.storage.atomic import naming_path
from tofae_jax.runs.history import encoded_epoch, read_history

_FLOAT32_MAX = float(np.finfo(np.float32).max)  # TensorBoard keeps scalars as float32
_MOST_BITS = 63  # of integers that every reader of JSON takes
_SMALLEST_EDGE, _N_EDGES = 1e-12, 1222  # of histograms: each bin 10 % wider than the last, as in TensorFlow's
_FINAL = "final/"  # before the names of a run's results, so that they add no point to a curve of the same name


def scalars(tree: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a nested dict by slash-joined name; scalars of array libraries count as numbers."""
    found: dict[str, float] = {}
    for name, value in leaves(tree, separator="/"):
        if hasattr(value, "__array__") and np.ndim(value) == 0:
            value = np.asarray(value).item()
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    return found


def stage_image(image: np.ndarray, n_t: int) -> np.ndarray:
    """An image in time bins, float[y, x], as colours uint8[y, x, 3] for `Tracker.images`.

    Unlit pixels (0, negative, not finite) are black; lit ones take `plots.style.TIME_COLOURS` from bin 1 to `n_t`, and
    times beyond those take the colour of the nearest. ValueError if `n_t` is below 1 or the image has other axes.
    """
    from tofae_jax.plots.style import TIME_COLOURS

    if n_t < 1:
        raise ValueError(f"n_t is {n_t}, expected at least 1")
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}, expected (y, x)")
    times = image.astype(np.float64)  # bfloat16 too
    is_lit = np.isfinite(times) & (times > NO_HIT)
    fraction = (np.where(is_lit, times, 1.0) - 1.0) / max(n_t - 1, 1)
    colours = TIME_COLOURS(np.clip(fraction, 0.0, 1.0), bytes=True)[..., :3]
    return np.where(is_lit[..., None], colours, 0).astype(np.uint8)


class Tracker:
    """Writes one line per epoch, and the same numbers and more to TensorBoard; a context manager that closes both.

    All methods raise an OSError that names the file if it cannot be written, e.g. on a full disk; what was written
    before stays readable. Without a TensorBoard folder, what is for TensorBoard only does nothing.
    """

    def __init__(
        self, metrics_file: Path, tensorboard_folder: Path | None, *, resumed_after: int | None = None
    ) -> None:
        """Append to `metrics_file`; TensorBoard files go to `tensorboard_folder`, unless it is None.

        `resumed_after` says that a run goes on which has this many epochs done: epochs that `metrics_file` has already
        are not written to it again, and TensorBoard forgets what was logged of later epochs, as they are repeated.
        """
        if resumed_after is not None and resumed_after < 0:
            raise ValueError(f"resumed_after is {resumed_after}, expected at least 0")
        self._path = metrics_file
        self._tensorboard_folder = tensorboard_folder
        self._resumed_after = resumed_after
        self._last_epoch = resumed_after or 0
        self._written: set[Any] = set()
        self._stack = ExitStack()
        self._file: FileIO | None = None
        self._events: _EventFile | None = None

    def __enter__(self) -> Tracker:
        with ExitStack() as stack:
            self._file = stack.enter_context(_open_lines(self._path))
            if self._resumed_after is not None:
                self._written = {record.get("epoch") for record in read_history(self._path)}
            if self._tensorboard_folder is not None:
                self._events = _EventFile(self._tensorboard_folder, self._resumed_after)
                stack.callback(self._events.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file = self._events = None
        self._stack.__exit__(kind, error, trace)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """One epoch's numbers, which must hold its number `epoch`, counted from 1. Written through at once.

        NaN and infinity become null in the file, and TensorBoard does not get them, nor lists. ValueError without a
        proper `epoch`, TypeError naming a value that JSON cannot hold; then nothing is written.
        """
        if self._file is None:
            raise RuntimeError("the tracker is not open: use it in a with statement")
        plain = _plain(record, "record")
        epoch = plain.pop("epoch", None)
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1:
            raise ValueError(f"record: epoch is {epoch!r}, expected a whole number from 1")
        line = encoded_epoch({"epoch": epoch, **plain})
        if epoch not in self._written:
            _append_line(self._file, self._path, line.encode())
            if self._resumed_after is not None:
                self._written.add(epoch)
        self._last_epoch = max(self._last_epoch, epoch)
        self._scalars(epoch, scalars(plain))

    def text(self, name: str, text: str) -> None:
        """A text for TensorBoard, e.g. the settings."""
        if self._events is None:
            return
        from tensorboardX import summary

        self._events.write([summary.text(name, text)], self._resumed_after or 0)

    def images(self, epoch: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures of an epoch by name, uint8[y, x, 3] or grey uint8[y, x]; ValueError naming any other."""
        if (events := self._events_for(epoch)) is None:
            return
        from tensorboardX import summary

        summaries: list[Any] = []
        for name, image in images.items():
            pixels = np.asarray(image)
            fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)
            if pixels.dtype != np.uint8 or not fits or not pixels.size:
                raise ValueError(
                    f"image {name!r} has type {pixels.dtype} and shape {pixels.shape}, "
                    "expected uint8 and (y, x, 3) or (y, x)"
                )
            summaries.append(summary.image(name, pixels, dataformats="HWC"[: pixels.ndim]))
        events.write(summaries, epoch)

    def histograms(self, epoch: int, arrays: Mapping[str, Any]) -> None:
        """Distributions of an epoch by name, of real arrays of any shape and type.

        What is not finite (as float32) is left out of its histogram, and an array with nothing else is skipped.
        """
        if (events := self._events_for(epoch)) is None:
            return
        from tensorboardX import summary

        edges = np.geomspace(_SMALLEST_EDGE, _FLOAT32_MAX, _N_EDGES)
        edges = np.concatenate([-edges[::-1], [0.0], edges])
        summaries: list[Any] = []
        for name, array in arrays.items():
            values = np.asarray(array)
            if values.dtype.kind == "c":
                raise ValueError(f"histogram {name!r} has type {values.dtype}, expected real numbers")
            values = values.astype(np.float64).ravel()  # bfloat16 and float16 too
            values = values[np.abs(values) <= _FLOAT32_MAX]
            if values.size:
                summaries.append(summary.histogram(name, values, edges))
        events.write(summaries, epoch)

    def hyperparameters(self, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
        """Settings beside final results, for TensorBoard's HPARAMS tab; once, at the end of a run.

        Nested settings get slash-joined names; what is neither number, bool nor text becomes text. Results are the
        numbers as for `epoch`, under `final/`, at the last epoch reported.
        """
        if self._events is None:
            return
        from tensorboardX import summary

        finals = {f"{_FINAL}{name}": value for name, value in scalars(results).items() if _fits(value)}
        self._events.write(list(summary.hparams(_settings(settings), finals)), 0)
        self._events.write([summary.scalar(name, value) for name, value in finals.items()], self._last_epoch)

    def _scalars(self, epoch: int, numbers: Mapping[str, float]) -> None:
        if (events := self._events_for(epoch)) is None:
            return
        from tensorboardX import summary

        events.write([summary.scalar(name, number) for name, number in numbers.items() if _fits(number)], epoch)

    def _events_for(self, epoch: int) -> _EventFile | None:
        """Where to log an epoch: nowhere without TensorBoard, nor if TensorBoard had it before the run was resumed."""
        return self._events if epoch > (self._resumed_after or 0) else None


class _EventFile:
    """A new TensorBoard file in a folder, which is made if it is not there; its name is not used twice."""

    def __init__(self, folder: Path, resumed_after: int | None) -> None:
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        is_first = not any(folder.glob("events.out.tfevents.*"))
        seconds, rest = divmod(time.time_ns(), 10**9)  # TensorBoard reads files in the order of their names
        self._path = folder / f"events.out.tfevents.{seconds}.{rest:09}.{socket.gethostname()}.{os.getpid()}"
        with naming_path(self._path):
            self._writer = RecordWriter(str(self._path))
        try:
            self._add(file_version="brain.Event:2")
            # As tensorboardX's purge_step: a start makes TensorBoard forget this step and later ones. But its slower
            # loader takes no notice of the first start in a folder, so that a new run needs one as well.
            if resumed_after is not None or is_first:
                self._add(step=0 if resumed_after is None else resumed_after + 1, session_log={"status": "START"})
            self._flush()
        except BaseException:
            self.close()
            raise

    def write(self, summaries: list[Any], step: int) -> None:
        """Summaries of tensorboardX at a step, which reach the disk before this returns."""
        for summary in summaries:
            self._add(step=step, summary=summary)
        self._flush()

    def close(self) -> None:
        """Also where it raises, the file is closed afterwards."""
        with naming_path(self._path):
            self._writer.close()

    def _add(self, **content: Any) -> None:
        from tensorboardX.proto import event_pb2

        event = event_pb2.Event(wall_time=time.time(), **content)  # pyright: ignore[reportAttributeAccessIssue]
        with naming_path(self._path):
            self._writer.write(event.SerializeToString())

    def _flush(self) -> None:
        with naming_path(self._path):
            self._writer.flush()


def _open_lines(path: Path) -> FileIO:
    """Open to append whole lines; a torn last line, left by a process that died, is cut off."""
    file = path.open("ab", buffering=0)
    try:
        with naming_path(path):
            content = path.read_bytes()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    except BaseException:
        file.close()
        raise
    return file


def _append_line(file: FileIO, path: Path, line: bytes) -> None:
    """One write, so that a kill leaves all of the line or nothing; where it fails, what it left is cut off again."""
    with naming_path(path):
        begin = os.fstat(file.fileno()).st_size
        done = 0
        try:
            while done < len(line):  # a second turn only where the system took a part
                n_written = file.write(line[done:])
                if not n_written:
                    raise OSError(errno.EIO, "nothing was written")
                done += n_written
        except BaseException:
            if 0 < done < len(line):
                file.truncate(begin)
            raise


def _plain(tree: Any, name: str) -> Any:
    """A copy in JSON's own types: arrays become lists, what is not finite becomes null.

    Integers of more than 63 bits become floats. TypeError names the rest.
    """
    if isinstance(tree, Mapping):
        return {str(key): _plain(value, f"{name}/{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value, f"{name}/{index}") for index, value in enumerate(tree)]
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else None
    if isinstance(tree, int) and not isinstance(tree, bool) and tree.bit_length() > _MOST_BITS:
        return float(tree) if tree.bit_length() < sys.float_info.max_exp else None
    if tree is None or isinstance(tree, str | int):
        return tree
    if hasattr(tree, "__array__"):
        array = np.asarray(tree)
        if array.dtype.kind in "biuU":
            return array.tolist()
        if array.dtype.kind in "fV":  # bfloat16 and its like are V
            return _plain(array.astype(np.float64).tolist(), name)
    raise TypeError(f"{name} is a {type(tree).__name__}, which JSON cannot hold")


def _settings(settings: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return settings by slash-joined name, as numbers, bools and texts."""
    flat: dict[str, bool | int | float | str] = {}
    for name, value in leaves(settings, separator="/"):
        if isinstance(value, np.generic):
            value = value.item()
        is_kept = isinstance(value, bool | str) or (isinstance(value, int | float) and _fits(value))
        flat[name] = value if is_kept else str(value)
    return flat


def _fits(value: float) -> bool:
    """Whether TensorBoard can show it: finite as float32; whole numbers of any size may be asked."""
    return abs(value) <= _FLOAT32_MAX
