"""Figures that compare runs: how their training went, and how good their outputs are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tofae_jax.plots import style as look
from tofae_jax.plots.curves import (
    Against,
    History,
    Output,
    abscissas,
    confidence_interval,
    draw_bars,
    draw_curve,
    finish_panel,
    interval_notes,
    name_legend,
    share_axis,
    value,
    values,
)
from tofae_jax.plots.detector_axes import check_choice
from tofae_jax.plots.labels import LOSS, QUALITIES, LossNames, Quantity, shown_name
from tofae_jax.plots.metric_grid import panel_grid, share_abscissa

_COLOURS = (look.BLUE, look.VERMILLION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY_BLUE, look.BLACK)
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "////", "....", "xxxx")
_MARKED = 10  # points of a long curve that share its colour with another
_NUMBERS_UP_TO = 24  # bars with their values above them
_NAMED_UNITS = ("share", "%", "dB", "t/T", "t²/T²")
_LEGEND_CHARACTERS = 100  # that fit beside each other under a figure of the usual width
_NOTES_UP_TO = 8
_NOTE_SIGNS = 84

_RADAR = {
    "efficiency": (0.0, 1.0),
    "purity": (0.0, 1.0),
    "f1": (0.0, 1.0),
    "noise_rejection": (0.0, 1.0),
    "true_positive_xy_percent": (0.0, 100.0),
    "true_positive_tof_near_percent": (0.0, 100.0),
    "correlation": (0.0, 1.0),
    "nmi": (0.0, 1.0),
    "ssim": (0.0, 1.0),
    "psnr_db": (0.0, 60.0),
}
"""Metrics of a radar, clockwise from the top, and their values at its centre and its rim. 60 dB: the root mean square
error over all pixels is a thousandth of the time range, one bin of the usual detector."""


def _line(index: int) -> dict[str, Any]:
    """Colour, line and marker of a run; more runs than colours differ in line and marker."""
    turn = index // len(_COLOURS)
    colour, line = _COLOURS[index % len(_COLOURS)], _LINES[turn % len(_LINES)]
    return {"color": colour, "linestyle": line, "marker": _MARKERS[turn % len(_MARKERS)]}


def _names(runs: Iterable[str]) -> list[str]:
    """How the runs' names are shown; those that look alike are numbered."""
    names = [shown_name(run) for run in runs]
    seen: dict[str, int] = {}
    shown = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        shown.append(f"{name} [{seen[name]}]" if names.count(name) > 1 else name)
    return shown


def _legend_columns(names: Sequence[str], *, characters: int = _LEGEND_CHARACTERS) -> int:
    longest = max(map(len, names), default=1) + 6
    return max(1, min(len(names), 4, characters // longest))


def _legend_inches(names: Sequence[str]) -> float:
    return 0.2 * -(-len(names) // _legend_columns(names))


def _path(metric: Any) -> tuple[str, ...]:
    """Where a record has the metric."""
    if not isinstance(metric, str) or not metric.strip():
        raise ValueError(f"metrics has {metric!r}, expected dotted names such as 'loss' or 'masked.f1'")
    keys = metric.split(".")
    return tuple(keys) if keys[0] == "train" and len(keys) > 1 else ("validation", *keys)


def _is_loss(path: tuple[str, ...]) -> bool:
    return path[1:] == ("loss",) and path[0] in LossNames._fields


def _panels(paths: Sequence[tuple[str, ...]], losses: Sequence[LossNames]) -> list[tuple[tuple[str, ...], str | None]]:
    """Give every metric a panel, and each of several losses one; with the loss's name, None for other metrics."""
    panels = []
    for path in paths:
        of_runs = [getattr(names, path[0]) for names in losses] if _is_loss(path) else [None]
        panels += [(path, name) for name in dict.fromkeys(of_runs or [None])]
    return panels


def _quantity(path: tuple[str, ...]) -> tuple[str, Quantity]:
    """A panel's heading, and how its values are drawn."""
    part, *keys = path
    if _is_loss(path):
        return f"loss, {part}", LOSS
    if len(keys) == 2 and keys[0] in look.OUTPUTS and keys[1] in QUALITIES:
        quantity = QUALITIES[keys[1]]
        return f"{quantity.label}, {keys[0]}", quantity
    name = shown_name(".".join(keys))
    return f"{name}, {part}", Quantity(name, may_be_log=True)


@look.style()
def compare_curves(
    histories: Mapping[str, History | None],
    *,
    metrics: Sequence[Any] = ("loss", "masked.efficiency", "masked.purity", "masked.f1"),
    against: Against | str = "epoch",
    losses: Mapping[str, LossNames] | None = None,
    title: str = "",
) -> Figure:
    """One panel per metric with a curve per run, by the runs' names; the same colour, line and marker in all panels.

    Metrics are dotted names of the validation as `tofae_jax.metrics.metric_names` gives them, or of the training, e.g.
    `train.loss`; histories as for `training_curves`. The axis of a loss carries its name, which `losses` has by the
    run's name; runs of other losses have panels of their own. All runs have the same axes, against time in one unit;
    each has its own length, and one without any is named in the legend. More runs than colours differ in line and
    marker. Long names are shortened in the middle, and names that then look alike are numbered.

    Missing values are left out as in `training_curves`; a metric that no run knows has a panel that says so, as has
    the figure without runs or metrics. Raises `ValueError` for a metric that is no text or empty, for an unknown
    `against`, and against epochs for a record without one, naming the run.
    """
    if isinstance(metrics, str):
        raise ValueError(f"metrics is {metrics!r}, expected several names")
    losses = losses or {}
    of_runs = [losses.get(name, LossNames()) for name in histories]
    paths = _panels([_path(metric) for metric in metrics], of_runs)
    names = _names(histories)
    known = {f"the history of run {name!r}": history or () for name, history in histories.items()}
    abscissa, label = abscissas(known, against)
    columns = min(max(len(paths), 1), 2 if len(paths) <= 4 else 3)
    rows = max(1, -(-len(paths) // columns))
    size = (3.2 * columns + 2.2 if columns < 3 else 11.0, 2.6 * rows + 0.5 + _legend_inches(names))
    figure = look.new_figure(*size, name=f"comparison of runs against {against}", title=title)
    panels = panel_grid(figure, max(1, len(paths)), n_columns=columns)
    if not paths or not histories:
        for axes in panels:
            look.empty_panel(axes, "no runs" if paths else "no metrics")
    drawn = [False] * len(names)
    for axes, (path, loss) in zip(panels, paths, strict=False):
        heading, quantity = _quantity(path)
        axes.set_title(heading, parse_math=False)
        if loss:
            axes.set_ylabel(shown_name(loss), parse_math=False)
        if not histories:
            continue
        for index, (x, history) in enumerate(zip(abscissa, known.values(), strict=True)):
            if loss is None or loss == getattr(of_runs[index], path[0]):
                drawn[index] |= _draw_run(axes, x, values(history, *path), index)
        finish_panel(axes, quantity, against=against)
    share_abscissa(panels, abscissa, label, n_columns=columns)
    handles = [Line2D([], [], **_line(index)) for index in range(len(names))]
    ends = ["" if shown or not paths else " (no values)" for shown in drawn]
    ends = [end if len(history) else " (no history)" for end, history in zip(ends, known.values(), strict=True)]
    names = [name + end for name, end in zip(names, ends, strict=True)]
    name_legend(figure, handles, names, n_columns=_legend_columns(names))
    return figure


def _draw_run(axes: Axes, x: np.ndarray, y: np.ndarray, index: int) -> bool:
    how = _line(index)
    if index < len(_COLOURS):
        del how["marker"]  # its colour tells it apart: a long curve needs none
    else:
        how["markevery"] = max(1, len(y) // _MARKED)
    return draw_curve(axes, x, y, **how)


def _scores(result: Mapping[str, Any], output: str) -> np.ndarray:
    """A result's place on each spoke, in [0, 1]."""
    low, high = np.array(list(_RADAR.values())).T
    found = np.array([value(result, output, name) for name in _RADAR])
    return np.clip((found - low) / (high - low), 0, 1)


def _mark(result: Mapping[str, Any] | None) -> str:
    """Why a result has no values, if it can have none: without events all shares are 1 by definition."""
    return "not evaluated" if not result else "no events" if result.get("events") == 0 else ""


def _notes(names: Sequence[str], marks: Sequence[str], scores: Sequence[np.ndarray]) -> list[str]:
    """What each run of a radar lacks; of many, the first. Long ones are broken into lines."""
    texts = []
    for name, mark, found in zip(names, marks, scores, strict=True):
        lacking = [
            QUALITIES[key].heading.replace(",", "") for key, score in zip(_RADAR, found, strict=True) if np.isnan(score)
        ]
        if len(lacking) == len(_RADAR):
            texts.append(f"{name}: {mark or 'no values'}")
        elif lacking:
            texts.append(f"{name}: no {', '.join(lacking)}")
    more = len(texts) - _NOTES_UP_TO
    texts = texts if more <= 0 else [*texts[:_NOTES_UP_TO], f"and {more} more runs without all values"]
    return [line for text in texts for line in wrap(text, _NOTE_SIGNS)]


def _radar_axes(figure: Figure) -> Any:
    """Polar axes with a spoke per metric, each with its raw range."""
    axes: Any = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    angles = 2 * np.pi * np.arange(len(_RADAR)) / len(_RADAR)
    axes.set_xticks(angles, [""] * len(_RADAR))
    for angle, (name, (low, high)) in zip(angles, _RADAR.items(), strict=True):
        quantity = QUALITIES[name]
        unit = f" {quantity.unit}" if quantity.unit and quantity.unit != "share" else ""
        across, up = np.sin(angle), np.cos(angle)
        side = "center" if abs(across) < 0.1 else "left" if across > 0 else "right"
        level = "center" if abs(up) < 0.9 else "bottom" if up > 0 else "top"
        heading = quantity.heading.replace(", ", "\n")
        axes.text(angle, 1.07, f"{heading}\n{low:g} to {high:g}{unit}", ha=side, va=level, linespacing=1.15)
    axes.set_ylim(0, 1)
    axes.set_yticks([0.2, 0.4, 0.6, 0.8, 1.0], ["0.2", "0.4", "0.6", "0.8", "1"])
    axes.set_rlabel_position(np.degrees(angles[1] / 2))
    axes.tick_params(axis="y", labelsize=7, labelcolor=look.EMPTY_TEXT)
    axes.grid(visible=True)
    axes.spines["polar"].set_color("#BBBBBB")
    return axes


@look.style()
def radar(
    results: Mapping[str, Mapping[str, Any] | None], *, output: Output | str = "masked", title: str = ""
) -> Figure:
    """Ten metrics of one output of several runs at once, each from 0 at the centre to 1, which is perfect, at the rim.

    The rule is the same whatever the runs: `(value - low) / (high - low)`, clipped to [0, 1], with low and high

    - 0 and 1: efficiency, purity, F1, noise rejection, NMI, SSIM, correlation (what is below 0 counts as 0);
    - 0 and 100 %: true positives in xy, and those of them that are near in time of flight, of the target's lit pixels;
    - 0 and 60 dB: PSNR. At 0 dB the error of every pixel is the time range, at 60 dB a thousandth of it.

    Each spoke's label states this range. `results` is what `metrics.compute` returns, by the runs' names, None for one
    that was not evaluated. A missing value is a gap in the polygon, and a note beneath names it; a run without any, or
    without events, is noted too. Without any value at all the panel says so. Raises `ValueError` for an unknown output.
    """
    check_choice("output", output, Output)
    names, marks = _names(results), [_mark(result) for result in results.values()]
    runs = [{} if mark or not result else result for mark, result in zip(marks, results.values(), strict=True)]
    scores = [_scores(run, str(output)) for run in runs]
    notes = _notes(names, marks, scores)
    shown = [index for index, found in enumerate(scores) if not np.isnan(found).all()]
    height = 5.6 + _legend_inches(names) + 0.16 * len(notes)
    figure = look.new_figure(6.6, height, name=f"radar of the {output} output", title=title)
    if shown:
        axes = _radar_axes(figure)
        for index in shown:
            _draw_polygon(axes, scores[index], index, is_filled=len(shown) <= 3)
    else:
        look.empty_panel(figure.subplots(), f"no values of the {output} output" if results else "no runs")
    handles = [Line2D([], [], **_line(index)) for index in shown]
    names = [names[index] for index in shown]
    name_legend(figure, handles, names, n_columns=_legend_columns(names, characters=66), notes=notes)
    return figure


def _draw_polygon(axes: Any, scores: np.ndarray, index: int, *, is_filled: bool) -> None:
    """Closed where it has no gap; what lies between two gaps is a marker of its own."""
    angles = 2 * np.pi * np.arange(len(scores) + 1) / len(scores)
    closed = np.append(scores, scores[0])
    axes.plot(angles, closed, **_line(index), clip_on=False, zorder=3)
    if is_filled and not np.isnan(scores).any():
        axes.fill(angles, closed, color=_line(index)["color"], alpha=0.08, linewidth=0)


@look.style()
def compare_outputs(
    results: Mapping[str, Mapping[str, Any] | None],
    *,
    metrics: Sequence[Any] = ("efficiency", "purity", "f1", "noise_rejection"),
    output: Output | str = "masked",
    title: str = "",
) -> Figure:
    """Bars of some metrics of one output, grouped by metric, a bar per run; a panel for each unit.

    `results` as for `radar`, `metrics` are names within an output. Where `result["intervals"][output][metric]` is
    `[low, high]`, an error bar shows it; a note says that these are 95 % confidence intervals. A value that is missing,
    None or not finite has no bar, and "n/a" stands in its place; a run that was not evaluated, or had no events, is so
    marked in the legend. Few bars have their values above them. Without runs, metrics or any value the panel says so.
    Raises `ValueError` for an unknown output and for a metric that is no text or empty.
    """
    check_choice("output", output, Output)
    if isinstance(metrics, str):
        raise ValueError(f"metrics is {metrics!r}, expected several names")
    groups: dict[str, list[str]] = {}
    for metric in metrics:
        _path(metric)
        quantity = QUALITIES.get(metric, Quantity(metric, unit=metric))
        groups.setdefault(quantity.unit or quantity.heading, []).append(metric)
    names, marks = _names(results), [_mark(result) for result in results.values()]
    runs = [{} if mark or not result else result for mark, result in zip(marks, results.values(), strict=True)]
    is_known = any(not np.isnan(value(run, str(output), metric)) for run in runs for metric in metrics)
    n_bars = len(metrics) * len(runs) if is_known else 0
    width = float(np.clip(1.6 + 0.42 * n_bars, 7.6, 14.0))
    figure = look.new_figure(width, 3.7 + _legend_inches(names), name=f"comparison of the {output} output", title=title)
    notes: list[str] = []
    if is_known:
        ratios = [len(group) for group in groups.values()]
        panels = figure.subplots(1, len(groups), squeeze=False, width_ratios=ratios)[0]
        for axes, (unit, group) in zip(panels, groups.items(), strict=True):
            _draw_group(axes, unit, group, runs, str(output), has_numbers=n_bars <= _NUMBERS_UP_TO)
        notes = interval_notes(*panels)
    else:
        nothing = "no values" if runs and metrics else "no metrics" if runs else "no runs"
        look.empty_panel(figure.subplots(), nothing)
    handles = [Patch(**_bar(index)) for index in range(len(names))]
    shown = [f"{name} ({mark})" if mark else name for name, mark in zip(names, marks, strict=True)]
    name_legend(figure, handles, shown, n_columns=_legend_columns(shown), notes=notes)
    return figure


def _bar(index: int) -> dict[str, Any]:
    hatch = _HATCHES[index // len(_COLOURS) % len(_HATCHES)]
    return {"facecolor": _COLOURS[index % len(_COLOURS)], "edgecolor": "white", "linewidth": 0, "hatch": hatch}


def _draw_group(
    axes: Axes, unit: str, group: Sequence[str], runs: Sequence[Mapping[str, Any]], output: str, *, has_numbers: bool
) -> None:
    """The metrics of one unit."""
    width = 0.84 / len(runs)
    fmt = "" if not has_numbers else ".3f" if unit == "share" else ".3g"
    is_known = False
    for index, run in enumerate(runs):
        heights = np.array([value(run, output, metric) for metric in group])
        intervals = np.array([confidence_interval(run, output, metric) for metric in group])
        places = np.arange(len(group)) + (index - (len(runs) - 1) / 2) * width
        draw_bars(axes, places, heights, intervals, width=0.94 * width, fmt=fmt, **_bar(index))
        is_known |= bool(np.any(~np.isnan(heights)))
    quantities = [QUALITIES.get(metric, Quantity(shown_name(metric, most=24))) for metric in group]
    share_axis(axes, [quantity.heading for quantity in quantities], unit if unit in _NAMED_UNITS else "")
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    if not is_known:
        axes.set_ylim(0, 10)  # whatever: it has no ticks, and "n/a" stands at its foot
        axes.set_yticks([])
    elif axes.get_ylim()[0] < 0:
        axes.axhline(0, color="#333333", linewidth=0.7)
