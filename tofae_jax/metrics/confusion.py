"""Counts of events, hits and pixels: what an output found, missed and made up."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Real

from tofae_jax.core.chunking import by_events

_EVENTS_AT_A_TIME = 5


class Confusion(NamedTuple):
    """Counts over hits or pixels."""

    n_true_positives: Any
    n_false_positives: Any
    n_false_negatives: Any
    n_noise: Any
    """noise that the input offered"""
    n_noise_left: Any
    """of it, what the output still has; the other false positives were made by the model"""


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


def event_sum(per_event: Any, is_event: Bool[Array, " batch"]) -> Any:
    """Sums over the events that are not filling, of every leaf `[batch, …]`; flags and counts become int32."""

    def summed(leaf: Array) -> Array:
        whole = not jnp.issubdtype(leaf.dtype, jnp.floating)
        marked = jnp.where(is_event.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0)
        return jnp.sum(marked, axis=0, dtype=jnp.int32 if whole else leaf.dtype)

    return jax.tree.map(summed, per_event)


def count_each(*flags: Bool[Array, "batch *rest"]) -> list[Real[Array, " batch"]]:
    """Of each of the flags, how many are set in each event, int32."""

    def of_event(*flags: Array) -> tuple[Array, ...]:
        ones = jnp.ones(flags[0].size, jnp.float32)  # exact up to 2**24 pixels, and quicker than a reduction
        return tuple(jnp.dot(flag.reshape(-1).astype(jnp.float32), ones, precision="highest") for flag in flags)

    return [n.astype(jnp.int32) for n in by_events(of_event, *flags, at_a_time=_EVENTS_AT_A_TIME)]


def per_event_hit_confusion(
    kept: Bool[Array, "batch k"], is_signal: Bool[Array, "batch k"], is_hit: Bool[Array, "batch k"]
) -> Confusion:
    """Counts over the hit list of each event, `[batch]`: which hits an output keeps, against which are signal."""
    kept, signal, noise = kept & is_hit, is_signal & is_hit, is_hit & ~is_signal
    n_right, n_left, n_lost, n_noise = count_each(kept & signal, kept & noise, signal & ~kept, noise)
    return Confusion(n_right, n_left, n_lost, n_noise, n_left)


def hit_confusion(
    kept: Bool[Array, "batch k"],
    is_signal: Bool[Array, "batch k"],
    is_hit: Bool[Array, "batch k"],
    is_event: Bool[Array, " batch"] | None = None,
) -> Confusion:
    """Count the hits of a batch that are kept, against those that are signal.

    A kept hit is a true positive where it is signal; signal that is not kept is a false negative.

    Args:
        kept: bool[batch, k], hits that an output keeps.
        is_signal: bool[batch, k], hits that are signal.
        is_hit: bool[batch, k], False in empty slots, which take no part.
        is_event: bool[batch], False for filling, which adds nothing; None: all are events.

    Returns:
        Counts, int32 each, for `compute_confusion` and `merge`.
    """
    return event_sum(per_event_hit_confusion(kept, is_signal, is_hit), _events(kept, is_event))


def _events(flags: Array, is_event: Array | None) -> Array:
    return jnp.ones(len(flags), bool) if is_event is None else is_event


def per_event_pixel_confusion(
    lit: Bool[Array, "batch y x"], target: Bool[Array, "batch y x"], is_noise: Bool[Array, "batch y x"]
) -> Confusion:
    """Counts over the pixels of each event, `[batch]`: which ones an output lights, against which the target lights.

    `is_noise` marks pixels whose hit in the input is noise. Those that the target does not light count as noise.
    """
    noise = is_noise & ~target
    n_lit, n_target, n_both, n_noise, n_left = count_each(lit, target, lit & target, noise, noise & lit)
    return Confusion(
        n_true_positives=n_both,
        n_false_positives=n_lit - n_both,
        n_false_negatives=n_target - n_both,
        n_noise=n_noise,
        n_noise_left=n_left,
    )


def pixel_confusion(
    lit: Bool[Array, "batch y x"],
    target: Bool[Array, "batch y x"],
    is_noise: Bool[Array, "batch y x"],
    is_event: Bool[Array, " batch"] | None = None,
) -> Confusion:
    """Count the pixels of a batch that an output lights, against those that the target lights.

    Args:
        lit: bool[batch, y, x], pixels that an output lights.
        target: bool[batch, y, x], pixels that the target lights.
        is_noise: bool[batch, y, x], pixels whose hit in the input is noise; those that the target lights do not count.
        is_event: bool[batch], False for filling, which adds nothing; None: all are events.

    Returns:
        Counts, int32 each, for `compute_confusion` and `merge`.
    """
    return event_sum(per_event_pixel_confusion(lit, target, is_noise), _events(lit, is_event))


def fraction(part: Any, whole: Any) -> float:
    """Part of a whole; 1 of nothing, as nothing was left undone."""
    return float(part) / float(whole) if whole else 1.0


def compute_confusion(counts: Confusion, n_events: int) -> dict[str, float | int]:
    """Efficiency, purity, F1, noise rejection, detection SNR, and the counts behind them as ints.

    The detection SNR is `10 log10((TP + ½) / (FP + ½))` dB: finite without false positives, and without true ones.
    """
    tp, fp, fn, noise, left = (int(count) for count in counts)
    return {
        "efficiency": fraction(tp, tp + fn),
        "purity": fraction(tp, tp + fp),
        "f1": fraction(2 * tp, 2 * tp + fp + fn),
        "noise_rejection": fraction(noise - left, noise),
        "detection_snr_db": 10 * math.log10((tp + 0.5) / (fp + 0.5)),
        "true_positives": tp,
        "false_positives": fp,
        "false_negatives": fn,
        "false_positives_per_event": fp / max(n_events, 1),
        "false_negatives_per_event": fn / max(n_events, 1),
        "noise_left": left,
        "noise_made": fp - left,
    }
