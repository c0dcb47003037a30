"""All that a report says on pages of a PDF, by matplotlib alone."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from tofae_jax.figures import Drawing
from tofae_jax.files import replacing
from tofae_jax.plots import style as look

A4_INCHES = (8.27, 11.69)
_MARGIN = 0.07
_LINES_PER_PAGE = 92
_SIGNS_PER_LINE = 118
_NO_DATE = {"CreationDate": None}  # the same run gives the same file


def _pages(lines: Iterable[str]) -> Iterator[list[str]]:
    wrapped = [
        part for line in lines for part in textwrap.wrap(line, _SIGNS_PER_LINE, subsequent_indent="    ") or [""]
    ]
    for start in range(0, len(wrapped), _LINES_PER_PAGE):
        yield wrapped[start : start + _LINES_PER_PAGE]


@look.style()
def text_page(lines: list[str]) -> Figure:
    """A page of text in a fixed pitch."""
    figure = Figure(figsize=A4_INCHES, label="text")
    figure.text(
        _MARGIN,
        1 - _MARGIN / 2,
        "\n".join(lines),
        family="DejaVu Sans Mono",
        fontsize=6.5,
        va="top",
        linespacing=1.25,
        parse_math=False,  # a name is no formula, whatever dollar signs it has
    )
    return figure


def write_pdf(path: Path, text: Iterable[str], drawings: Iterable[Drawing], *, say: Callable[[str], object]) -> Path:
    """Write pages of text, then a page for each figure, completely or not at all; returns the path.

    `say` is given what is being drawn, and why a figure was left out whose package is not installed.
    """
    with look.style(), replacing(path) as partial, PdfPages(partial, metadata=_NO_DATE) as pages:
        for lines in _pages(text):
            pages.savefig(text_page(lines))
        for drawing in drawings:
            say(f"plotting: {drawing.about}")
            try:
                figure = drawing.draw()
            except ModuleNotFoundError as error:
                say(f"left out: {error}")
                continue
            pages.savefig(figure)
    return path
