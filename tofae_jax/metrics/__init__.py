"""Denoising metrics as pytrees of sums and counts: sum over a batch on the device, `merge`, then `compute`.

A tree holds sums only, so merging is adding: counts are the same for any batch size, order and device count, other sums
up to rounding, and events marked as filling (ragged last batch) add nothing. `n` counts are integers. Merge a few
batches on the device and the rest on the host (`to_host`), where counts are Python-sized and sums are float64.

What counts as right:

- hits (input and masked output): a kept hit is a true positive where it is signal. Signal that was occluded or not
  kept is a false negative.
- pixels (direct output): a lit pixel is a true positive where the target is lit too.

Nothing to find means that nothing was lost (efficiency 1), nothing kept that nothing false was kept (purity 1), and
no noise that none was left over (noise rejection 1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from tofae_jax.metrics.counts import Confusion, EventCounts, compute_confusion, hit_confusion, pixel_confusion
from tofae_jax.metrics.images import ImageSums, compute_images, image_sums, pixel_sums, ssim_sum
from tofae_jax.metrics.information import normalised_mutual_information, time_cells
from tofae_jax.metrics.outputs import OutputSums, compute_outputs, output_sums
from tofae_jax.metrics.similarity import SSIM_RADIUS_PIXELS, ssim

__all__ = [
    "SSIM_RADIUS_PIXELS",
    "Confusion",
    "EventCounts",
    "ImageSums",
    "Metrics",
    "OutputMetrics",
    "OutputSums",
    "compute",
    "compute_confusion",
    "compute_images",
    "compute_outputs",
    "hit_confusion",
    "image_sums",
    "merge",
    "metric_names",
    "normalised_mutual_information",
    "output_sums",
    "pixel_confusion",
    "pixel_sums",
    "ssim",
    "ssim_sum",
    "time_cells",
    "to_host",
]

TIMELESS = ("true_positives_xy", "true_positive_xy_percent")  # of an image's metrics, those that read no times


class OutputMetrics(NamedTuple):
    """All that is summed for one kind of output."""

    confusion: Confusion
    image: ImageSums


class Metrics(NamedTuple):
    """Sums of one evaluation."""

    events: EventCounts
    loss: Any
    """sum over events of the loss of each"""
    outputs: OutputSums
    """raw outputs of the network"""
    input: OutputMetrics
    direct: OutputMetrics
    masked: OutputMetrics


def merge(first: Any, second: Any) -> Any:
    """Sums of both; on the device or on the host."""
    return jax.tree.map(lambda a, b: a + b, first, second)


def to_host(metrics: Any) -> Any:
    """The same sums as NumPy int64 and float64 values, wide enough to merge any number of batches."""

    def widen(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        wide = leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)
        return wide[()]  # a scalar where it is one

    return jax.tree.map(widen, metrics)


def metric_names() -> list[str]:
    """Dotted names of all numbers that `compute` gives, e.g. `masked.f1`."""
    image = ImageSums(0, 0, 0, 0, np.zeros(5), np.zeros(3), np.zeros((1, 1)), 0, 0, 0, 0, ssim=0.0)
    output = OutputMetrics(Confusion(*[0] * 5), image)
    untouched = output._replace(image=image._replace(ssim=None))
    nothing = Metrics(
        EventCounts(*[0] * 8), 0.0, OutputSums(np.zeros(1), 0, 0, 0), untouched, direct=output, masked=output
    )

    def names(tree: dict[str, Any], prefix: str) -> list[str]:
        found = []
        for key, value in tree.items():
            if isinstance(value, dict):
                found += names(value, f"{prefix}{key}.")
            elif isinstance(value, int | float):
                found.append(f"{prefix}{key}")
        return found

    return names(compute(nothing, threshold=0.0), "")


def compute(metrics: Metrics, *, threshold: float, direct_has_time: bool = True) -> dict[str, Any]:
    """Numbers for people, from merged sums.

    Returns `{"events", "loss", "counts", "outputs", "input", "direct", "masked"}`; `outputs` is `compute_outputs`, the
    last three hold efficiency, purity, F1, noise rejection and counts (`compute_confusion`) and what `compute_images`
    gives, in units of the full time range (`mse` in (t/T)²). The input has no SSIM. Without events all of it is 0 or,
    for shares and nmi, 1 (percentages: 100).

    Args:
        metrics: sums of all batches.
        threshold: of the network's outputs, for the record.
        direct_has_time: False where the direct output is only lit or not: what compares times then is None.
    """
    n_events = int(metrics.events.n_events)
    counts = metrics.events._asdict()
    del counts["n_events"]
    result: dict[str, Any] = {
        "events": n_events,
        "loss": float(metrics.loss) / max(n_events, 1),
        "counts": {name.removeprefix("n_"): int(n) for name, n in counts.items()},
        "outputs": compute_outputs(metrics.outputs, threshold),
    }
    for name in ("input", "direct", "masked"):
        output: OutputMetrics = getattr(metrics, name)
        images: dict[str, Any] = compute_images(output.image, n_events)
        if name == "direct" and not direct_has_time:
            images = {key: value if key in TIMELESS else None for key, value in images.items()}
        result[name] = compute_confusion(output.confusion, n_events) | images
    return result
