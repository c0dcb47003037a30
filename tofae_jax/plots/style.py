"""The look of all figures: fonts, colours, sizes; and what every figure needs, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

# Told apart by colour-blind readers: Okabe and Ito, "Color Universal Design" (2008)
BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

# Okabe and Ito's vermillion is orange rather than red; this is the red of "vibrant" in Tol, SRON/EPS/TN/09-002 (2021)
SIGNAL = "#CC3311"
NOISE = "#9A9A9A"  # lighter than the red: whoever sees no red, or a grey print, still tells them apart
KEPT_NOISE = BLACK
LIT = BLUE
OUTPUTS = {"input": NOISE, "direct": BLUE, "masked": ORANGE}
"""one colour per output, the same in every figure"""
PARTS = {"train": BLACK, "validation": GREEN}
"""one colour per part of the data"""
BARS = BLUE
EMPTY_TEXT = "#666666"

_PALEST = 0.88  # of viridis: beyond it is yellow, lost on white
TIME_COLOURS = ListedColormap(colormaps["viridis"].resampled(256)(range(int(256 * _PALEST))), name="time")

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": "#333333",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.direction": "out",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "figure.titlesize": 11,
    "figure.dpi": 150,
    "savefig.dpi": "figure",
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.07,
}


@contextmanager
def style() -> Iterator[None]:
    """Within it, figures are drawn in our style, whatever the reader's own settings; afterwards those hold again.

    Also a decorator, `@style()`. Drawing and saving belong inside it as well as making.
    """
    with matplotlib.style.context(["default", _SETTINGS]):
        yield


def new_figure(width_inches: float, height_inches: float, *, name: str, title: str = "") -> Figure:
    """A figure that pyplot does not know, so nothing has to close it; `figure.get_label()` is `name`, what it shows."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", label=name)
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, parse_math=False)  # it may be a name, whatever dollar signs that has
    return figure


def annotate_empty(axes: Axes, message: str = "no hits") -> None:
    """Say in the middle of a panel why there is nothing in it; its axes stay. Also for 3-D axes."""
    write = getattr(axes, "text2D", axes.text)
    write(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color=EMPTY_TEXT, fontstyle="italic")


def empty_panel(axes: Axes, message: str) -> None:
    """A panel without data: only its frame, its title and the message."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    annotate_empty(axes, message)
