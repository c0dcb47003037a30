"""The bands that the photons of a track form on a TORCH module: direct, and reflected by the mirror."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Units, detector_frame

_KINDS = (("direct", False, look.BLUE), ("reflected by the mirror", True, look.VERMILLION))
_MARKER = 1.6


@look.style()
def photon_bands(
    hits: Any,
    is_reflected: Any,
    *,
    detector: Detector,
    row_angles_rad: tuple[float, float] | None = None,
    units: Units | str = "physical",
    title: str = "",
) -> Figure:
    """A track's photons in x and row, in x and time, and in row and time, by the way that they took.

    Args:
        hits: int[n, 3]: x, y, t.
        is_reflected: bool[n]: came by the mirror.
        detector: shape and scale.
        row_angles_rad: angles at the first row's and the last row's edge, for a second scale.
        units: of the axes.
        title: of the figure.

    Panels without hits say so. Raises `ValueError` where the arrays do not match.
    """
    hits, is_reflected = np.asarray(hits), np.asarray(is_reflected, bool)
    if hits.ndim != 2 or hits.shape[1] != 3 or is_reflected.shape != hits.shape[:1]:
        raise ValueError(f"hits has shape {hits.shape}, is_reflected {is_reflected.shape}: expected (n, 3) and (n,)")
    frame = detector_frame(detector, units)
    figure = look.new_figure(11.4, 3.9, name="bands of photons", title=title)
    axes_of = dict(zip("xyt", (frame.x, frame.y, frame.t), strict=True))
    places = dict(zip("xyt", frame.place(hits), strict=True))
    for axes, (across, up) in zip(figure.subplots(1, 3), ("xy", "tx", "ty"), strict=True):
        for name, reflected, colour in _KINDS:
            of = is_reflected == reflected
            label = f"{name}: {int(of.sum()):,}"
            axes.scatter(places[across][of], places[up][of], s=_MARKER**2, color=colour, linewidths=0, label=label)
        axes.set(xlabel=axes_of[across].label, ylabel=axes_of[up].label)
        axes.set_xlim(*axes_of[across].limits)
        axes.set_ylim(*axes_of[up].limits)
        if not len(hits):
            look.annotate_empty(axes)
        if up == "y" and row_angles_rad is not None:
            angles = axes.twinx()
            angles.set_ylim(*row_angles_rad)
            angles.set_ylabel("θ$_z$ (rad)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=4)
    return figure
