"""Figures of a network's raw outputs about the threshold that tells hits from none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tofae_jax.plots import style as look
from tofae_jax.plots.detector_axes import number

_COUNTS = {
    "pattern_hits": ("pattern", look.BLACK, "-"),
    "signal_hits": ("kept signal", look.SIGNAL, "-"),
    "visible_signal_hits": ("visible signal", look.PURPLE, "--"),
    "noise_hits": ("noise", look.NOISE, "-"),
}


def _distribution(axes: Axes, outputs: Mapping[str, Any], epoch: Any) -> None:
    axes.set_title(f"raw outputs, validation, epoch {epoch}")
    axes.set_xlabel("raw output")
    counts = np.asarray(outputs.get("histogram", []))
    if not counts.any():
        look.empty_panel(axes, "no outputs")
        return
    axes.stairs(counts, np.linspace(0, 1, len(counts) + 1), fill=True, color=look.BARS)
    threshold = outputs["threshold"]
    axes.axvline(threshold, color=look.VERMILLION, linestyle="--", label=f"threshold {threshold:g}")
    axes.plot([], [], " ", label=f"above {outputs['above']:,d}".replace(",", " "))
    axes.plot([], [], " ", label=f"not above {outputs['below']:,d}".replace(",", " "))
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_ylim(top=30 * counts.max())  # room for the legend
    axes.set_ylabel("outputs")
    axes.legend(loc="upper right")


def _per_event(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("per event, validation")
    axes.set_xlabel("epoch")
    epochs = np.array([number(record, "epoch") for record in history])
    events = np.array([number(record, "validation", "events") for record in history])
    drawn = False

    def draw(values: np.ndarray, label: str, colour: str, line: str) -> bool:
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = values / events
        known = np.isfinite(mean) & np.isfinite(epochs)
        if known.any():
            axes.plot(epochs[known], mean[known], line, marker="o", color=colour, label=label)
        return bool(known.any())

    above = np.array([number(record, "validation", "outputs", "above") for record in history])
    drawn |= draw(above, "outputs above the threshold", look.BLUE, "-")
    for name, (label, colour, line) in _COUNTS.items():
        counts = np.array([number(record, "validation", "counts", name) for record in history])
        drawn |= draw(counts, f"{label} hits", colour, line)
    if not drawn:
        look.empty_panel(axes, "no values")
        return
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("number per event")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True)
    axes.legend()


@look.style()
def threshold_telemetry(history: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """Raw outputs of the last epoch about the threshold, and what lies above it in each epoch beside the true counts.

    `history` holds the epochs' records as `metrics.jsonl` does; of each, `epoch` and of its `validation` the `events`,
    `outputs` and `counts`. All counts are of the same events: the pattern before degradation, the signal kept of it,
    what of that no other hit occludes, and the noise. Records without a validation are left out; where nothing is
    left, the panels say so.
    """
    known = [record for record in history if isinstance(record.get("validation"), Mapping)]
    figure = look.new_figure(9.4, 3.8, name="outputs about the threshold", title=title)
    left, right = figure.subplots(1, 2)
    last: Mapping[str, Any] = known[-1] if known else {}
    _distribution(left, last.get("validation", {}).get("outputs") or {}, last.get("epoch", "-"))
    _per_event(right, known)
    return figure
