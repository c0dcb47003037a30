"""What there is to see of an event at each stage: groups of hits, and how figures mark them."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tofae_jax.core.detector import Detector
from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import Frame
from tofae_jax.plots.event_view import EventView, is_lit, target_image

_LEGEND_POINTS = 5.0
_LETTER_POINTS = 5.0  # of a heading, on average
_NO_BREAK = "\u00a0"


class Mark(NamedTuple):
    """How hits of one kind are drawn."""

    marker: str
    colour: str
    size: float
    """in multiples of the usual marker's width"""
    is_hollow: bool = False

    def scatter(self, width_points: float) -> dict[str, Any]:
        """What to tell `Axes.scatter`, where the usual marker is `width_points` wide."""
        size = (self.size * width_points) ** 2
        if self.is_hollow:
            return {
                "marker": self.marker,
                "s": size,
                "facecolors": "none",
                "edgecolors": self.colour,
                "linewidths": 0.9,
            }
        line = 1.1 if self.marker == "x" else 0
        return {"marker": self.marker, "s": size, "color": self.colour, "linewidths": line}

    def legend_entry(self, label: str) -> Line2D:
        """A line that is drawn nowhere but in a legend."""
        drawn: dict[str, Any] = {"marker": self.marker, "color": self.colour, "linestyle": ""}
        drawn |= {"markerfacecolor": "none"} if self.is_hollow else {}
        return Line2D([], [], markersize=_LEGEND_POINTS * self.size**0.5, label=label, **drawn)


SIGNAL = Mark("s", look.SIGNAL, 1.0)
NOISE = Mark("s", look.NOISE, 0.85)
FALSE = Mark("x", look.KEPT_NOISE, 1.5)
MISSED = Mark("o", look.SIGNAL, 1.6, is_hollow=True)
OUTCOMES = {"recovered signal": SIGNAL, "missed signal": MISSED, "false positive": FALSE}
"""what becomes of hits in an output, for a legend"""
HITS = {"signal / recovered signal": SIGNAL, "noise": NOISE, "missed signal": MISSED, "false positive": FALSE}
"""all that stages show, for a legend"""


class Group(NamedTuple):
    """Hits of one kind, drawn alike."""

    name: str
    hits: np.ndarray
    """[n, 3]: x, y, t"""
    mark: Mark


class Stage(NamedTuple):
    """What a panel of one stage shows; earlier groups lie on top of later ones."""

    name: str
    groups: list[Group]
    if_empty: str = "no hits"

    @property
    def is_empty(self) -> bool:
        """True if no group has a hit."""
        return not any(len(group.hits) for group in self.groups)

    @property
    def counts(self) -> str:
        """E.g. `30 signal, 200 noise`."""
        return ", ".join(f"{len(group.hits):,} {group.name}" for group in self.groups)

    def heading(self, width_inches: float) -> str:
        """The name and, beneath it, the counts, in as many lines as this width needs."""
        most = max(1, int(width_inches * 72 / _LETTER_POINTS))
        counts = self.counts.replace(", ", ",\n").replace(" ", _NO_BREAK).replace("\n", " ")
        return f"{self.name}\n{textwrap.fill(counts, most, break_long_words=False)}".replace(_NO_BREAK, " ")


def _pixels(where: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Hits [n, 3] at the pixels of an image that are marked."""
    y, x = np.nonzero(where)
    return np.stack([x, y, times[y, x]], axis=1)


def _outcome(name: str, recovered: np.ndarray, false: np.ndarray, missed: np.ndarray, if_empty: str) -> Stage:
    """An output's hits against the truth: the same three groups for every output."""
    groups = [Group("recovered", recovered, SIGNAL), Group("false", false, FALSE), Group("missed", missed, MISSED)]
    return Stage(name, groups, if_empty)


def pixel_stage(name: str, output: np.ndarray, target: np.ndarray, *, if_empty: str) -> Stage:
    """The pixels [Y, X] of an output against those of its target, both 0 where dark.

    Recovered and false pixels have the output's times, missed ones the target's. What is not finite is dark.
    """
    lit, expected = is_lit(output), target > 0
    recovered, false = _pixels(lit & expected, output), _pixels(lit & ~expected, output)
    return _outcome(name, recovered, false, _pixels(~lit & expected, target), if_empty)


def event_stages(view: EventView, detector: Detector) -> list[Stage]:
    """All stages of a checked view: pattern, sparse, smeared, noised, direct, masked."""
    before = [Stage(name, [Group("signal", getattr(view, name), SIGNAL)]) for name in ("pattern", "sparse", "smeared")]
    hits, signal, kept = view.hits, view.is_signal, view.kept
    noised = Stage("noised", [Group("signal", hits[signal], SIGNAL), Group("noise", hits[~signal], NOISE)])
    direct = pixel_stage("direct", view.direct, target_image(view, detector), if_empty="no lit pixels")
    masked = _outcome("masked", hits[signal & kept], hits[kept & ~signal], hits[signal & ~kept], "no hits")
    return [*before, noised, direct, masked]


def draw_hits(axes: Axes, stage: Stage, across: str, up: str, frame: Frame, width_points: float) -> None:
    """The hits of a stage on two axes of the frame, each one of x, y, t; or why there are none."""
    for order, group in enumerate(reversed(stage.groups)):
        placed = frame.place(group.hits)._asdict()
        # unclipped and above the frame: markers at the edge stay whole
        drawn = group.mark.scatter(width_points)
        axes.scatter(placed[across], placed[up], label=group.name, clip_on=False, zorder=3 + order / 10, **drawn)
    if stage.is_empty:
        look.annotate_empty(axes, stage.if_empty)


def draw_legend(figure: Figure, marks: dict[str, Mark]) -> None:
    """What the marks mean, in one row at the lower edge; a layout engine, if there is one, leaves it room."""
    handles = [mark.legend_entry(label) for label, mark in marks.items()]
    where: Any = "lower center" if figure.get_layout_engine() is None else "outside lower center"
    figure.legend(handles=handles, loc=where, ncols=len(handles), columnspacing=1.8, handletextpad=0.3)


def marker_points(panel_inches: float, n_columns: int) -> float:
    """Width of a marker: a pixel's, within what the eye can tell and what does not hide its neighbours."""
    return float(np.clip(panel_inches * 72 / n_columns, 2.6, 7.0))
