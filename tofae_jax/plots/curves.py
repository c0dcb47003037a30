"""Figures of numbers: how a training went, and how good its outputs are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.plots import style as look
from tofae_jax.plots.frame import check_choice, number

Against = Literal["epoch", "time"]
_SHARES = {"efficiency": "efficiency", "purity": "purity", "f1": "F1"}
_LOG_FROM = 10.0  # a loss that falls by more than this factor is drawn on a logarithmic axis
_MARKERS_UP_TO = 40  # points of a curve
_LINES = {"direct": "--", "masked": "-", "train": "-", "validation": "--"}


def _abscissa(history: Sequence[Mapping[str, Any]], against: str) -> tuple[np.ndarray, str]:
    if against == "epoch":
        epochs = np.array([number(record, "epoch") for record in history], np.float64)
        if np.isnan(epochs).any():
            raise ValueError(f"record {int(np.argmax(np.isnan(epochs)))} of the history has no number 'epoch'")
        return epochs, "epoch"
    seconds = np.array([number(record, "time", "epoch_s") for record in history], np.float64)
    elapsed = np.where(np.isnan(seconds), np.nan, np.nancumsum(seconds))
    longest = np.max(elapsed, initial=0, where=~np.isnan(elapsed))
    for unit, length_s in (("h", 3600), ("min", 60)):
        if longest >= 2 * length_s:
            return elapsed / length_s, f"training time ({unit})"
    return elapsed, "training time (s)"


def _curves(axes: Axes, x: np.ndarray, curves: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> bool:
    """Draw what is known of each curve; False if that is nothing, and the panel says so."""
    drawn = False
    for name, y in curves.items():
        known = ~np.isnan(x) & ~np.isnan(y)
        if known.any():
            marker = "o" if known.sum() <= _MARKERS_UP_TO else ""
            axes.plot(x[known], y[known], _LINES[name], color=colours[name], marker=marker, label=name)
            drawn = True
    if not drawn:
        look.empty_panel(axes, "no values")
        return False
    axes.grid(visible=True)
    axes.legend()
    return True


def _loss_scale(axes: Axes, losses: Mapping[str, np.ndarray]) -> None:
    known = np.concatenate([values[~np.isnan(values)] for values in losses.values()])
    if known.min() > 0 and known.max() / known.min() > _LOG_FROM:
        axes.set_yscale("log")


@look.style()
def training_curves(
    history: Sequence[Mapping[str, Any]], *, against: Against | str = "epoch", title: str = ""
) -> Figure:
    """Loss, efficiency, purity and F1 against epoch, or against the time that training took.

    `history` holds the epochs' records as `metrics.jsonl` does: `epoch`, `train.loss`, `validation.loss`,
    `validation.direct.efficiency` and so on, `time.epoch_s`. A value that is missing, None or not finite is left out,
    and its neighbours are joined. An epoch without a known duration is left out against time and adds nothing to it.
    Raises `ValueError` for an unknown `against`, and for a record without its epoch.
    """
    check_choice("against", against, Against)
    x, label = _abscissa(history, against)
    figure = look.new_figure(8.6, 5.8, name=f"training curves against {against}", title=title)
    panels = figure.subplots(2, 2)
    losses = {part: np.array([number(record, part, "loss") for record in history]) for part in look.PARTS}
    panels[0, 0].set_title("loss")
    if _curves(panels[0, 0], x, losses, look.PARTS):
        _loss_scale(panels[0, 0], losses)
    for axes, (name, heading) in zip(panels.flat[1:], _SHARES.items(), strict=True):
        axes.set_title(f"{heading}, validation")
        outputs = {
            output: np.array([number(record, "validation", output, name) for record in history])
            for output in ("direct", "masked")
        }
        if _curves(axes, x, outputs, look.OUTPUTS):
            axes.set_ylim(-0.02, 1.02)
    for axes in panels.flat:
        if axes.lines and against == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in panels[-1]:
        axes.set_xlabel(label)
    return figure


@look.style()
def output_comparison(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Bars of efficiency, purity, F1 and noise rejection for the input, the direct and the masked output.

    `result` is what `metrics.compute` returns. A value that is missing, None or not finite has no bar, and "n/a" stands
    in its place. Without events, where all shares are 1 by definition, the panel says so instead.
    """
    figure = look.new_figure(7.6, 3.9, name="comparison of outputs", title=title)
    axes = figure.subplots()
    names = {**_SHARES, "noise_rejection": "noise rejection"}
    if result.get("events") == 0 or not any(name in result for name in look.OUTPUTS):
        look.empty_panel(axes, "no events")
        return figure
    width = 0.8 / len(look.OUTPUTS)
    for index, (output, colour) in enumerate(look.OUTPUTS.items()):
        heights = np.array([number(result, output, name) for name in names])
        places = np.arange(len(names)) + (index - (len(look.OUTPUTS) - 1) / 2) * width
        bars = axes.bar(places, np.nan_to_num(heights), 0.94 * width, color=colour, label=output)
        axes.bar_label(
            bars, ["n/a" if math.isnan(height) else f"{height:.3f}" for height in heights], padding=2, fontsize=8
        )
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1.12)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("share")
    axes.grid(visible=True, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(look.OUTPUTS))
    return figure
