"""Turn images, one per event, whose pixels hold the time bin of a hit or 0, into hit lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError, Events, offsets_from_counts
from tofae_jax.data.files.hit_rows import not_whole
from tofae_jax.data.files.limits import Limits

_LIMITS = Limits()


def check_images(shape: tuple[int, ...], dtype: np.dtype, *, detector: Detector) -> None:
    """Raise `DataError` unless an array of this shape and type can hold images of the detector."""
    n_x, n_y, _ = detector.shape
    if dtype.kind not in "iuf":
        raise DataError(f"images of type {one_line(dtype)}; integer or float allowed")
    if shape[1:] not in ((n_y, n_x), (1, n_y, n_x)):
        raise DataError(
            f"images of shape {one_line(list(shape))}; [n, {n_y}, {n_x}] or [n, 1, {n_y}, {n_x}] allowed (n, y, x)"
        )


def images_per_block(*, detector: Detector, chunk_hits: int, itemsize: int = 8, limits: Limits = _LIMITS) -> int:
    """Return the number of images that have at most `chunk_hits` pixels together and fit in memory, at least 1."""
    n_pixels = detector.n_x * detector.n_y
    return limits.rows_at_once(max(1, chunk_hits // n_pixels), n_pixels * itemsize, "images")


def array_events(
    images: np.ndarray, *, detector: Detector, chunk_hits: int, limits: Limits = _LIMITS
) -> Iterator[Events]:
    """Yield the events of an array of images, [n, y, x] or [n, 1, y, x], in chunks of at most `chunk_hits` pixels."""
    check_images(images.shape, images.dtype, detector=detector)
    itemsize = images.dtype.itemsize
    n_per_block = images_per_block(detector=detector, chunk_hits=chunk_hits, itemsize=itemsize, limits=limits)
    blocks = (np.asarray(images[start : start + n_per_block]) for start in range(0, len(images), n_per_block))
    yield from image_events(blocks, detector=detector, limits=limits)


def image_events(blocks: Iterable[np.ndarray], *, detector: Detector, limits: Limits = _LIMITS) -> Iterator[Events]:
    """Yield the events of each block of images, hits ordered by y, then x.

    The event column `event` counts the images. An image without hits is an event without hits.
    """
    n_x, n_y, n_t = detector.shape
    n_before = 0
    for block in blocks:
        images = block.reshape(len(block), -1)
        is_hit = images != 0  # NaN differs from 0 too, so the check below finds it
        counts = np.count_nonzero(is_hit, axis=1)
        largest = int(counts.argmax()) if len(counts) else 0
        limits.check_hits(int(counts.max(initial=0)), f"event {n_before + largest}")
        event, pixel = np.divmod(np.flatnonzero(is_hit), n_y * n_x)
        values = images[event, pixel]
        bad = not_whole(values, 1, n_t)
        if bad.any():
            first = int(bad.argmax())
            y, x = divmod(int(pixel[first]), n_x)
            raise DataError(
                f"event {n_before + event[first]}, pixel x={x} y={y}: {values[first]}; "
                f"whole numbers from 0 (no hit) to {n_t} allowed"
            )
        hits = np.empty((len(values), 3), np.int16)
        hits[:, 0] = pixel % n_x
        hits[:, 1] = pixel // n_x
        hits[:, 2] = values
        numbers = np.arange(n_before, n_before + len(images), dtype=np.int64)
        n_before += len(images)
        yield Events(hits, offsets_from_counts(counts), {}, {"event": numbers})
