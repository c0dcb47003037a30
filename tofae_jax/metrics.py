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

import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

SSIM_SIGMA_PIXELS = 1.5  # Wang et al. 2004
SSIM_RADIUS_PIXELS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
LEAST_POWER = 1e-10  # keeps decibels finite; an error of one bin in one of ten thousand pixels has as much
HALF_A_BIN = 0.5


class Confusion(NamedTuple):
    """Counts over hits or pixels."""

    n_true_positives: Any
    n_false_positives: Any
    n_false_negatives: Any
    n_noise: Any
    """noise that the input offered"""
    n_noise_left: Any
    """of it, what the output still has; the other false positives were made by the model"""


class ImageSums(NamedTuple):
    """Sums over events, of images in units of the full time range, t/T."""

    squared_error: Any
    """of each event's mean squared error over its pixels (a count of all pixels would overflow)"""
    absolute_error: Any
    """of each event's mean absolute error"""
    ssim: Any
    """of each event's mean SSIM"""
    psnr_db: Any
    power_snr_db: Any
    moments: Any
    """[5]: of each event's mean of y, t, y², t² and y t"""
    n_target_pixels: Any
    n_pixels_in_time: Any
    """of the target's lit pixels, those that the output lights in the same time bin"""


class OutputMetrics(NamedTuple):
    """All that is summed for one kind of output."""

    confusion: Confusion
    image: ImageSums


class EventCounts(NamedTuple):
    """True counts of the degraded events, summed."""

    n_events: Any
    n_pattern_hits: Any
    n_kept_hits: Any
    n_signal_hits: Any
    n_visible_signal_hits: Any
    n_noise_hits: Any
    n_occluded_hits: Any
    n_dropped_hits: Any
    """hits of patterns with more hits than slots, left out before anything else"""


class Metrics(NamedTuple):
    """Sums of one evaluation."""

    events: EventCounts
    loss: Any
    """sum over events of the loss of each"""
    input: OutputMetrics
    direct: OutputMetrics
    masked: OutputMetrics


def _count(flags: Bool[Array, "batch *rest"], is_event: Bool[Array, " batch"]) -> Real[Array, ""]:
    per_event = jnp.sum(flags, axis=tuple(range(1, flags.ndim)), dtype=jnp.int32)
    return jnp.sum(jnp.where(is_event, per_event, 0), dtype=jnp.int32)


def hit_confusion(
    kept: Bool[Array, "batch k"],
    is_signal: Bool[Array, "batch k"],
    is_hit: Bool[Array, "batch k"],
    is_event: Bool[Array, " batch"],
) -> Confusion:
    """Counts over hit lists: which hits an output keeps, against which are signal."""
    kept, signal, noise = kept & is_hit, is_signal & is_hit, is_hit & ~is_signal
    n_noise_left = _count(kept & noise, is_event)
    return Confusion(
        n_true_positives=_count(kept & signal, is_event),
        n_false_positives=n_noise_left,
        n_false_negatives=_count(signal & ~kept, is_event),
        n_noise=_count(noise, is_event),
        n_noise_left=n_noise_left,
    )


def pixel_confusion(
    lit: Bool[Array, "batch y x"],
    target: Bool[Array, "batch y x"],
    is_noise: Bool[Array, "batch y x"],
    is_event: Bool[Array, " batch"],
) -> Confusion:
    """Counts over pixels: which ones an output lights, against which the target lights.

    `is_noise` marks pixels whose hit in the input is noise. Those that the target does not light count as noise.
    """
    noise = is_noise & ~target
    return Confusion(
        n_true_positives=_count(lit & target, is_event),
        n_false_positives=_count(lit & ~target, is_event),
        n_false_negatives=_count(target & ~lit, is_event),
        n_noise=_count(noise, is_event),
        n_noise_left=_count(lit & noise, is_event),
    )


@cache
def _gaussian_window(n: int) -> np.ndarray:
    """Gaussian smoothing along an axis of length n, mirrored at its ends, as a matrix [n, n]."""
    reach = np.arange(-SSIM_RADIUS_PIXELS, SSIM_RADIUS_PIXELS + 1)
    weight = np.exp(-0.5 * (reach / SSIM_SIGMA_PIXELS) ** 2)
    weight /= weight.sum()
    period = max(2 * (n - 1), 1)
    source = (
        np.abs((np.arange(n)[:, None] + reach + n - 1) % period - (n - 1)) if n > 1 else np.zeros((1, len(reach)), int)
    )
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], source), weight)
    return matrix.astype(np.float32)


def ssim(
    prediction: Float[Array, "*batch y x"], target: Float[Array, "*batch y x"], *, data_range: float = 1.0
) -> Float[Array, "*batch"]:
    """Mean structural similarity of each image (Wang et al. 2004), in [-1, 1], in float32.

    Gaussian window of 11 pixels with sigma 1.5, population covariances, mean over the whole image with the edges
    mirrored. Two empty images give 1. (scikit-image leaves out a border of 5 pixels; its `full` map agrees inside.)
    """
    rows, columns = (jnp.asarray(_gaussian_window(n)) for n in target.shape[-2:])

    def smooth(image: Array) -> Array:
        # as two matrix products: the mirrored edges cost nothing, and every device is quick at it
        return jnp.einsum("ij,...jk,lk->...il", rows, image, columns, precision="highest")

    a, b = prediction.astype(jnp.float32), target.astype(jnp.float32)
    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a + b * b) - mean_a**2 - mean_b**2  # only their sum is needed
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return jnp.mean(luminance * structure, axis=(-2, -1))


def image_sums(
    prediction: Float[Array, "batch y x"],
    target: Float[Array, "batch y x"],
    is_event: Bool[Array, " batch"],
    *,
    n_t: int,
) -> ImageSums:
    """Sums over a batch of images in units of the full time range of `n_t` bins.

    Per event, with y the prediction, t the target and means over its pixels:

    - PSNR `10 log10(1 / mean (y - t)²)` dB: the peak is the full time range;
    - power SNR `10 log10(mean t² / mean (y - t)²)` dB.

    1e-10 is added to each of these means, so both stay finite: a perfect image has a PSNR of 100 dB, and two empty
    images a power SNR of 0 dB.
    """
    y, t = prediction.astype(jnp.float32), target.astype(jnp.float32)

    def mean(values: Array) -> Array:
        return jnp.mean(values, axis=(-2, -1))

    def total(per_event: Array) -> Array:
        return jnp.sum(jnp.where(is_event, per_event, 0))

    squared, power = mean(jnp.square(y - t)), mean(t * t)
    lit_in_both = (y > 0) & (t > 0)
    return ImageSums(
        squared_error=total(squared),
        absolute_error=total(mean(jnp.abs(y - t))),
        ssim=total(ssim(y, t)),
        psnr_db=total(-_decibel(squared + LEAST_POWER)),
        power_snr_db=total(_decibel((power + LEAST_POWER) / (squared + LEAST_POWER))),
        moments=jnp.stack([total(m) for m in (mean(y), mean(t), mean(y * y), power, mean(y * t))]),
        n_target_pixels=_count(t > 0, is_event),
        n_pixels_in_time=_count(lit_in_both & (jnp.abs(y - t) * n_t < HALF_A_BIN), is_event),
    )


def _decibel(ratio: Any) -> Any:
    return 10 * jnp.log10(ratio)


def merge(first: Any, second: Any) -> Any:
    """Sums of both; on the device or on the host."""
    return jax.tree.map(lambda a, b: a + b, first, second)


def to_host(metrics: Any) -> Any:
    """The same sums as NumPy int64 and float64 scalars, wide enough to merge any number of batches."""

    def widen(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        wide = leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)
        return wide[()]  # a scalar where it is one

    return jax.tree.map(widen, metrics)


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else 1.0


def compute_images(sums: ImageSums, n_events: int) -> dict[str, float | int]:
    """Errors, PSNR, power SNR and SSIM as means over events; correlation and times right over all pixels together.

    `correlation` (Pearson's) is 0 where one of the images is the same everywhere. `in_time_share` is the share of the
    target's lit pixels that the output lights in the same time bin; 1 where the target has none.
    """
    y, t, yy, tt, yt = (float(moment) / max(n_events, 1) for moment in np.asarray(sums.moments, np.float64))
    spread = math.sqrt(max(yy - y * y, 0.0) * max(tt - t * t, 0.0))
    means = {
        "mse": sums.squared_error,
        "mae": sums.absolute_error,
        "psnr_db": sums.psnr_db,
        "power_snr_db": sums.power_snr_db,
        "ssim": sums.ssim,
    }
    return {name: float(total) / max(n_events, 1) for name, total in means.items()} | {
        "correlation": (yt - y * t) / spread if spread > 0 else 0.0,
        "in_time": int(sums.n_pixels_in_time),
        "in_time_share": _share(sums.n_pixels_in_time, sums.n_target_pixels),
    }


def compute_confusion(counts: Confusion, n_events: int) -> dict[str, float | int]:
    """Efficiency, purity, F1, noise rejection, detection SNR, and the counts behind them as ints.

    The detection SNR is `10 log10((TP + ½) / (FP + ½))` dB: finite without false positives, and without true ones.
    """
    tp, fp, fn, noise, left = (int(count) for count in counts)
    return {
        "efficiency": _share(tp, tp + fn),
        "purity": _share(tp, tp + fp),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "noise_rejection": _share(noise - left, noise),
        "detection_snr_db": 10 * math.log10((tp + 0.5) / (fp + 0.5)),
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "false_positives_per_event": fp / max(n_events, 1),
        "false_negatives_per_event": fn / max(n_events, 1),
        "noise_left": left,
        "noise_made": fp - left,
    }


def compute(metrics: Metrics, *, direct_has_time: bool = True) -> dict[str, Any]:
    """Numbers for people, from merged sums.

    Returns `{"events", "loss", "counts", "input", "direct", "masked"}`; the last three hold efficiency, purity, F1,
    noise rejection and counts (`compute_confusion`) and what `compute_images` gives, in units of the full time range
    (`mse` in (t/T)²). Without events all of it is 0 or, for shares, 1.

    Args:
        metrics: sums of all batches.
        direct_has_time: False where the direct output is only lit or not: what compares times then is None.
    """
    n_events = int(metrics.events.n_events)
    result: dict[str, Any] = {
        "events": n_events,
        "loss": float(metrics.loss) / max(n_events, 1),
        "counts": {name.removeprefix("n_"): int(n) for name, n in metrics.events._asdict().items() if n is not None},
    }
    del result["counts"]["events"]
    for name in ("input", "direct", "masked"):
        output: OutputMetrics = getattr(metrics, name)
        images: dict[str, Any] = compute_images(output.image, n_events)
        if name == "direct" and not direct_has_time:
            images = dict.fromkeys(images)
        result[name] = compute_confusion(output.confusion, n_events) | images
    return result
