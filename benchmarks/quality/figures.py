"""Figures of a comparison: efficiency against purity, and F1 against what makes events hard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tofae_jax.plots.style import empty_panel, new_figure, style

from .comparison import REFERENCE, Row, is_reference
from .events import Conditions

PANEL_INCHES = (4.2, 3.4)
LEGEND_INCHES = 2.0
LEGEND_LINE_INCHES = 0.25
CLOSE = 0.8
"""efficiency and purity from which on a panel shows good methods larger"""
MARKERS = "os^Dv<>pPX*h"
_PAIRS = colormaps["tab20"].colors  # pyright: ignore[reportAttributeAccessIssue]
COLOURS = (*_PAIRS[::2], *_PAIRS[1::2])  # first the strong ones, then a pale one of each


class Look:
    """One colour and marker per method, the same in every panel."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """In the order of the rows."""
        self._methods = list(dict.fromkeys(row.method for row in rows))

    def of(self, method: str) -> dict[str, Any]:
        """Arguments of a line."""
        place = self._methods.index(method)
        return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}

    def height(self, panels: float) -> float:
        """Of a figure with so many inches of panels: room for the legend as well."""
        return max(panels, LEGEND_LINE_INCHES * (len(self._methods) + 2))

    def legend(self, axes: Axes) -> None:
        """All methods, beside the panel."""
        handles = [Line2D([], [], label=method, **self.of(method)) for method in self._methods]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0))


@style()
def draw_comparison(rows: Sequence[Row], path: Path) -> None:
    """For each data set: curves at 30 signal and 200 noise hits with each method's point, and F1 against noise hits, or
    where there is one number of these alone, the good end of the curves once more.

    A threshold's points are joined in the curve; the marker is the one chosen on validation events, or the decision of
    a method that has no threshold. What counts pixels stands in the tables alone.
    """
    names = list(dict.fromkeys(row.data for row in rows))
    reference = rows[0].conditions._replace(n_signal=REFERENCE.n_signal, n_noise=REFERENCE.n_noise)
    rows = [row for row in rows if row.counted == "hits"]
    width, height = PANEL_INCHES
    look = Look(rows)
    figure = new_figure(2 * width + LEGEND_INCHES, look.height(height * len(names)), name="quality")
    panels = figure.subplots(len(names), 2, squeeze=False)
    for name, (left, right) in zip(names, panels, strict=True):
        own = [row for row in rows if row.data == name]
        at_reference = [row for row in own if is_reference(row.conditions)]
        _draw_curves(left, at_reference, look)
        left.set_title(f"{name}: {REFERENCE.n_signal} signal, {REFERENCE.n_noise} noise hits")
        if at_reference and len({row.conditions.n_noise for row in own}) == 1:
            _draw_curves(right, at_reference, look)
            right.set(xlim=(CLOSE, 1.005), ylim=(CLOSE, 1.005), title=f"{name}: the same, larger")
            continue
        _draw_f1(right, own, "n_noise", look, reference)
        right.set_xlabel("noise hits per event")
        right.set_title(f"{name}: {REFERENCE.n_signal} signal hits")
    look.legend(panels[0, 1])
    figure.savefig(path)


def _draw_curves(axes: Axes, rows: Sequence[Row], look: Look) -> None:
    for row in rows:
        own = look.of(row.method)
        if row.curve is not None:
            axes.plot(row.curve.efficiency, row.curve.purity, color=own["color"], linewidth=1.0)
        axes.plot(row.qualities["efficiency"].value, row.qualities["purity"].value, **own, markersize=5.5)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="efficiency", ylabel="purity")
    axes.grid(visible=True)
    if not rows:
        empty_panel(axes, "not asked for")


def _draw_f1(axes: Axes, rows: Sequence[Row], field: str, look: Look, reference: Conditions) -> None:
    """F1 with intervals of the rows that differ from the reference in this field of the conditions alone."""
    own = [row for row in rows if row.conditions._replace(**{field: getattr(reference, field)}) == reference]
    own = [row for row in own if getattr(row.conditions, field) is not None]
    for method in dict.fromkeys(row.method for row in own):
        line = sorted((row for row in own if row.method == method), key=lambda row: getattr(row.conditions, field))
        # patterns may have fewer hits than were asked for
        places = [row.signal_hits if field == "n_signal" else getattr(row.conditions, field) for row in line]
        _draw_line(axes, line, places, look.of(method))
    if not own:
        empty_panel(axes, "not asked for")


def _draw_line(axes: Axes, rows: Sequence[Row], places: Sequence[Any], look: dict[str, Any]) -> None:
    f1 = [row.qualities["f1"] for row in rows]
    axes.plot(places, [one.value for one in f1], linewidth=1.0, **look)
    axes.vlines(places, [one.low for one in f1], [one.high for one in f1], color=look["color"], linewidth=1.0)
    axes.set(ylim=(0, 1.02), ylabel="F1")
    axes.grid(visible=True)


@style()
def draw_robustness(rows: Sequence[Row], path: Path) -> None:
    """For each data set: F1 against noise hits, signal hits and time smearing, each with all else at the reference.

    What counts pixels, and dead columns, stand in the tables alone.
    """
    names = list(dict.fromkeys(row.data for row in rows))
    rows = [row for row in rows if row.counted == "hits"]
    fields = {"n_noise": "noise hits", "n_signal": "signal hits", "time_smearing_ps": "time smearing (ps)"}
    width, height = PANEL_INCHES
    look = Look(rows)
    figure = new_figure(3 * width + LEGEND_INCHES, look.height(height * len(names)), name="robustness")
    panels = figure.subplots(len(names), len(fields), squeeze=False)
    for name, line in zip(names, panels, strict=True):
        for (field, label), axes in zip(fields.items(), line, strict=True):
            _draw_f1(axes, [row for row in rows if row.data == name], field, look, REFERENCE)
            axes.set(xlabel=label, title=name)
    look.legend(panels[0, -1])
    figure.savefig(path)
