"""Event views on disk, from which event figures are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import msgspec
import numpy as np

from tofae_jax.config.documents import decode_json
from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError, offsets_from_counts
from tofae_jax.data.storage.atomic import replacing_file
from tofae_jax.plots.event_view import FLAGS, HIT_LISTS, PATTERN, EventView, check_view

_VERSION = 1


def save_views(path: str | Path, views: Sequence[EventView], detector: Detector) -> Path:
    """Write all that event figures need to one `.npz`, completely or not at all; returns its path.

    `load_views` gives the same back: values exactly, and types too, where the views agree in theirs. Ragged lists lie
    one after the other; view `i` owns `offsets[i]:offsets[i + 1]` of them. Raises `ValueError` as `check_view` does.
    """
    views = [check_view(view, detector) for view in views]
    arrays: dict[str, np.ndarray] = {
        "version": np.asarray(_VERSION),
        "detector": np.asarray(msgspec.json.encode(detector).decode()),
        "has_time": np.asarray([view.has_time for view in views], bool),
        "target": np.asarray([view.target for view in views], str),
    }
    for name in HIT_LISTS:
        lists = [getattr(view, name) for view in views]
        arrays[name] = np.concatenate(lists) if lists else np.zeros((0, 3), np.int64)
        arrays[f"{name}_offsets"] = offsets_from_counts(list(map(len, lists)))
    for name in FLAGS:
        arrays[name] = np.concatenate([getattr(view, name) for view in views] or [np.zeros(0, bool)])
    images = [view.direct for view in views]
    arrays["direct"] = np.stack(images) if images else np.zeros((0, detector.n_y, detector.n_x), np.float32)
    path = Path(path)
    with replacing_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def load_views(path: str | Path) -> tuple[list[EventView], Detector]:
    """The views of a file that `save_views` wrote, and their detector; DataError naming the file if it is no such."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if int(arrays["version"]) != _VERSION:
            raise DataError(f"{path}: plot data of version {arrays['version']}, this program reads {_VERSION}")
        detector = msgspec.convert(decode_json(str(arrays["detector"]).encode()), Detector)
        views = [check_view(_view(arrays, index), detector) for index in range(len(arrays["has_time"]))]
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path}: not plot data: it has no array {error}") from error
    except (ValueError, TypeError, AttributeError, EOFError, IndexError, BadZipFile, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: not plot data: {error}") from error
    return views, detector


def _view(arrays: dict[str, np.ndarray], index: int) -> EventView:
    parts = {name: arrays[name][slice(*arrays[f"{name}_offsets"][index : index + 2])] for name in HIT_LISTS}
    flags = {name: arrays[name][slice(*arrays["hits_offsets"][index : index + 2])] for name in FLAGS}
    # the first files of this version do not say what their target was
    target = str(arrays["target"][index]) if "target" in arrays else PATTERN
    return EventView(
        **parts, **flags, direct=arrays["direct"][index], has_time=bool(arrays["has_time"][index]), target=target
    )
