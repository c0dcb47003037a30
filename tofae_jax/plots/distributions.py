"""Figures of a dataset: how many hits its events have, where, when, and how many hide one another."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.datasets.integrity import Distributions
from tofae_jax.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.frame import Coordinate, Units, detector_frame
from tofae_jax.plots.occlusion import draw_occlusion, grouped

_MOST_BINS = 130


def _histogram(axes: Axes, counts: np.ndarray, coordinate: Coordinate, first: int, bin_name: str) -> None:
    """Hits per column, row or time bin; neighbours that are too narrow to see are averaged."""
    axes.set_xlabel(coordinate.label)
    if not counts.any():
        look.empty_panel(axes, "no hits")
        return
    sums, size = grouped(counts, _MOST_BINS)
    starts = np.append(np.arange(0, len(counts), size), len(counts))  # the last group may be smaller
    axes.stairs(sums / np.diff(starts), coordinate.edges(first + starts), fill=True, color=look.BARS)
    axes.set_xlim(*coordinate.limits)
    axes.xaxis.set_major_locator(coordinate.ticks(7))
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"hits per {bin_name}" + (f"\n(mean of {size})" if size > 1 else ""))


def _hits_per_event(axes: Axes, counts: np.ndarray) -> None:
    axes.set_xlabel("hits per event")
    present = np.flatnonzero(counts)
    if not len(present):
        look.empty_panel(axes, "no events")
        return
    low, high = int(present[0]), int(present[-1])
    sums, size = grouped(counts[low : high + 1], _MOST_BINS)
    axes.stairs(sums, low - 0.5 + size * np.arange(len(sums) + 1), fill=True, color=look.BARS)
    mean = float(np.average(np.arange(len(counts)), weights=counts))
    axes.axvline(mean, color=look.VERMILLION, linestyle="--", label=f"mean {mean:,.1f}")
    axes.set_ylim(0, 1.2 * sums.max())  # room for the legend
    axes.set_ylabel("events" if size == 1 else f"events per {size} hits")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper right")


def _checked(distributions: Distributions, detector: Detector) -> Distributions:
    n_x, n_y, n_t = detector.shape
    distributions = type(distributions)(*(np.asarray(part) for part in distributions))
    for name, size in {"x": n_x, "y": n_y, "t": n_t + 1}.items():
        shape = getattr(distributions, name).shape
        if shape != (size,):
            raise ValueError(f"the histogram of {name} has shape {shape}, but the detector's has shape {(size,)}")
    if distributions.occlusion.ndim != 2 or len(distributions.occlusion) != 2:
        raise ValueError(f"occlusion has shape {distributions.occlusion.shape}, expected (2, n)")
    return distributions


@look.style()
def dataset_distributions(
    distributions: Distributions, *, detector: Detector, units: Units | str = "physical", title: str = ""
) -> Figure:
    """Hits per event, occluded hits against hits per event, and histograms of x, y and time.

    Takes what `inspect_dataset` found. A hit is occluded if the pixel's image shows another one of the event; a dotted
    curve shows what hits spread uniformly would give. Panels without entries say so. Raises `ValueError` where a
    histogram is not of the detector's length.
    """
    distributions, frame = _checked(distributions, detector), detector_frame(detector, units)
    figure = look.new_figure(9.6, 5.6, name="distributions of the dataset", title=title)
    grid = figure.add_gridspec(2, 6)
    _hits_per_event(figure.add_subplot(grid[0, :3]), distributions.hits_per_event)
    draw_occlusion(figure.add_subplot(grid[0, 3:]), *distributions.occlusion, n_pixels=detector.n_x * detector.n_y)
    _histogram(figure.add_subplot(grid[1, :2]), distributions.x, frame.x, 0, "column")
    _histogram(figure.add_subplot(grid[1, 2:4]), distributions.y, frame.y, 0, "row")
    _histogram(figure.add_subplot(grid[1, 4:]), distributions.t[1:], frame.t, 1, "time bin")  # bin 0 means no hit
    return figure
