"""Events from files of other programs, in chunks, so that memory does not grow with the file."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tofae_jax.datasets.events import DataError, Events
from tofae_jax.datasets.readers_csv import csv_events
from tofae_jax.datasets.readers_images import check_images, image_events, images_per_block
from tofae_jax.datasets.readers_lists import one_line
from tofae_jax.datasets.readers_npz import npy_header, npz_events
from tofae_jax.datasets.torch_pickle import load_tensors
from tofae_jax.detector import Detector

_DAMAGE = (  # what the libraries raise for a file that is cut, damaged or of another format
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,  # an encrypted or unusual zip file
    zipfile.BadZipFile,
    zlib.error,
    csv.Error,
)


def read_events(
    path: Path, *, detector: Detector, array: str | None = None, chunk_hits: int = 1_000_000
) -> Iterator[Events]:
    """Events of a file of another program, in its order, in chunks of complete events.

    The file's ending says what it is:

    - `.npy`: images [n, y, x] or [n, 1, y, x]; a pixel holds the time bin of a hit, or 0.
    - `.npz`: a hit list or images, see `npz_events`; `array` names the array to read where there is a choice.
    - `.csv`: a hit list with a header, see `csv_events`.
    - `.pt`: images as one tensor, as PyTorch saves it, of which nothing is run; held in memory as a whole.

    A hit list has one row per hit: the event's number, x, y, t. Rows of an event follow each other, and numbers never
    fall; gaps are fine. Further columns become hit columns of the same name.

    A chunk has at most `chunk_hits` hits (images: pixels); an event with more stays whole. Memory is bounded by that.
    Each chunk has the event column `event`: the event's number in the file (images: its position). A file without
    events gives no chunk.

    Raises `DataError`, when called or when the chunk is read, for whatever is wrong with the file.
    """
    if chunk_hits < 1:
        raise ValueError(f"chunk_hits must be at least 1, got {chunk_hits}")
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise DataError(f"{path}: unknown ending {ending!r}; known are {', '.join(known_formats())}")
    if array is not None and ending != ".npz":
        raise DataError(f"{path}: array {array!r} chosen, but only .npz files have named arrays")
    if not path.is_file():
        raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty")
    return _READERS[ending](path, detector, array, chunk_hits)


def known_formats() -> tuple[str, ...]:
    """The file endings that `read_events` knows."""
    return tuple(sorted(_READERS))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of errors, and turn what libraries raise for bad files into `DataError`."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: cut, damaged or not a {path.suffix.lower()} file ({one_line(error)})") from error


def _read_csv(path: Path, detector: Detector, _array: str | None, chunk_hits: int) -> Iterator[Events]:
    with _naming(path):
        yield from csv_events(path, detector=detector, chunk_hits=chunk_hits)


def _read_npz(path: Path, detector: Detector, array: str | None, chunk_hits: int) -> Iterator[Events]:
    with _naming(path):
        yield from npz_events(path, detector=detector, array=array, chunk_hits=chunk_hits)


def _read_npy(path: Path, detector: Detector, _array: str | None, chunk_hits: int) -> Iterator[Events]:
    with _naming(path):
        # Not np.load, which goes by the content and would take a zip file or, if allowed to, a pickle.
        with path.open("rb") as file:
            shape, is_fortran, dtype = npy_header(file)
            start = file.tell()
        check_images(shape, dtype, detector=detector)
        images = np.memmap(path, dtype, "r", start, shape, "F" if is_fortran else "C")
        yield from _array_events(images, detector, chunk_hits)


def _read_pt(path: Path, detector: Detector, _array: str | None, chunk_hits: int) -> Iterator[Events]:
    tensors = list(_tensors(load_tensors(path)))
    if len(tensors) != 1:
        raise DataError(f"{path}: {len(tensors)} tensors; one tensor of images expected")
    with _naming(path):
        yield from _array_events(tensors[0], detector, chunk_hits)


def _array_events(images: np.ndarray, detector: Detector, chunk_hits: int) -> Iterator[Events]:
    check_images(images.shape, images.dtype, detector=detector)
    n_per_block = images_per_block(detector=detector, chunk_hits=chunk_hits)
    blocks = (np.asarray(images[start : start + n_per_block]) for start in range(0, len(images), n_per_block))
    yield from image_events(blocks, detector=detector)


def _tensors(tree: object) -> Iterator[np.ndarray]:
    """All arrays in nested lists and dictionaries."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(part)


_READERS: dict[str, Callable[[Path, Detector, str | None, int], Iterator[Events]]] = {
    ".csv": _read_csv,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_pt,
}
