"""The figure of an event in three dimensions, with its three projections."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Frame, Units, detector_frame
from tofae_jax.plots.event_view import EventView, check_view
from tofae_jax.plots.stages import HITS, Stage, draw_hits, draw_legend, event_stages, marker_points

_PROJECTIONS = (("x", "y"), ("x", "t"), ("y", "t"))
_TICKS, _TICKS_3D = 5, 4
_NO_TIMES = "no times"

# inches
_COLUMN, _GAP = 2.13, 0.27
_LEFT, _RIGHT = 0.72, 0.2
_EDGE, _LINE, _TITLE, _BOTTOM = 0.14, 0.15, 0.24, 0.85
_DEEP, _FLAT, _BETWEEN = 2.25, 1.65, 0.52


class _Page(NamedTuple):
    """Where panels go, in inches from the figure's top left corner."""

    width: float
    height: float
    top: float
    flat_heights: tuple[float, ...]

    def box(self, column: int, row: int) -> tuple[float, float, float, float]:
        """Of a panel, for `Figure.add_axes`; row 0 is the 3-D one, which may use the gaps beside it."""
        left, width = _LEFT + column * (_COLUMN + _GAP), _COLUMN
        if row == 0:
            left, width, height, bottom = left - _GAP / 2, _COLUMN + _GAP, _DEEP, self.top + _DEEP
        else:
            height = self.flat_heights[row - 1]
            bottom = self.top + _DEEP + sum(self.flat_heights[:row]) + (row - 1) * _BETWEEN + _BETWEEN / 3
        return left / self.width, 1 - bottom / self.height, width / self.width, height / self.height


def _page(headings: list[str], frame: Frame, detector: Detector, *, has_title: bool) -> _Page:
    # square pixels fill the width, if that does not make the panel flat or long
    above = _FLAT if frame.aspect == "auto" else min(max(_COLUMN * detector.n_y / detector.n_x, 0.8), 3.3)
    n_lines = 1 + max(heading.count("\n") for heading in headings)
    flat, top = (above, _FLAT, _FLAT), _EDGE + n_lines * _LINE + (_TITLE if has_title else 0)
    width = _LEFT + len(headings) * (_COLUMN + _GAP) - _GAP + _RIGHT
    height = top + _DEEP + sum(flat) + (len(flat) - 1 + 1 / 3) * _BETWEEN + _BOTTOM
    return _Page(width, height, top, flat)


def _draw_deep(axes: Any, stage: Stage, frame: Frame, width_points: float) -> None:
    axes.computed_zorder = False  # the order of the groups holds, as in the projections
    for order, group in enumerate(reversed(stage.groups)):
        if len(group.hits):
            drawn = group.mark.scatter(width_points) | {"zorder": 3 + order / 10}
            axes.scatter(*frame.place(group.hits), label=group.name, depthshade=False, **drawn)
    if stage.is_empty:
        look.annotate_empty(axes, stage.if_empty)
    frame.show(axes, "x", "y", n_ticks=_TICKS_3D)
    axes.zaxis.set_major_locator(frame.t.ticks(_TICKS_3D))
    axes.set_zlim(*frame.t.limits)
    axes.set_xlabel(frame.x.label, labelpad=-6)
    axes.set_ylabel(frame.y.label, labelpad=-6)
    axes.zaxis.set_rotate_label(False)
    axes.set_zlabel(frame.t.label, labelpad=-3, rotation=90)
    axes.tick_params(pad=-3, labelsize=7)
    axes.tick_params("z", pad=-1)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97))
    axes.zaxis.set_ticks_position("upper")
    axes.zaxis.set_label_position("upper")
    axes.view_init(elev=22, azim=-58)
    axes.set_box_aspect((1.15, 1, 0.95), zoom=0.92)


def _draw_projection(axes: Axes, stage: Stage, across: str, up: str, frame: Frame, width_points: float) -> None:
    draw_hits(axes, stage, across, up, frame, width_points)
    frame.show(axes, across, up, n_ticks=_TICKS)
    axes.set_xlabel(getattr(frame, across).label, labelpad=2)
    if (across, up) == ("x", "y"):
        axes.set_aspect(frame.aspect)


@look.style()
def event_3d(view: EventView, *, detector: Detector, units: Units | str = "physical", title: str = "") -> Figure:
    """Every stage in x, y and time, a column for each; beneath it from above (x–y) and from both sides (x–t, y–t).

    Stages, colours, markers, empty panels and errors as in `stage_panels`, but the direct output is drawn like the
    masked one; without times, only its x–y panel shows it, and the others say "no times". Missed pixels of the direct
    output have the target's time. A time of the direct output beyond the window is drawn at the window's edge.
    """
    view, frame = check_view(view, detector), detector_frame(detector, units)
    stages = event_stages(view, detector)
    headings = [stage.heading(_COLUMN + _GAP) for stage in stages]
    page = _page(headings, frame, detector, has_title=bool(title))
    figure = look.new_figure(page.width, page.height, name="event in 3-D", title=title)
    figure.suptitle(title, y=1 - _EDGE / page.height)
    figure.set_layout_engine("none")  # all places are known: no need to draw everything twice to find them
    points = marker_points(_COLUMN, detector.n_x)
    first: list[Axes | None] = [None] * len(_PROJECTIONS)
    for column, stage in enumerate(stages):
        timed = Stage(stage.name, [], _NO_TIMES) if stage.name == "direct" and not view.has_time else stage
        deep: Any = figure.add_axes(page.box(column, 0), projection="3d")
        deep.set_title(headings[column], y=1, pad=2)
        _draw_deep(deep, timed, frame, points)
        for row, (across, up) in enumerate(_PROJECTIONS):
            axes = figure.add_axes(page.box(column, row + 1), sharex=first[row], sharey=first[row])
            _draw_projection(axes, timed if up == "t" else stage, across, up, frame, points)
            if first[row] is None:
                first[row] = axes
                axes.set_ylabel(getattr(frame, up).label)
            else:
                axes.tick_params(labelleft=False)
    draw_legend(figure, HITS)
    return figure
