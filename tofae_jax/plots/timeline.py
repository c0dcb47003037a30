"""A figure of where the time went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tofae_jax.plots import style as look
from tofae_jax.plots.labels import shown_name

_COLOURS = (look.BLUE, look.ORANGE, look.GREEN, look.PURPLE, look.SKY_BLUE, look.VERMILLION)
_MOST_ROWS = 30
_LONGEST_NAME = 40
_LONGEST_S = 1e9  # 30 years; a time beyond it is an error of whoever took it, and would squeeze all others
_HATCHES = {"closed at exit": "/////", "not closed": "....."}
_HALF_HEIGHT = 0.38


@runtime_checkable
class TimedSpan(Protocol):
    """What is read of a span; its times are in seconds."""

    @property
    def name(self) -> str:
        """What it measures."""
        ...

    @property
    def start_s(self) -> float:
        """Since the timer was made."""
        ...

    @property
    def stop_s(self) -> float | None:
        """Likewise; None while it is open."""
        ...

    @property
    def closed_at_exit(self) -> bool:
        """True if nothing but the timer's exit ended it."""
        ...


class _Row(NamedTuple):
    """The spans of one name that can be placed."""

    name: str
    start_s: np.ndarray
    stop_s: np.ndarray
    how: np.ndarray
    """"", or the key of `_HATCHES`"""

    @property
    def seconds(self) -> float:
        return float(np.sum(self.stop_s - self.start_s))


def _seconds(value: Any) -> float:
    """A time, NaN where it is none."""
    try:
        seconds = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan
    return seconds if abs(seconds) <= _LONGEST_S else math.nan


def _rows(spans: Sequence[TimedSpan]) -> tuple[list[_Row], int]:
    """Rows by first start, and how many spans have no place: no start, or an end before it."""
    times = np.array([[_seconds(span.start_s), _seconds(span.stop_s)] for span in spans], np.float64).reshape(-1, 2)
    start_s, stop_s = times.T
    is_open = np.isnan(stop_s)
    stop_s = np.where(is_open, np.max(times, initial=-math.inf, where=~np.isnan(times)), stop_s)
    is_placed = stop_s >= start_s  # not where one of them is NaN
    how = np.array(
        [
            "not closed" if lasts else "closed at exit" if span.closed_at_exit else ""
            for span, lasts in zip(spans, is_open, strict=True)
        ],
        dtype=np.str_,
    )
    by_name: dict[str, list[int]] = {}
    for index in np.flatnonzero(is_placed).tolist():
        by_name.setdefault(str(spans[index].name), []).append(index)
    rows = [_Row(name, start_s[of], stop_s[of], how[of]) for name, of in by_name.items()]
    return sorted(rows, key=lambda row: row.start_s.min()), int(np.sum(~is_placed))


def _duration(seconds: float) -> str:
    for unit, length_s in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= length_s:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _label(row: _Row) -> str:
    name = shown_name(row.name, most=_LONGEST_NAME)
    return f"{name}\n{len(row.start_s)} × {_duration(row.seconds / len(row.start_s))} = {_duration(row.seconds)}"


def _draw(axes: Axes, rows: Sequence[_Row]) -> None:
    latest_s = max(row.stop_s.max() for row in rows)
    unit, length_s = next((unit, s) for unit, s in (("h", 3600), ("min", 60), ("s", 1)) if latest_s >= 2 * s or s == 1)
    for index, row in enumerate(rows):
        colour = _COLOURS[index % len(_COLOURS)]
        for how in ("", *_HATCHES):
            of = row.how == how
            if of.any():
                bars = np.stack([row.start_s[of], (row.stop_s - row.start_s)[of]], axis=1) / length_s
                axes.broken_barh(
                    [tuple(bar) for bar in bars.tolist()],
                    (index - _HALF_HEIGHT, 2 * _HALF_HEIGHT),
                    facecolor="white" if how else colour,
                    edgecolor=colour,  # what is too short for its face is still seen
                    linewidth=0.6,
                    hatch=_HATCHES.get(how),
                    label=row.name,
                )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # a name is no formula, whatever dollar signs it has
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"time since the timer began ({unit})")
    axes.grid(visible=True, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    present = [how for how in _HATCHES if any((row.how == how).any() for row in rows)]
    handles = [Patch(facecolor="white", edgecolor=look.BLACK, hatch=_HATCHES[how], label=how) for how in present]
    if handles:
        axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(handles))


@look.style()
def timer_timeline(spans: Sequence[TimedSpan], *, title: str = "") -> Figure:
    """When each span of a timer ran, one row per name in the order of their first starts, with count, mean and sum.

    Spans that the timer's exit closed, and those that never were, are hatched; the latter last until the latest time of
    all. Of many names, those that took longest are drawn. Spans without a usable start, or that end before it, are
    left out. What is left out is counted beneath; where nothing is left, the panel says so.
    """
    rows, n_unplaced = _rows(spans)
    kept = {row.name for row in sorted(rows, key=lambda row: -row.seconds)[:_MOST_ROWS]}
    shown = [row for row in rows if row.name in kept]
    figure = look.new_figure(9.0, 1.5 + 0.4 * max(2, len(shown)), name="timeline", title=title)
    axes = figure.subplots()
    if shown:
        _draw(axes, shown)
    else:
        look.empty_panel(axes, "no spans")
    notes = []
    if len(shown) < len(rows):
        notes.append(f"{len(rows) - len(shown)} more names took no longer")
    if n_unplaced:
        notes.append(f"{n_unplaced} {'span has' if n_unplaced == 1 else 'spans have'} no usable times")
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8, color=look.EMPTY_TEXT)
    return figure
