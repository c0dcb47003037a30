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

from tofae_jax.metrics.aggregate import (
    Metrics,
    OutputMetrics,
    batch_metrics,
    compute,
    merge,
    metric_names,
    to_host,
    update,
)
from tofae_jax.metrics.bootstrap import intervals
from tofae_jax.metrics.confusion import (
    Confusion,
    EventCounts,
    compute_confusion,
    hit_confusion,
    per_event_hit_confusion,
    per_event_pixel_confusion,
    pixel_confusion,
)
from tofae_jax.metrics.hit_scores import (
    Aim,
    OperatingPoint,
    Reliability,
    ScoreSums,
    choose_operating_point,
    kept_counts,
    reliability,
    score_edges,
    score_sums,
)
from tofae_jax.metrics.image_sums import (
    ImageSums,
    PerEventImage,
    compute_images,
    image_sums,
    per_event_images,
    per_event_pixels,
    per_event_ssim,
    pixel_sums,
)
from tofae_jax.metrics.mutual_information import normalised_mutual_information, time_cells
from tofae_jax.metrics.output_histogram import OutputSums, compute_outputs, output_sums
from tofae_jax.metrics.ssim import SSIM_RADIUS_PIXELS, ssim

__all__ = [
    "SSIM_RADIUS_PIXELS",
    "Aim",
    "Confusion",
    "EventCounts",
    "ImageSums",
    "Metrics",
    "OperatingPoint",
    "OutputMetrics",
    "OutputSums",
    "PerEventImage",
    "Reliability",
    "ScoreSums",
    "batch_metrics",
    "choose_operating_point",
    "compute",
    "compute_confusion",
    "compute_images",
    "compute_outputs",
    "hit_confusion",
    "image_sums",
    "intervals",
    "kept_counts",
    "merge",
    "metric_names",
    "normalised_mutual_information",
    "output_sums",
    "per_event_hit_confusion",
    "per_event_images",
    "per_event_pixel_confusion",
    "per_event_pixels",
    "per_event_ssim",
    "pixel_confusion",
    "pixel_sums",
    "reliability",
    "score_edges",
    "score_sums",
    "ssim",
    "time_cells",
    "to_host",
    "update",
]
