"""The figure with a panel for every stage of an event."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Frame, Units, detector_frame
from tofae_jax.plots.event_view import EventView, check_view, is_lit
from tofae_jax.plots.stages import HITS, draw_hits, draw_legend, event_stages, marker_points


def _draw_times(axes: Axes, direct: np.ndarray, frame: Frame) -> AxesImage:
    """The direct output as an image coloured by time; at least one pixel is lit."""
    times = np.ma.masked_array(frame.t.centre(direct), ~is_lit(direct))
    first, last = float(times.min()), float(times.max())
    if first == last:
        first, last = first - frame.t.step / 2, last + frame.t.step / 2
    colours: dict[str, Any] = {"cmap": look.TIME_COLOURS, "vmin": first, "vmax": last}
    return axes.imshow(
        times, extent=frame.extent, origin="upper", interpolation="nearest", aspect=frame.aspect, **colours
    )


def _panel_inches(frame: Frame, detector: Detector) -> tuple[float, float]:
    if frame.aspect == "auto":
        return 3.3, 2.6
    height = 4.0 if detector.n_y >= detector.n_x else 2.7
    return float(np.clip(height * detector.n_x / detector.n_y, 2.85, 3.6)), height


@look.style()
def stage_panels(view: EventView, *, detector: Detector, units: Units | str = "physical", title: str = "") -> Figure:
    """The event at each stage: pattern, sparse, smeared, noised, direct, masked; y downward like the image.

    Signal is red and noise grey. Titles count the hits of a panel; those of the outputs tell them apart by the truth:
    recovered signal, false positives, missed signal. The direct output counts pixels, against those of its target, and
    the masked one the hits of the noised event. The direct output is an image coloured by time. Where it has no times
    or no lit pixel, its panel is drawn like the masked one: recovered red, a false positive a black cross, missed
    signal a hollow circle. A panel without hits says so. Pixels that are not finite are dark. Raises `ValueError` for
    mismatched shapes and for hits outside the detector, see `check_view`.
    """
    view, frame = check_view(view, detector), detector_frame(detector, units)
    width, height = _panel_inches(frame, detector)
    figure = look.new_figure(3 * width + 0.5, 2 * height + 1.6, name="stage panels", title=title)
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    points = marker_points(width - 0.4, detector.n_x)
    has_image = view.has_time and bool(is_lit(view.direct).any())
    for axes, stage in zip(panels.flat, event_stages(view, detector), strict=True):
        axes.set_aspect(frame.aspect)
        axes.set_title(stage.heading(width))
        if stage.name != "direct" or not has_image:
            draw_hits(axes, stage, "x", "y", frame, points)
            continue
        image = _draw_times(axes, view.direct, frame)
        place: dict[str, Any] = {"location": "bottom", "pad": 0.04, "fraction": 0.06, "aspect": 30, "panchor": False}
        bar = figure.colorbar(image, ax=axes, ticks=frame.t.ticks(6), **place)
        bar.ax.ticklabel_format(axis="x", useOffset=False)
        bar.set_label(f"direct output: {frame.t.label}")
    frame.show(panels[0, 0], "x", "y")
    for axes in panels[-1]:
        axes.set_xlabel(frame.x.label)
    for axes in panels[:, 0]:
        axes.set_ylabel(frame.y.label)
    draw_legend(figure, HITS)
    return figure
