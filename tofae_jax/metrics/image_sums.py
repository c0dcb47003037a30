"""Sums that compare an output's image with its target, pixel by pixel."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tofae_jax.core.chunking import by_events
from tofae_jax.core.precision import at_least_float32
from tofae_jax.core.types import Number
from tofae_jax.metrics.confusion import event_sum, fraction
from tofae_jax.metrics.mutual_information import joint_histogram, normalised_mutual_information, time_cells
from tofae_jax.metrics.ssim import ssim

LEAST_POWER = 1e-10  # keeps decibels finite; an error of one bin in one of ten thousand pixels has as much
HALF_A_BIN = 0.5
_EVENTS_AT_A_TIME = 5
_SUMMED_APART = 128
DEFAULT_TOLERANCE_BINS = 10.0


class ImageSums(NamedTuple):
    """Sums over events, of images in units of the full time range, t/T; of single events each leaf is `[batch, …]`."""

    squared_error: Any
    """of each event's mean squared error over its pixels (a count of all pixels would overflow)"""
    absolute_error: Any
    """of each event's mean absolute error"""
    psnr_db: Any
    power_snr_db: Any
    means: Any
    """[5]: of the events' means ȳ and t̄, and of ȳ², t̄² and ȳ t̄"""
    spreads: Any
    """[3]: of the means of (y - ȳ)², (t - t̄)² and (y - ȳ)(t - t̄) over each event's pixels"""
    n_target_pixels: Any
    n_pixels_right: Any
    """of the target's lit pixels, those that the output lights"""
    n_pixels_in_time: Any
    """of those, the ones with the same time bin"""
    n_pixels_near_in_time: Any
    """of those, the ones whose time differs by at most the tolerance"""
    ssim: Any = None
    """of each event's mean SSIM; None: not asked for"""
    joint: Any = None
    """[100, 100]: pixels by the time of y and of t; None of single events, as it would be larger than they"""


def _decibel(ratio: Any) -> Any:
    return 10 * jnp.log10(ratio)


class PerEventImage(NamedTuple):
    """What `ImageSums` are made of."""

    sums: ImageSums
    """of single events, without `joint`"""
    cells: Array
    """[batch, n]: of each pixel, in the joint histogram; -1 where it is counted as unlit in both"""


def per_event_pixels(
    prediction: Float[Array, "batch n"],
    target: Float[Array, "batch n"],
    *,
    n_t: int,
    n_pixels: int,
    counts: Bool[Array, "batch n"] | None = None,
    tolerance_bins: Number = DEFAULT_TOLERANCE_BINS,
) -> PerEventImage:
    """Images of single events compared without SSIM, from those pixels alone that either may light.

    So two sparse images are compared by a few hundred values instead of all their pixels.

    Args:
        prediction: time bins, 0 where unlit.
        target: time bins at the same pixels.
        n_t: time bins of the detector.
        n_pixels: pixels of an image; the ones left out are unlit in both.
        counts: which of the values are pixels of their own; None: all. Their places may hold anything.
        tolerance_bins: the largest difference that counts as near in time.
    """
    y, t = (
        at_least_float32(values) if counts is None else jnp.where(counts, at_least_float32(values), 0)
        for values in (prediction, target)
    )
    of_event = partial(_pixel_totals, n_t=n_t, n_pixels=n_pixels)
    tolerances = jnp.broadcast_to(jnp.asarray(tolerance_bins, y.dtype), y.shape[:1])
    totals = by_events(of_event, y, t, tolerances, at_a_time=_EVENTS_AT_A_TIME)
    mean = {name: values / n_pixels for name, values in totals.sums.items()}
    number = {name: totals.sums[name].astype(jnp.int32) for name in ("target", "right", "in_time", "near")}
    squared, power, y_mean, t_mean = (mean[name] for name in ("squared_error", "tt", "y", "t"))
    sums = ImageSums(
        squared_error=squared,
        absolute_error=mean["absolute_error"],
        psnr_db=-_decibel(squared + LEAST_POWER),
        power_snr_db=_decibel((power + LEAST_POWER) / (squared + LEAST_POWER)),
        means=jnp.stack([y_mean, t_mean, y_mean**2, t_mean**2, y_mean * t_mean], axis=-1),
        spreads=jnp.stack([mean[name] for name in ("y_spread", "t_spread", "both_spread")], axis=-1),
        n_target_pixels=number["target"],
        n_pixels_right=number["right"],
        n_pixels_in_time=number["in_time"],
        n_pixels_near_in_time=number["near"],
    )
    return PerEventImage(sums, totals.cell)


def joint_times(cells: Array, is_event: Bool[Array, " batch"], *, n_pixels: int) -> Array:
    """`ImageSums.joint` of a batch, from the cells of its images of `n_pixels` pixels."""
    joint = joint_histogram(cells, is_event)
    n_unlit = n_pixels * jnp.sum(is_event, dtype=jnp.int32) - jnp.sum(joint, dtype=jnp.int32)
    return joint.at[0, 0].add(n_unlit)  # they are most of all; counted one by one they would wait for each other


def pixel_sums(
    prediction: Float[Array, "batch n"],
    target: Float[Array, "batch n"],
    is_event: Bool[Array, " batch"],
    *,
    n_t: int,
    n_pixels: int,
    counts: Bool[Array, "batch n"] | None = None,
    tolerance_bins: Number = DEFAULT_TOLERANCE_BINS,
) -> ImageSums:
    """The sums over a batch of `per_event_pixels`, with the joint histogram."""
    each = per_event_pixels(
        prediction, target, n_t=n_t, n_pixels=n_pixels, counts=counts, tolerance_bins=tolerance_bins
    )
    return event_sum(each.sums, is_event)._replace(joint=joint_times(each.cells, is_event, n_pixels=n_pixels))


class _PixelTotals(NamedTuple):
    sums: dict[str, Array]
    """over the pixels of an event, of times in units of the full range, and of flags"""
    cell: Array
    """of each pixel, in the joint histogram"""


def _pixel_totals(
    y: Float[Array, " n"], t: Float[Array, " n"], tolerance: Float[Array, ""], *, n_t: int, n_pixels: int
) -> _PixelTotals:
    """Times in bins, of one event."""
    late, right = jnp.abs(y - t), (y > 0) & (t > 0)
    a, b, error = y / n_t, t / n_t, late / n_t
    n_parts = math.gcd(len(y), _SUMMED_APART)
    ones = jnp.ones(len(y) // n_parts, y.dtype)

    def total(term: Array) -> Array:
        # products with ones: on a CPU several times quicker than a reduction; in parts: rounding adds up less
        return jnp.sum(jnp.dot(term.astype(y.dtype).reshape(n_parts, len(ones)), ones, precision="highest"))

    a_total, b_total = total(a), total(b)
    # about their means: the difference of two large sums would be noise for images that are nearly flat
    a_mean, b_mean = a_total / n_pixels, b_total / n_pixels
    unlit = n_pixels - len(y)  # pixels that are not among the given ones
    terms = {
        "tt": b * b,
        "absolute_error": error,
        "squared_error": error * error,
        "target": t > 0,
        "right": right,
        "in_time": right & (late < HALF_A_BIN),
        "near": right & (late <= tolerance),
    }
    sums = {name: total(term) for name, term in terms.items()} | {
        "y": a_total,
        "t": b_total,
        "y_spread": total((a - a_mean) ** 2) + unlit * a_mean**2,
        "t_spread": total((b - b_mean) ** 2) + unlit * b_mean**2,
        "both_spread": total((a - a_mean) * (b - b_mean)) + unlit * a_mean * b_mean,
    }
    return _PixelTotals(sums, time_cells(y, t, (y > 0) | (t > 0), n_t=n_t))


def per_event_images(
    prediction: Float[Array, "batch y x"],
    target: Float[Array, "batch y x"],
    *,
    n_t: int,
    tolerance_bins: Number = DEFAULT_TOLERANCE_BINS,
) -> PerEventImage:
    """Images of single events in time bins compared, of a detector with `n_t` of them.

    With y the prediction and t the target in units of the full range, and means over the pixels of an event:

    - PSNR `10 log10(1 / mean (y - t)²)` dB: the peak is the full time range;
    - power SNR `10 log10(mean t² / mean (y - t)²)` dB.

    1e-10 is added to each of these means, so both stay finite: a perfect image has a PSNR of 100 dB, and two empty
    images a power SNR of 0 dB.
    """
    n_y, n_x = target.shape[1:]
    y, t = (image.reshape(-1, n_y * n_x) for image in (prediction, target))
    each = per_event_pixels(y, t, n_t=n_t, n_pixels=n_y * n_x, tolerance_bins=tolerance_bins)
    return each._replace(sums=each.sums._replace(ssim=per_event_ssim(prediction, target, n_t=n_t)))


def image_sums(
    prediction: Float[Array, "batch y x"],
    target: Float[Array, "batch y x"],
    is_event: Bool[Array, " batch"],
    *,
    n_t: int,
    tolerance_bins: Number = DEFAULT_TOLERANCE_BINS,
) -> ImageSums:
    """The sums over a batch of `per_event_images`, with the joint histogram."""
    each = per_event_images(prediction, target, n_t=n_t, tolerance_bins=tolerance_bins)
    n_pixels = target.shape[1] * target.shape[2]
    return event_sum(each.sums, is_event)._replace(joint=joint_times(each.cells, is_event, n_pixels=n_pixels))


def per_event_ssim(
    prediction: Float[Array, "batch y x"], target: Float[Array, "batch y x"], *, n_t: int
) -> Float[Array, " batch"]:
    """SSIM of images in time bins, whose range is `n_t`."""
    return ssim(at_least_float32(prediction) / n_t, at_least_float32(target) / n_t)


def _correlation(sums: ImageSums, n_events: int) -> float:
    """Pearson's correlation over the pixels of all events, from what varies within events and from event to event."""
    y, t, yy, tt, yt = np.asarray(sums.means, np.float64) / max(n_events, 1)
    y_within, t_within, both_within = np.asarray(sums.spreads, np.float64) / max(n_events, 1)
    # less than rounding can make is nothing
    within = [value if value > 1e-10 * power else 0.0 for value, power in ((y_within, yy), (t_within, tt))]
    between = [value - mean**2 if value - mean**2 > 1e-6 * value else 0.0 for value, mean in ((yy, y), (tt, t))]
    y_spread, t_spread = (a + b for a, b in zip(within, between, strict=True))
    if y_spread <= 0 or t_spread <= 0:
        return 0.0
    both = (both_within if all(within) else 0.0) + (yt - y * t if all(between) else 0.0)
    return float(np.clip(both / math.sqrt(y_spread * t_spread), -1, 1))


def compute_images(sums: ImageSums, n_events: int) -> dict[str, float | int]:
    """Errors, PSNR, power SNR and SSIM as means over events; all else over all pixels together.

    - `nmi`: normalised mutual information of the times in 100 bins, less 1 (`normalised_mutual_information`), where the
      sums hold the joint histogram;
    - `correlation`: Pearson's; 0 where one of the images is the same everywhere;
    - `true_positive_xy_percent`: of the target's lit pixels, those that the output lights; `..._tof_percent`: in the
      same time bin; `..._tof_near_percent`: within the tolerance. 100 where the target lights none.
    """
    means = {
        "mse": sums.squared_error,
        "mae": sums.absolute_error,
        "psnr_db": sums.psnr_db,
        "power_snr_db": sums.power_snr_db,
    } | ({} if sums.ssim is None else {"ssim": sums.ssim})
    result: dict[str, float | int] = {name: float(total) / max(n_events, 1) for name, total in means.items()}
    if sums.joint is not None:
        result["nmi"] = normalised_mutual_information(sums.joint)
    result["correlation"] = _correlation(sums, n_events)
    right = {"xy": sums.n_pixels_right, "tof": sums.n_pixels_in_time, "tof_near": sums.n_pixels_near_in_time}
    for name, n in right.items():
        result[f"true_positives_{name}"] = int(n)
        result[f"true_positive_{name}_percent"] = 100 * fraction(n, sums.n_target_pixels)
    return result
