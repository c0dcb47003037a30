"""Hits that hide one another: how their share grows with the number of hits in an event."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look

_MOST_POINTS = 60


def grouped(counts: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Sums over groups of neighbours, so that at most `most` remain, and how many form a group; zeros fill the last."""
    size = max(1, -(-len(counts) // most))
    return np.pad(counts, (0, -len(counts) % size)).reshape(-1, size).sum(axis=1), size


def uniform_occlusion(n_hits: np.ndarray, *, n_pixels: int) -> np.ndarray:
    """Expected share of hits occluded where n of them lie uniformly over P pixels: `1 - P (1 - (1 - 1/P)^n) / n`.

    The hits that show are the lit pixels: each of the P is lit with the probability that not all n miss it. 0 for one
    hit; not defined for none.
    """
    missed = math.log1p(-1 / n_pixels) if n_pixels > 1 else -math.inf
    n_lit = -n_pixels * np.expm1(n_hits * missed)  # the power itself would lose the digits that matter
    return np.maximum(1 - n_lit / n_hits, 0)


def draw_occlusion(
    axes: Axes, n_events: np.ndarray, n_occluded: np.ndarray, squares: np.ndarray | None = None, *, n_pixels: int
) -> None:
    """Share of hits occluded against hits per event, with what is expected of hits spread uniformly.

    `n_events`, `n_occluded` and `squares` hold, for each number of hits (the index), how many events have it, how many
    of their hits are occluded, and the sum over events of that number squared; from these come the error bars. Where
    there are many numbers of hits, neighbours share a point: all their occluded hits over all their hits.
    """
    axes.set_xlabel("hits per event")
    if not n_events.any():
        look.empty_panel(axes, "no events")
        return
    hits = np.arange(len(n_events), dtype=np.float64)
    present = np.flatnonzero(n_events * hits)
    if not len(present):
        look.empty_panel(axes, "no hits")
        return
    low, high = int(present[0]), int(present[-1]) + 1
    events, totals, shared = (
        grouped(part[low:high], _MOST_POINTS)[0] for part in (n_events, n_events * hits, n_occluded)
    )
    filled = events > 0
    x, share = totals[filled] / events[filled], shared[filled] / totals[filled]
    axes.plot(x, 100 * share, "o-", color=look.BARS, linewidth=0.9, zorder=3, label="events")
    if squares is not None:
        products, hits_squared = n_occluded * hits, n_events * hits**2
        parts = (grouped(part[low:high], _MOST_POINTS)[0][filled] for part in (squares, products, hits_squared))
        error = _standard_error(events[filled], x, share, *parts)
        axes.errorbar(x, 100 * share, 100 * error, fmt="none", ecolor=look.BARS, elinewidth=0.9, capsize=2, zorder=3)
    _draw_references(axes, (low, high - 1), float(n_occluded.sum() / (n_events * hits).sum()), n_pixels)


def _standard_error(
    events: np.ndarray,
    mean_hits: np.ndarray,
    share: np.ndarray,
    squares: np.ndarray,
    products: np.ndarray,
    hits: np.ndarray,
) -> np.ndarray:
    """Of a share `r = Σo / Σh`: `sqrt(Σ(o - r h)² / (k (k - 1))) / mean h` over k events; NaN for a single one.

    Equal to the usual one of the mean of `o / h` where all events have the same number of hits.
    """
    residuals = np.maximum(squares - 2 * share * products + share**2 * hits, 0)
    degrees = np.where(events > 1, events * (events - 1), np.nan)
    return np.sqrt(residuals / degrees) / mean_hits


def _draw_references(axes: Axes, span: tuple[int, int], whole: float, n_pixels: int) -> None:
    if span[0] == span[1]:
        span = span[0], span[0] + 1
        axes.set_xlim(span[0] - 0.6, span[0] + 0.6)
    n = np.linspace(*span, 200)
    expected = {"color": look.BLACK, "linestyle": ":", "linewidth": 1.4, "label": "uniformly spread hits"}
    axes.plot(n, 100 * uniform_occlusion(n, n_pixels=n_pixels), **expected)
    axes.axhline(100 * whole, color=look.VERMILLION, linestyle="--", label=f"all hits {100 * whole:.2g} %")
    top = max(1.4 * axes.get_ylim()[1], 0.1)
    axes.set_ylim(-0.03 * top, top)  # room for points at 0 below, for the legend above
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_ylabel("occluded hits (%)")
    axes.grid(visible=True)
    axes.legend(loc="upper left")


def _checked(n_hits: np.ndarray, n_occluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arrays = {"n_hits": np.asarray(n_hits), "n_occluded": np.asarray(n_occluded)}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"{name} has shape {array.shape}, expected (n,): one number per event")
        if len(array) and array.dtype.kind not in "iu":
            raise ValueError(f"{name} has type {array.dtype}, expected integers")
        negative = np.flatnonzero(array < 0)
        if len(negative):
            raise ValueError(f"{name}: event {negative[0]} has {array[negative[0]]}, allowed is 0 or more")
    hits, occluded = (array.astype(np.int64) for array in arrays.values())
    if hits.shape != occluded.shape:
        raise ValueError(f"n_hits has shape {hits.shape}, but n_occluded has shape {occluded.shape}")
    wrong = np.flatnonzero(occluded > hits)
    if len(wrong):
        raise ValueError(f"event {wrong[0]} has {occluded[wrong[0]]} occluded hits, but only {hits[wrong[0]]} hits")
    return hits, occluded


@look.style()
def occlusion_by_hits(n_hits: np.ndarray, n_occluded: np.ndarray, *, detector: Detector, title: str = "") -> Figure:
    """Share of hits occluded against the number of hits in an event.

    Takes, for each event, how many hits it has and how many of them its image cannot show (hits less lit pixels), both
    int[n]. Each point is the mean of the events with that number of hits, with its standard error unless it is a single
    event's; where there are many such numbers, neighbours share a point: all their occluded hits over all their hits. A
    dotted curve shows what hits uniformly spread over the pixels would give (`uniform_occlusion`), a dashed line the
    share of all hits together. Events without hits have no share. No events, or none with hits, say so. Raises
    `ValueError` for shapes that do not match, for what are not integers, and naming the event that has a negative
    number or more hits occluded than hits.
    """
    hits, occluded = _checked(n_hits, n_occluded)
    figure = look.new_figure(6.2, 4.2, name="occlusion against hits", title=title)
    axes = figure.subplots()
    size = int(hits.max(initial=0)) + 1
    sums = (np.bincount(hits, weights, size) for weights in (None, occluded, occluded.astype(np.float64) ** 2))
    draw_occlusion(axes, *sums, n_pixels=detector.n_x * detector.n_y)
    return figure
