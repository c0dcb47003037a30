"""Figures of a dataset: how many hits its events have, where, when, and how many hide one another."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.core.detector import Detector
from tofae_jax.core.distributions import Distributions, plane_groups, plane_shape
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Coordinate, Units, detector_frame
from tofae_jax.plots.occlusion import draw_occlusion, grouped

_MOST_BINS = 130
_MOST_TIMES = 250


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


def _plane(axes: Axes, plane: np.ndarray, n_places: int, n_t: int, coordinate: Coordinate, time: Coordinate) -> None:
    """Hits by one coordinate and time, darker where there are more."""
    of_places, of_times = plane_groups(n_places, n_t)
    first = 1 if of_times == 1 else 0  # bin 0 means no hit
    counts = plane[:, first:]
    axes.set_xlabel(time.label)
    axes.set_ylabel(coordinate.label)
    if not counts.any():
        look.empty_panel(axes, "no hits")
        return
    size = max(1, -(-counts.shape[1] // _MOST_TIMES))
    sums = np.stack([grouped(row, _MOST_TIMES)[0] for row in counts])
    times = np.minimum(np.arange(0, counts.shape[1] + size, size), counts.shape[1])[: sums.shape[1] + 1]
    times = np.clip(first + times * of_times, 1, n_t + 1)
    edges = coordinate.edges(np.minimum(np.arange(len(counts) + 1) * of_places, n_places))
    axes.pcolormesh(time.edges(times), edges, sums, cmap="magma_r", norm=PowerNorm(0.5, vmin=0), rasterized=True)
    axes.set_xlim(*time.limits)
    axes.set_ylim(*coordinate.limits)
    axes.xaxis.set_major_locator(time.ticks(7))


def _hits_per(axes: Axes, counts: np.ndarray, what: str) -> None:
    axes.set_xlabel(f"hits per {what}")
    present = np.flatnonzero(counts)
    if not len(present):
        look.empty_panel(axes, f"no {what}s")
        return
    low, high = int(present[0]), int(present[-1])
    sums, size = grouped(counts[low : high + 1], _MOST_BINS)
    axes.stairs(sums, low - 0.5 + size * np.arange(len(sums) + 1), fill=True, color=look.BARS)
    mean = float(np.average(np.arange(len(counts)), weights=counts))
    axes.axvline(mean, color=look.VERMILLION, linestyle="--", label=f"mean {mean:,.1f}")
    axes.set_ylim(0, 1.2 * sums.max())  # room for the legend
    axes.set_ylabel(f"{what}s" if size == 1 else f"{what}s per {size} hits")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.legend(loc="upper right")


def _checked(distributions: Distributions, detector: Detector) -> Distributions:
    n_x, n_y, n_t = detector.shape
    distributions = type(distributions)(*(np.asarray(part) for part in distributions))
    expected = {"x": (n_x,), "y": (n_y,), "t": (n_t + 1,), "xt": plane_shape(n_x, n_t), "yt": plane_shape(n_y, n_t)}
    for name, due in expected.items():
        shape = getattr(distributions, name).shape
        if shape != due and not (len(due) == 2 and shape == (0, 0)):
            raise ValueError(f"the histogram of {name} has shape {shape}, but the detector's has shape {due}")
    if distributions.occlusion.ndim != 2 or len(distributions.occlusion) != 2:
        raise ValueError(f"occlusion has shape {distributions.occlusion.shape}, expected (2, n)")
    return distributions


@look.style()
def dataset_distributions(
    distributions: Distributions,
    *,
    detector: Detector,
    row_angles_rad: tuple[float, float] | None = None,
    units: Units | str = "physical",
    title: str = "",
) -> Figure:
    """Hits per event, occluded hits against hits per event, histograms of x, y and time; and both places against time.

    Takes what `inspect_dataset` found. A hit is occluded if the pixel's image shows another one of the event; a dotted
    curve shows what hits spread uniformly would give. The lowest row is of signal alone where the hits' origin is
    known, with the hits per track where tracks are; it is missing where `xt` and `yt` are. Panels without entries say
    so. Optics that focus angles onto the rows give a second scale, from the first row's edge to the last row's:
    `row_angles_rad`. Raises `ValueError` where a histogram is not of the detector's size.
    """
    distributions, frame = _checked(distributions, detector), detector_frame(detector, units)
    n_rows = 3 if distributions.xt.size and distributions.yt.size else 2
    figure = look.new_figure(9.6, 2.8 * n_rows, name="distributions of the dataset", title=title)
    grid = figure.add_gridspec(n_rows, 6)
    _hits_per(figure.add_subplot(grid[0, :3]), distributions.hits_per_event, "event")
    draw_occlusion(figure.add_subplot(grid[0, 3:]), *distributions.occlusion, n_pixels=detector.n_x * detector.n_y)
    _histogram(figure.add_subplot(grid[1, :2]), distributions.x, frame.x, 0, "column")
    _histogram(figure.add_subplot(grid[1, 2:4]), distributions.y, frame.y, 0, "row")
    _histogram(figure.add_subplot(grid[1, 4:]), distributions.t[1:], frame.t, 1, "time bin")  # bin 0 means no hit
    if n_rows == 3:
        width = 2 if distributions.hits_per_track.size else 3
        _plane(figure.add_subplot(grid[2, :width]), distributions.xt, detector.n_x, detector.n_t, frame.x, frame.t)
        rows = figure.add_subplot(grid[2, width : 2 * width])
        _plane(rows, distributions.yt, detector.n_y, detector.n_t, frame.y, frame.t)
        if row_angles_rad is not None:
            angles = rows.twinx()
            angles.set_ylim(*row_angles_rad)
            angles.set_ylabel("θ$_z$ (rad)")
        if distributions.hits_per_track.size:
            _hits_per(figure.add_subplot(grid[2, 4:]), distributions.hits_per_track, "track")
    return figure
