"""Figures of one event: a panel for every stage, and the same in three dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from tofae_jax.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.frame import Frame, Units, detector_frame
from tofae_jax.plots.views import EventView, check_view, is_lit

_LEGEND_POINTS = 5.0
_TICKS_3D = 5


class Group(NamedTuple):
    """Hits of one kind, drawn alike."""

    name: str
    hits: np.ndarray
    marker: str
    colour: str
    size: float
    """in multiples of the usual marker's width"""
    is_hollow: bool = False


class Stage(NamedTuple):
    """What a panel of one stage shows; later groups lie on top of earlier ones."""

    name: str
    groups: list[Group]
    if_empty: str = "no hits"

    @property
    def is_empty(self) -> bool:
        """True if no group has a hit."""
        return not any(len(group.hits) for group in self.groups)

    @property
    def heading(self) -> str:
        """E.g. `noised: 30 signal, 200 noise`: what lies on top comes first."""
        return f"{self.name}: {', '.join(f'{len(group.hits):,} {group.name}' for group in reversed(self.groups))}"


def _signal(hits: np.ndarray) -> Group:
    return Group("signal", hits, "s", look.SIGNAL, 1.0)


def _noised(view: EventView) -> Stage:
    noise = Group("noise", view.hits[~view.is_signal], "s", look.NOISE, 0.85)
    return Stage("noised", [noise, _signal(view.hits[view.is_signal])])


def _masked(view: EventView) -> Stage:
    kept, signal = view.kept, view.is_signal
    missed = Group("missed", view.hits[signal & ~kept], "o", look.SIGNAL, 1.6, is_hollow=True)
    noise = Group("noise", view.hits[kept & ~signal], "x", look.KEPT_NOISE, 1.5)
    return Stage("masked", [missed, noise, _signal(view.hits[kept & signal])])


def _direct(view: EventView) -> Stage:
    y, x = np.nonzero(is_lit(view))
    name = "lit pixel" if len(x) == 1 else "lit pixels"
    lit = Group(name, np.stack([x, y, view.direct[y, x]], axis=1), "s", look.LIT, 1.0)
    return Stage("direct", [lit], "no lit pixels")


def _marker(group: Group, width_points: float) -> dict[str, Any]:
    """How `scatter` draws a group."""
    size = (group.size * width_points) ** 2
    if group.is_hollow:
        return {"marker": group.marker, "s": size, "facecolors": "none", "edgecolors": group.colour, "linewidths": 0.9}
    line = 1.1 if group.marker == "x" else 0
    return {"marker": group.marker, "s": size, "color": group.colour, "linewidths": line}


def _draw_flat(axes: Axes, stage: Stage, frame: Frame, width_points: float) -> None:
    for group in stage.groups:
        x, y, _ = frame.place(group.hits)
        # unclipped and above the frame: markers at the edge stay whole
        axes.scatter(x, y, label=group.name, clip_on=False, zorder=3, **_marker(group, width_points))
    if stage.is_empty:
        look.annotate_empty(axes, stage.if_empty)


def _draw_direct(axes: Axes, view: EventView, frame: Frame) -> AxesImage:
    """The direct output as an image, coloured by time if it has one."""
    is_dark = ~is_lit(view)
    shown: dict[str, Any] = {"extent": frame.extent, "origin": "upper", "interpolation": "nearest"}
    shown |= {"aspect": frame.aspect}
    if not view.has_time:
        colours = look.ListedColormap([look.LIT])
        return axes.imshow(np.ma.masked_array(np.ones_like(view.direct), is_dark), cmap=colours, **shown)
    times = np.ma.masked_array(frame.t.centre(view.direct), is_dark)
    first, last = float(times.min()), float(times.max())
    if first == last:
        first, last = first - frame.t.step / 2, last + frame.t.step / 2
    return axes.imshow(times, cmap=look.TIME_COLOURS, vmin=first, vmax=last, **shown)


def _legend(figure: Figure, view: EventView, *, with_lit: bool) -> None:
    missed, kept_noise, signal = _masked(view).groups
    entries = {"signal": signal, "noise": _noised(view).groups[0], "kept noise (false positive)": kept_noise}
    entries["missed signal"] = missed
    if with_lit:
        entries["lit pixel"] = _direct(view).groups[0]
    handles = []
    for label, group in entries.items():
        drawn: dict[str, Any] = {"linestyle": "", "marker": group.marker, "color": group.colour}
        drawn |= {"markersize": _LEGEND_POINTS * group.size**0.5}
        drawn |= {"markerfacecolor": "none"} if group.is_hollow else {}
        handles.append(Line2D([], [], **drawn, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.8, handletextpad=0.3)


def _marker_points(panel_inches: float, n_columns: int) -> float:
    """Width of a marker: a pixel's, within what the eye can tell and what does not hide its neighbours."""
    return float(np.clip(panel_inches * 72 / n_columns, 2.6, 7.0))


def _panel_inches(frame: Frame, detector: Detector) -> tuple[float, float]:
    if frame.aspect == "auto":
        return 3.3, 2.5
    height = 3.9 if detector.n_y >= detector.n_x else 2.6
    return float(np.clip(height * detector.n_x / detector.n_y, 2.85, 3.6)), height


def _stages(view: EventView) -> list[Stage]:
    before = [Stage(name, [_signal(getattr(view, name))]) for name in ("pattern", "sparse", "smeared")]
    return [*before, _noised(view), _direct(view), _masked(view)]


@look.style()
def stage_panels(view: EventView, *, detector: Detector, units: Units | str = "physical", title: str = "") -> Figure:
    """The event at each stage: pattern, sparse, smeared, noised, direct, masked; y downward like the image.

    Signal is red and noise grey. In the masked panel, noise that was kept is a black cross, and signal that was not is
    a hollow circle. The direct output is an image coloured by time, or in one colour if it has none. The panels'
    titles say how many there are of each; a panel without hits says so. Pixels that are not finite are dark. Raises
    `ValueError` for mismatched shapes, see `check_view`.
    """
    view, frame = check_view(view, detector), detector_frame(detector, units)
    width, height = _panel_inches(frame, detector)
    figure = look.new_figure(3 * width + 0.5, 2 * height + 1.6, name="stage panels", title=title)
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    points = _marker_points(width - 0.4, detector.n_x)
    for axes, stage in zip(panels.flat, _stages(view), strict=True):
        axes.set_aspect(frame.aspect)
        axes.set_title(stage.heading)
        if stage.name != "direct" or stage.is_empty:
            _draw_flat(axes, stage, frame, points)
            continue
        image = _draw_direct(axes, view, frame)
        if view.has_time:
            label = f"direct output: {frame.t.label}"
            bar = figure.colorbar(image, ax=axes, location="bottom", pad=0.04, fraction=0.06, aspect=30, panchor=False)
            bar.set_label(label)
    frame.apply(panels[0, 0])
    for axes in panels[-1]:
        axes.set_xlabel(frame.x.label)
    for axes in panels[:, 0]:
        axes.set_ylabel(frame.y.label)
    _legend(figure, view, with_lit=not view.has_time)
    return figure


def _draw_deep(axes: Any, stage: Stage, frame: Frame, width_points: float) -> None:
    for group in stage.groups:
        x, y, t = frame.place(group.hits)
        if len(group.hits):
            axes.scatter(x, y, t, label=group.name, depthshade=False, **_marker(group, width_points))
    if stage.is_empty:
        look.annotate_empty(axes, stage.if_empty)
    frame.apply(axes, n_ticks=_TICKS_3D)
    axes.zaxis.set_major_locator(frame.t.ticks(_TICKS_3D))
    axes.set_zlim(*frame.t.limits)
    axes.set_xlabel(frame.x.label, labelpad=-2)
    axes.set_ylabel(frame.y.label, labelpad=-2)
    axes.set_zlabel(frame.t.label, labelpad=0, rotation=90)
    axes.tick_params(pad=-1)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.97, 0.97))
    axes.zaxis.set_rotate_label(False)
    axes.zaxis.set_ticks_position("upper")
    axes.zaxis.set_label_position("upper")
    axes.view_init(elev=22, azim=-58)
    axes.set_box_aspect((1.15, 1, 0.95), zoom=1.0)


@look.style()
def event_3d(view: EventView, *, detector: Detector, units: Units | str = "physical", title: str = "") -> Figure:
    """Pattern, noised event, masked output, and direct output if it has times, in x, y and time.

    Beneath each is the same from above, in x and y. Colours, markers, empty panels and errors as in `stage_panels`.
    """
    view, frame = check_view(view, detector), detector_frame(detector, units)
    shown = {"pattern", "noised", "masked"} | ({"direct"} if view.has_time else set())
    stages = [stage for stage in _stages(view) if stage.name in shown]
    width, height = (3.3, 2.3) if frame.aspect == "auto" else (3.0, 3.0)
    figure = look.new_figure(width * len(stages) + 0.5, width + height + 1.0, name="event in 3-D", title=title)
    grid = figure.add_gridspec(2, len(stages), height_ratios=[width, height])
    points = _marker_points(width - 0.6, detector.n_x)
    first = None
    for column, stage in enumerate(stages):
        deep: Any = figure.add_subplot(grid[0, column], projection="3d")
        deep.set_title(stage.heading, y=1, pad=4)
        _draw_deep(deep, stage, frame, points)
        flat = figure.add_subplot(grid[1, column], sharex=first, sharey=first)
        _draw_flat(flat, stage, frame, points)
        frame.apply(flat)
        flat.set_aspect(frame.aspect)
        flat.set_xlabel(frame.x.label)
        if first is None:
            first = flat
            flat.set_ylabel(frame.y.label)
        else:
            flat.tick_params(labelleft=False)
    _legend(figure, view, with_lit=view.has_time)
    return figure
