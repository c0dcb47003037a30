"""Figures of many panels: every metric of the validation, and what training did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tofae_jax.plots import style as look
from tofae_jax.plots.curves import (
    Against,
    History,
    abscissas,
    draw_curve,
    draw_losses,
    finish_panel,
    name_legend,
    values,
)
from tofae_jax.plots.labels import LOSS, QUALITIES, LossNames, Quantity, shown_name

_METRIC_COLUMNS = 6
_DETAIL_COLUMNS = 3
_MOST_SCHEDULED = 12
_MOST_PARTS = 4  # of a scheduled value that has several, e.g. the ends of a range
_REFERENCE_WIDTH = 0.9
_HOW: dict[str, dict[str, Any]] = {
    "input": {"linestyle": "-", "linewidth": _REFERENCE_WIDTH, "marker": ""},
    "direct": {"linestyle": "--"},
    "masked": {"linestyle": "-"},
}
_SECONDS = {
    "epoch_s": ("epoch", look.BLACK, "-"),
    "train_s": ("train", look.BLUE, "--"),
    "validation_s": ("validation", look.GREEN, "-"),
    "plots_s": ("plots", look.ORANGE, "-"),
    "drawing_cpu_s": ("drawing (background)", look.PURPLE, "--"),
}
_DETAILS: dict[tuple[str, ...], Quantity] = {
    ("learning_rate",): Quantity("learning rate", may_be_log=True),
    ("train", "gradient_norm"): Quantity("gradient norm", may_be_log=True),
    ("train", "parameter_norm"): Quantity("parameter norm"),
    ("train", "relative_update"): Quantity("relative update", may_be_log=True),
    ("hits_dropped",): Quantity("hits dropped per epoch"),
    ("train", "loss_scale"): Quantity("loss scale", may_be_log=True),
    ("train", "steps_skipped"): Quantity("steps skipped per epoch"),
}
_ONLY_IF_RECORDED = ("loss_scale", "steps_skipped")


def panel_grid(figure: Figure, n: int, *, n_columns: int) -> list[Axes]:
    """`n` panels, row by row; places that are left over stay free."""
    n_rows = max(1, -(-n // n_columns))
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in panels[n:]:
        axes.remove()
    return panels[:n]


def share_abscissa(panels: Sequence[Axes], x: Sequence[np.ndarray], label: str, *, n_columns: int) -> None:
    """The same limits for all panels with curves, and the axis's name under the last of each column."""
    together = np.concatenate([np.zeros(0), *x])
    known = together[~np.isnan(together)]
    for index, axes in enumerate(panels):
        if len(known) and axes.lines:
            low, high = known.min(), known.max()
            beyond = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
            axes.set_xlim(low - beyond, high + beyond)
        if index + n_columns >= len(panels):
            axes.set_xlabel(label)


@look.style()
def metrics_grid(
    history: History, *, against: Against | str = "epoch", losses: LossNames | None = None, title: str = ""
) -> Figure:
    """Every metric of the validation that says how good an output is, a panel each, and the loss.

    `history` and `losses` as for `training_curves`. Each panel has the direct and the masked output, and as a thin grey
    line the input, which is what doing nothing would give; the loss that of training and validation. Shares and
    percentages are drawn over their whole range; errors that fall by more than a factor of 10 on a logarithmic axis,
    unless one is 0.
    A value that is missing, None or not finite is left out, and its neighbours are joined; a metric without any has a
    panel that says so. Raises `ValueError` as `training_curves` does.
    """
    [x], label = abscissas({"the history": history}, against)
    n_panels = 1 + len(QUALITIES)
    figure = look.new_figure(15.0, 7.6, name=f"metrics grid against {against}", title=title)
    panels = panel_grid(figure, n_panels, n_columns=_METRIC_COLUMNS)
    panels[0].set_title(LOSS.label)
    draw_losses(panels[0], x, history, losses, against=against)
    for axes, (name, quantity) in zip(panels[1:], QUALITIES.items(), strict=True):
        axes.set_title(quantity.label)
        for output, colour in look.OUTPUTS.items():
            curve = values(history, "validation", output, name)
            draw_curve(axes, x, curve, color=colour, label=output, **_HOW[output])
        finish_panel(axes, quantity, against=against)
    share_abscissa(panels, [x], label, n_columns=_METRIC_COLUMNS)
    if any(axes.lines for axes in panels[1:]):
        handles = [Line2D([], [], color=colour, label=name, **_HOW[name]) for name, colour in look.OUTPUTS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_seconds(axes: Axes, x: np.ndarray, history: History) -> None:
    """One entry per epoch and part of it, each its own duration."""
    for name, (label, colour, line) in _SECONDS.items():
        draw_curve(axes, x, values(history, "time", name), color=colour, linestyle=line, label=label)
    if axes.lines:
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.legend()


def _scheduled(history: History) -> dict[str, np.ndarray]:
    """Scheduled settings by key, [parts, epochs]; a plain number has one part, what is no number is NaN."""
    found = [record.get("scheduled") for record in history]
    tables = [table if isinstance(table, Mapping) else {} for table in found]
    keys = list(dict.fromkeys(key for table in tables for key in table))

    def parts(value: Any) -> Sequence[Any]:
        return value if isinstance(value, list | tuple) else [value]

    result = {}
    for key in keys:
        rows = [parts(table.get(key)) for table in tables]
        n_parts = max(1, min(_MOST_PARTS, max(map(len, rows))))
        records = [dict(zip(map(str, range(n_parts)), row, strict=False)) for row in rows]
        result[key] = np.array([values(records, str(part)) for part in range(n_parts)])
    return result


def _draw_scheduled(axes: Axes, x: np.ndarray, parts: np.ndarray) -> None:
    colours = (look.BLUE, look.VERMILLION, look.GREEN, look.PURPLE)
    for index, curve in enumerate(parts):
        line = "-" if index == 0 else "--"
        draw_curve(axes, x, curve, color=colours[index], linestyle=line, label=f"[{index}]")
    if len(parts) > 1 and axes.lines:
        axes.legend()


@look.style()
def training_details(history: History, *, against: Against | str = "epoch", title: str = "") -> Figure:
    """What training did in each epoch, whatever came of it.

    Panels: learning rate at the epoch's end; means over its steps of the gradient's norm, the parameters' norm and the
    update's norm relative to it; hits dropped, of patterns with more than there are slots; loss scale and skipped
    steps, where recorded; seconds that the epoch took, and its parts, one entry each; and every scheduled setting, with
    a curve for each of its numbers (at most 4 of a list, `[0]` the first; at most 12 settings, a note counts the rest).

    `history` as for `training_curves`, of each record `learning_rate`, `train`, `hits_dropped`, `time`, `scheduled`.
    What falls by more than a factor of 10 has a logarithmic axis. Missing values, panels without any and errors are as
    in `metrics_grid`.
    """
    [x], label = abscissas({"the history": history}, against)
    known = {path: values(history, *path) for path in _DETAILS}
    shown = [path for path in _DETAILS if path[-1] not in _ONLY_IF_RECORDED or not np.isnan(known[path]).all()]
    scheduled = _scheduled(history)
    n_panels = len(shown) + 1 + min(len(scheduled), _MOST_SCHEDULED)
    height = 2.2 * -(-n_panels // _DETAIL_COLUMNS) + 0.6
    figure = look.new_figure(9.6, height, name=f"training details against {against}", title=title)
    panels = panel_grid(figure, n_panels, n_columns=_DETAIL_COLUMNS)
    for path, axes in zip(shown, panels, strict=False):
        axes.set_title(_DETAILS[path].label)
        draw_curve(axes, x, known[path], color=look.BLACK)
        finish_panel(axes, _DETAILS[path], against=against)
    axes = panels[len(shown)]
    axes.set_title("duration of an epoch (s)")
    _draw_seconds(axes, x, history)
    finish_panel(axes, Quantity("seconds"), against=against)
    for axes, (key, parts) in zip(panels[len(shown) + 1 :], scheduled.items(), strict=False):
        axes.set_title(f"{shown_name(key)}, scheduled", parse_math=False)
        _draw_scheduled(axes, x, parts)
        finish_panel(axes, Quantity("scheduled", may_be_log=True), against=against)
    share_abscissa(panels, [x], label, n_columns=_DETAIL_COLUMNS)
    if len(scheduled) > _MOST_SCHEDULED:
        notes = [f"{len(scheduled) - _MOST_SCHEDULED} more settings are scheduled"]
        name_legend(figure, [], [], n_columns=1, notes=notes)
    return figure
