"""The figure of how the outputs of an event differ from what they should be, pixel by pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Frame, Units, detector_frame
from tofae_jax.plots.event_view import EventView, check_view, hit_image, is_lit, target_image
from tofae_jax.plots.stages import OUTCOMES, Stage, draw_hits, draw_legend, marker_points, pixel_stage

# Told apart by colour-blind readers: orange against purple, from ColorBrewer (Brewer, Harrower 2003)
_COLOURS = colormaps["PuOr_r"]
_OUTLINE = "#666666"  # their middle is nearly white
_INSIDE = 0.95  # of all differences: the few largest would leave no colours for the rest
_REACH = 3  # of the histogram, in multiples of what so many lie inside
_MOST_BINS = 41
_ROOM = 1.4  # above the highest bar, for the legend
_PANEL_INCHES = 3.5


class _Compared(NamedTuple):
    """An output and its target as the panels of a row need them."""

    stage: Stage
    target: str
    difference: np.ndarray
    """float[Y, X]: output - target on the time axis, NaN where one of the two is dark"""
    if_empty: str
    """why there is no difference"""

    @property
    def values(self) -> np.ndarray:
        """The differences of all recovered pixels."""
        return self.difference[np.isfinite(self.difference)]


def _compare(
    name: str, output: np.ndarray, target: np.ndarray, *, of: str, has_time: bool, frame: Frame, if_empty: str
) -> _Compared:
    common = is_lit(output) & (target > 0) & has_time
    shift = np.subtract(output, target, where=common, out=np.full(output.shape, np.nan), dtype=np.float64)
    stage = pixel_stage(name, output, target, if_empty=if_empty)
    return _Compared(stage, of, shift * frame.t.step, "no recovered pixels" if has_time else "no times")


def _rows(view: EventView, detector: Detector, frame: Frame) -> list[_Compared]:
    kept, smeared = hit_image(view.hits[view.kept], detector), hit_image(view.smeared, detector)
    target = target_image(view, detector)
    of = "pattern" if view.target == "pattern" else "smeared signal"
    direct = _compare(
        "direct", view.direct, target, of=of, has_time=view.has_time, frame=frame, if_empty="no lit pixels"
    )
    masked = _compare("masked", kept, smeared, of="smeared signal", has_time=True, frame=frame, if_empty="no hits")
    return [direct, masked]


def _usual(row: _Compared, frame: Frame) -> float:
    """Nearly all differences of a row lie within this on either side of 0; at least a time bin."""
    if not len(row.values):
        return frame.t.step
    return max(float(np.quantile(np.abs(row.values), _INSIDE, method="higher")), frame.t.step)


def _draw_differences(axes: Axes, row: _Compared, limit: float, frame: Frame, width_points: float) -> PathCollection:
    y, x = np.nonzero(np.isfinite(row.difference))
    drawn: dict[str, Any] = {"cmap": _COLOURS, "vmin": -limit, "vmax": limit, "clip_on": False, "zorder": 3}
    drawn |= {"marker": "s", "s": (1.3 * width_points) ** 2, "edgecolors": _OUTLINE, "linewidths": 0.4}
    if not len(row.values):
        look.annotate_empty(axes, row.if_empty)
    return axes.scatter(frame.x.centre(x), frame.y.centre(y), c=row.values, **drawn)


def _edges(values: np.ndarray, usual: float, step: float) -> np.ndarray:
    """Of a histogram: whole time bins, one around 0; whole differences would else pile up in some of the bars."""
    reach = max(min(_REACH * usual, float(np.abs(values).max())) / step, 1)
    width = int(np.ceil((2 * reach + 1) / _MOST_BINS))
    n_side = max(1, int(np.ceil(reach / width - 0.5)))
    return (np.arange(-n_side, n_side + 2) - 0.5) * width * step


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−") if value else "0"


def _draw_histogram(axes: Axes, row: _Compared, frame: Frame) -> None:
    values, unit = row.values, _difference_unit(frame)
    axes.set_xlabel(f"output − target ({unit})")
    if not len(values):
        look.empty_panel(axes, row.if_empty)
        return
    edges = _edges(values, _usual(row, frame), frame.t.step)
    middles = (edges[:-1] + edges[1:]) / 2
    counts, _ = np.histogram(np.clip(values, middles[0], middles[-1]), edges)
    n_beyond = int(np.sum((values < edges[0]) | (values > edges[-1])))
    axes.stairs(counts, edges, fill=True, color=look.BARS)
    mean, rms = float(values.mean()), float(np.sqrt(np.mean(values**2)))
    line = {"color": look.VERMILLION, "linestyle": "--", "linewidth": 1.2, "ymax": 1 / _ROOM}
    axes.axvline(mean, **line, label=f"mean {_signed(mean)} {unit}")
    axes.plot([], [], linestyle="", label=f"RMS {rms:.3g} {unit}")
    if n_beyond:
        axes.plot([], [], linestyle="", label=f"{n_beyond:,} beyond the edges")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, _ROOM * counts.max())
    axes.xaxis.set_major_locator(frame.t.ticks(7))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_ylabel("recovered pixels")
    axes.legend(loc="upper right")


def _difference_unit(frame: Frame) -> str:
    return "bins" if frame.t.is_whole else frame.t.unit


def _height(frame: Frame, detector: Detector) -> float:
    if frame.aspect == "auto":
        return 2.7
    return float(np.clip((_PANEL_INCHES - 0.6) * detector.n_y / detector.n_x, 1.6, 4.2))


@look.style()
def pixel_difference(
    view: EventView, *, detector: Detector, units: Units | str = "physical", title: str = ""
) -> Figure:
    """How the outputs differ from what they should be, pixel by pixel: direct above, masked beneath.

    The direct output is compared with the image of its target, the masked one (the image of all kept hits) with the
    image of the smeared signal; where hits share a pixel, the latest counts in every image. From left to right: which
    pixels are recovered, false, missed; output − target in time at the recovered ones, as a map and as a histogram, in
    ns or time bins. Both maps have the same colours, up to what 95 % of a row's differences stay within, with arrows on
    the bar if some lie beyond; a histogram has those far beyond in its outermost bars and counts them. Mean and RMS
    (root of the mean square of the differences themselves) are those of all recovered pixels.

    A direct output without times says "no times"; no pixel in common says so; pixels that are not finite are dark.
    Raises `ValueError` as `check_view` does.
    """
    view, frame = check_view(view, detector), detector_frame(detector, units)
    rows, height = _rows(view, detector, frame), _height(frame, detector)
    limit = max(_usual(row, frame) for row in rows)
    points = marker_points(_PANEL_INCHES - 0.6, detector.n_x)
    figure = look.new_figure(3 * _PANEL_INCHES + 0.6, 2 * height + 1.7, name="pixel differences", title=title)
    panels = figure.subplots(2, 3)
    maps = []
    for (outcomes, times, histogram), row in zip(panels, rows, strict=True):
        difference = f"{row.stage.name} − {row.target}"
        outcomes.set_title(row.stage.heading(_PANEL_INCHES))
        draw_hits(outcomes, row.stage, "x", "y", frame, points)
        times.set_title(f"{difference}\nat recovered pixels")
        maps.append(_draw_differences(times, row, limit, frame, points))
        for axes in (outcomes, times):
            frame.show(axes, "x", "y")
            axes.set_aspect(frame.aspect)
            axes.set_xlabel(frame.x.label)
            axes.set_ylabel(frame.y.label)
        histogram.set_title(difference)
        _draw_histogram(histogram, row, frame)
    values = np.concatenate([row.values for row in rows])
    if len(values):
        extend = "both" if np.abs(values).max() > limit else "neither"
        shape: dict[str, Any] = {"location": "bottom", "aspect": 30, "fraction": 0.04, "pad": 0.02}
        bar = figure.colorbar(
            maps[0], ax=panels[:, 1], extend=extend, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]), **shape
        )
        bar.set_label(f"output − target ({_difference_unit(frame)})")
    draw_legend(figure, OUTCOMES)
    return figure
