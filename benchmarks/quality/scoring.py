"""Numbers of an output: counts of single events, their pooled shares, and confidence intervals."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from tofae_jax.metrics import per_event_hit_confusion, per_event_images, per_event_pixel_confusion

from .events import EventSet

N_RESAMPLES = 1000
LEVEL = 0.95
OF_TIMES = ("ssim", "full_tof_accuracy")
"""qualities of images whose values are times"""
QUALITIES = ("efficiency", "purity", "f1", "noise_rejection", "ssim", "full_tof_accuracy")


class OfEach(NamedTuple):
    """Counts of single events, each [n]."""

    true_positives: Any
    false_positives: Any
    false_negatives: Any
    noise: Any
    """noise that the input offered"""
    noise_left: Any
    """of it, what the output still has"""
    target_pixels: Any
    pixels_in_time: Any
    """of those, the ones whose time bin the output gives exactly"""
    ssim: Any
    """mean structural similarity to the target image"""


class Estimate(NamedTuple):
    """A number with its confidence interval."""

    value: float
    low: float
    high: float


def of_kept(events: EventSet, kept: np.ndarray) -> OfEach:
    """Counts over hits of an output that keeps some of them, bool[n, k]; images are compared with the signal's."""
    confusion = _hit_confusion(kept, events.is_signal, events.filled)
    return _joined(confusion, events.image_of(kept & events.filled), events.signal_image, events)


def of_images(events: EventSet, images: np.ndarray, target: np.ndarray) -> OfEach:
    """Counts over pixels of an output that is an image in time bins, against what it was to give, both [n, y, x].

    Noise are the pixels whose hit is noise in the input and that the target does not light.
    """
    is_noise = (events.image > 0) & (events.image != events.signal_image)
    confusion = _pixel_confusion(images > 0, target > 0, is_noise)
    return _joined(confusion, images, target, events)


_hit_confusion = jax.jit(per_event_hit_confusion)
_pixel_confusion = jax.jit(per_event_pixel_confusion)


@partial(jax.jit, static_argnames="n_t")
def _compared(images: jax.Array, target: jax.Array, *, n_t: int) -> tuple[jax.Array, ...]:
    sums = per_event_images(images, target, n_t=n_t).sums
    return sums.n_target_pixels, sums.n_pixels_in_time, sums.ssim


def _joined(confusion: Any, images: np.ndarray, target: np.ndarray, events: EventSet) -> OfEach:
    compared = _compared(images, target, n_t=events.detector.n_t)
    return OfEach(*(np.asarray(leaf) for leaf in (*confusion, *compared)))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of a whole; 1 of nothing, as in the package's metrics."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def qualities(sums: OfEach, n_events: int) -> dict[str, np.ndarray]:
    """Shares of pooled counts, and the mean SSIM, from sums over `n_events` events; sums may have leading axes."""
    tp, fp, fn = sums.true_positives, sums.false_positives, sums.false_negatives
    return {
        "efficiency": _share(tp, tp + fn),
        "purity": _share(tp, tp + fp),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "noise_rejection": _share(sums.noise - sums.noise_left, sums.noise),
        "ssim": sums.ssim / n_events,
        "full_tof_accuracy": _share(sums.pixels_in_time, sums.target_pixels),
    }


def estimates(per_event: OfEach, *, seed: int = 0, n_resamples: int = N_RESAMPLES) -> dict[str, Estimate]:
    """The qualities of all events together, each with a 95 % interval: percentiles of a bootstrap over the events.

    Whole events are drawn, the same ones for all outputs of as many events, so that outputs can be compared. ValueError
    without events; of a single one the interval is the number itself.
    """
    columns = np.stack([np.asarray(column, np.float64) for column in per_event])
    n_events = columns.shape[1]
    if not n_events:
        raise ValueError("there are no events to take numbers of")
    drawn = np.random.default_rng(seed).multinomial(n_events, [1 / n_events] * n_events, size=n_resamples)
    outside = 50 * (1 - LEVEL)
    found = {}
    resampled = qualities(OfEach(*(columns @ drawn.T)), n_events)
    for name, value in qualities(OfEach(*columns.sum(axis=1)), n_events).items():
        low, high = np.percentile(resampled[name], [outside, 100 - outside])
        found[name] = Estimate(float(value), float(low), float(high))
    return found
