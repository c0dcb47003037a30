"""Figures of numbers: how a training went, and how good its outputs are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import check_choice, number
from tofae_jax.plots.labels import LOSS, QUALITIES, LossNames, Quantity, shown_name

Against = Literal["epoch", "time"]
Output = Literal["input", "direct", "masked"]
History = Sequence[Mapping[str, Any]]


LARGEST = 1e100  # what is beyond it is no measurement, and the span of an axis would overflow
_LOG_FROM = 10.0  # what falls by more than this factor is drawn on a logarithmic axis
_FEW_DECADES = 300.0  # an axis that spans less needs more ticks than powers of 10
_MARKERS_UP_TO = 40  # points of a curve
_LINES = {"direct": "--", "masked": "-", "train": "-", "validation": "--"}
_BEYOND = 0.02  # of an axis with limits, so that what lies at them is seen


def value(record: Mapping[str, Any], *names: str) -> float:
    """A number of a record that an axis can show, NaN where it is missing, None, not finite or beyond 1e100."""
    found = number(record, *names)
    return found if abs(found) <= LARGEST else math.nan


def values(history: History, *names: str) -> np.ndarray:
    """`value` of every record."""
    return np.array([value(record, *names) for record in history], np.float64)


def _epochs(history: History, name: str) -> np.ndarray:
    epochs = values(history, "epoch")
    if np.isnan(epochs).any():
        raise ValueError(f"record {int(np.argmax(np.isnan(epochs)))} of {name} has no number 'epoch'")
    return epochs


def _elapsed_s(history: History) -> np.ndarray:
    seconds = values(history, "time", "epoch_s")
    return np.where(np.isnan(seconds), np.nan, np.nancumsum(seconds))


def abscissas(histories: Mapping[str, History], against: Against | str) -> tuple[list[np.ndarray], str]:
    """Where the records of each history lie on one axis that they share, and what that axis is called.

    "epoch" is the epoch's number, "time" the sum of all durations up to the epoch's end: every epoch has one entry, its
    own duration. An epoch of unknown duration is NaN and adds nothing. Time has one unit, which suits the longest.
    Raises `ValueError` for an unknown `against`, and against epochs for a record without one, by the history's name.
    """
    check_choice("against", against, Against)
    if against == "epoch":
        return [_epochs(history, name) for name, history in histories.items()], "epoch"
    elapsed = [_elapsed_s(history) for history in histories.values()]
    together = np.concatenate([np.zeros(1), *elapsed])
    longest = np.max(together, initial=0, where=~np.isnan(together))
    for unit, length_s in (("h", 3600), ("min", 60)):
        if longest >= 2 * length_s:
            return [times / length_s for times in elapsed], f"training time ({unit})"
    return elapsed, "training time (s)"


def draw_curve(axes: Axes, x: np.ndarray, y: np.ndarray, **how: Any) -> bool:
    """Draw what is known of a curve, with a marker at each of few points; False if that is nothing."""
    known = ~np.isnan(x) & ~np.isnan(y)
    if not known.any():
        return False
    how.setdefault("marker", "o" if known.sum() <= _MARKERS_UP_TO else "")
    axes.plot(x[known], y[known], **how)
    return True


def finish_panel(axes: Axes, quantity: Quantity, *, against: Against | str) -> None:
    """Grid, limits and a scale that suits the drawn curves; without any, the panel says so."""
    if not axes.lines:
        look.empty_panel(axes, "no values")
        return
    axes.grid(visible=True)
    if against == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if quantity.limits is not None:
        low, high = quantity.limits
        beyond = _BEYOND * (high - low)
        axes.set_ylim(low - beyond, high + beyond)
    drawn = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    if quantity.limits is None and not drawn.any():
        axes.set_ylim(-0.05, 1)  # counts of nothing: around 0 there would be negative ones
    if quantity.may_be_log and drawn.min() > 0 and drawn.max() / _LOG_FROM > drawn.min():
        axes.set_yscale("log")
        if drawn.max() / _FEW_DECADES < drawn.min():
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_losses(
    axes: Axes, x: np.ndarray, history: History, names: LossNames | None, *, against: Against | str
) -> None:
    """Draw the losses of training and validation on axes that carry their names; two different ones have one each."""
    curves = {part: values(history, part, "loss") for part in look.PARTS}
    known = [part for part, y in curves.items() if not np.isnan(x + y).all()]
    names = names or LossNames()
    is_one = names.train == names.validation
    panels = dict.fromkeys(known, axes) | ({} if is_one or len(known) < 2 else {"validation": axes.twinx()})
    for part, panel in panels.items():
        draw_curve(panel, x, curves[part], color=look.PARTS[part], linestyle=_LINES[part], label=part)
        name = shown_name(getattr(names, part)) if getattr(names, part) else ""
        if not is_one:
            panel.set_ylabel(f"{part}: {name or 'loss'}", color=look.PARTS[part], parse_math=False)
        elif name:
            panel.set_ylabel(name, parse_math=False)
    for panel in dict.fromkeys([axes, *panels.values()]):
        finish_panel(panel, LOSS, against=against)
        if panel is not axes:
            panel.grid(visible=False)
            panel.spines["right"].set_visible(True)
    if panels:
        top = list(panels.values())[-1]
        top.legend(handles=[line for panel in dict.fromkeys(panels.values()) for line in panel.lines])


def name_legend(
    figure: Figure, handles: Sequence[Any], names: Sequence[str], *, n_columns: int, notes: Sequence[str] = ()
) -> None:
    """Beneath the panels, small grey notes and a legend, if there are any; both are drawn literally."""
    if not handles:
        if notes:
            figure.supxlabel("\n".join(notes), fontsize=8, color=look.EMPTY_TEXT, parse_math=False)
        return
    # matplotlib leaves out labels that begin with an underscore, so the names come afterwards
    legend = figure.legend(list(handles), ["-"] * len(handles), loc="outside lower center", ncols=n_columns)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)
    if notes:  # as the legend's title: a text of its own would lie on it
        legend.get_title().set_parse_math(False)
        legend.set_title("\n".join(notes))
        legend.get_title().set(color=look.EMPTY_TEXT, fontsize=8, multialignment="center")


def confidence_interval(result: Mapping[str, Any], output: str, name: str) -> tuple[float, float]:
    """`result["intervals"][output][name]`, low and high; two NaN where there is none that makes sense."""
    found: Any = result
    for key in ("intervals", output, name):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Sequence | np.ndarray) or isinstance(found, str) or len(found) != 2:
        return math.nan, math.nan
    low, high = (value({"end": end}, "end") for end in found)
    return (low, high) if low <= high else (math.nan, math.nan)


def draw_bars(
    axes: Axes, places: np.ndarray, heights: np.ndarray, intervals: np.ndarray, *, width: float, fmt: str, **how: Any
) -> BarContainer:
    """Bars with their intervals `[n, 2]`, where these are not NaN, and their numbers above, unless `fmt` is empty.

    A height of NaN has no bar; "n/a" stands in its place.
    """
    bars = axes.bar(places, np.nan_to_num(heights), width, **how)
    known = ~np.isnan(heights) & ~np.isnan(intervals).any(axis=1)
    if known.any():
        # a height outside of its interval still has a bar, but no length below 0
        reach = np.maximum([heights - intervals[:, 0], intervals[:, 1] - heights], 0)[:, known]
        drawn = {"ecolor": "#333333", "elinewidth": 1.0, "capsize": min(2.5, 15 * width), "fmt": "none"}
        axes.errorbar(places[known], heights[known], reach, **drawn)
    tops = np.where(known, np.fmax(heights, intervals[:, 1]), np.nan_to_num(heights))
    for place, height, top in zip(places, heights, np.maximum(tops, 0), strict=True):
        text = "n/a" if math.isnan(height) else fmt and format(height, fmt)
        if text:
            how = {"ha": "center", "va": "bottom", "fontsize": 8 if fmt else 6}
            axes.annotate(text, (place, top), (0, 2), textcoords="offset points", **how)
    return bars


def interval_notes(*panels: Axes) -> list[str]:
    """What error bars mean, where the panels have any."""
    return ["error bars: 95 % confidence intervals"] if any(axes.collections for axes in panels) else []


def share_axis(axes: Axes, headings: Sequence[str], label: str = "share") -> None:
    """Limits, ticks and grid of bars of shares, in groups with these headings."""
    axes.set_xticks(range(len(headings)), list(headings))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(label)
    axes.grid(visible=True, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    if label == "share":
        axes.set_ylim(0, 1.12)
        axes.set_yticks(np.linspace(0, 1, 6))


@look.style()
def training_curves(
    history: History, *, against: Against | str = "epoch", losses: LossNames | None = None, title: str = ""
) -> Figure:
    """Loss, efficiency, purity and F1 against epoch, or against the time that training took.

    `history` holds the epochs' records as `metrics.jsonl` does: `epoch`, `train.loss`, `validation.loss`,
    `validation.direct.efficiency` and so on, `time.epoch_s`. A value that is missing, None or not finite is left out,
    and its neighbours are joined. An epoch without a known duration is left out against time and adds nothing to it.
    The axes of the losses carry their names `losses`: two axes where those of training and validation differ. Raises
    `ValueError` for an unknown `against`, and for a record without its epoch.
    """
    [x], label = abscissas({"the history": history}, against)
    figure = look.new_figure(8.6, 5.8, name=f"training curves against {against}", title=title)
    panels = figure.subplots(2, 2)
    panels[0, 0].set_title(LOSS.heading)
    draw_losses(panels[0, 0], x, history, losses, against=against)
    for axes, name in zip(list(panels.flat)[1:], ("efficiency", "purity", "f1"), strict=True):
        axes.set_title(f"{QUALITIES[name].heading}, validation")
        for output in ("direct", "masked"):
            y = values(history, "validation", output, name)
            draw_curve(axes, x, y, linestyle=_LINES[output], color=look.OUTPUTS[output], label=output)
        if axes.lines:
            axes.legend()
        finish_panel(axes, QUALITIES[name], against=against)
    for axes in panels[-1]:
        axes.set_xlabel(label)
    return figure


@look.style()
def output_comparison(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Bars of efficiency, purity, F1 and noise rejection for the input, the direct and the masked output.

    `result` is what `metrics.compute` returns. A value that is missing, None or not finite has no bar, and "n/a" stands
    in its place. Where `result["intervals"]` has `[low, high]` for an output and metric, an error bar shows it; a note
    says that these are 95 % confidence intervals. Without events, where all shares are 1 by definition, the panel says
    so instead.
    """
    figure = look.new_figure(7.6, 3.9, name="comparison of outputs", title=title)
    axes = figure.subplots()
    names = [name for name, quantity in QUALITIES.items() if quantity.unit == "share"]
    if result.get("events") == 0 or not any(name in result for name in look.OUTPUTS):
        look.empty_panel(axes, "no events")
        return figure
    width = 0.8 / len(look.OUTPUTS)
    for index, (output, colour) in enumerate(look.OUTPUTS.items()):
        heights = np.array([value(result, output, name) for name in names])
        intervals = np.array([confidence_interval(result, output, name) for name in names])
        places = np.arange(len(names)) + (index - (len(look.OUTPUTS) - 1) / 2) * width
        draw_bars(axes, places, heights, intervals, width=0.94 * width, label=output, color=colour, fmt=".3f")
    share_axis(axes, [QUALITIES[name].heading for name in names])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(look.OUTPUTS))
    name_legend(figure, [], [], n_columns=1, notes=interval_notes(axes))
    return figure
