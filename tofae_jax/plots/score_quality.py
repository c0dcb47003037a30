"""Figures of scores against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tofae_jax.plots import style as look


def _reliability(axes: Axes, score: np.ndarray, share: np.ndarray, n_hits: np.ndarray) -> None:
    axes.set_title("reliability, validation")
    axes.set_xlabel("score of a hit")
    axes.set_ylabel("share of signal")
    filled = n_hits > 0
    if not filled.any():
        look.empty_panel(axes, "no scores")
        return
    axes.plot([0, 1], [0, 1], "--", color=look.BLACK, label="calibrated")
    known, n = share[filled], n_hits[filled]
    spread = np.sqrt(np.maximum(known * (1 - known), 1 / n) / n)
    axes.errorbar(score[filled], known, spread, fmt="o", color=look.BLUE, label="hits of a score, 68 %")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True)
    counts = axes.twinx()
    counts.stairs(n_hits, np.linspace(0, 1, len(n_hits) + 1), color=look.BARS)
    counts.set_yscale("log")
    counts.set_ylim(0.5, 100 * n_hits.max())  # the lower half of the panel
    counts.set_ylabel("hits (steps)")
    axes.legend(loc="upper left")


def _cuts(axes: Axes, efficiency: np.ndarray, purity: np.ndarray, point: Mapping[str, Any] | None) -> None:
    axes.set_title("cuts on the score, validation")
    axes.set_xlabel("efficiency")
    axes.set_ylabel("purity")
    if not len(efficiency):
        look.empty_panel(axes, "no signal")
        return
    axes.plot(efficiency, purity, color=look.BLUE)
    if point:
        reached = point["validation"]
        label = f"chosen for {point['chosen_for']}: {point['score_threshold']:.3g}"
        axes.plot(reached["efficiency"], reached["purity"], "o", color=look.VERMILLION, label=label)
        axes.legend(loc="lower left")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid(visible=True)


@look.style()
def score_quality(
    reliability: tuple[np.ndarray, np.ndarray, np.ndarray],
    cuts: tuple[np.ndarray, np.ndarray],
    *,
    point: Mapping[str, Any] | None = None,
    title: str = "",
) -> Figure:
    """How far scores can be trusted, and what cuts on them give.

    Args:
        reliability: mean score, share of signal and number of hits of each bin of the score, `[n]` each, as
            `metrics.reliability` gives them; empty bins have no hits.
        cuts: efficiency and purity of each cut.
        point: the operating point, as `run.json` keeps it; None: none was chosen.
        title: of the figure.
    """
    figure = look.new_figure(9.4, 4.2, name="scores of hits", title=title)
    left, right = figure.subplots(1, 2)
    _reliability(left, *reliability)
    _cuts(right, *cuts, point)
    return figure
