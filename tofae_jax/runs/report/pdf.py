"""All that a report says on pages of a PDF, by matplotlib alone."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from tofae_jax.data.storage.atomic import replacing_output
from tofae_jax.plots import style as look
from tofae_jax.runs.figures import Drawing, drawn
from tofae_jax.runs.messages import Say

A4_INCHES = (8.27, 11.69)
_MARGIN = 0.07
_FONT = "DejaVu Sans Mono"  # comes with matplotlib
_REPLACEMENT = "�"
_LINES_PER_PAGE = 92
_SIGNS_PER_LINE = 118
_NO_DATE = {"CreationDate": None}  # the same run gives the same file


@cache
def _known_signs() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def _readable(line: str) -> str:
    """With a replacement for signs that the font does not have, control characters among them."""
    return "".join(sign if ord(sign) in _known_signs() else _REPLACEMENT for sign in line)


def _pages(lines: Iterable[str]) -> Iterator[list[str]]:
    wrapped = [
        _readable(part)
        for line in lines
        for part in textwrap.wrap(line, _SIGNS_PER_LINE, subsequent_indent="    ") or [""]
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
        family=_FONT,
        fontsize=6.5,
        va="top",
        linespacing=1.25,
        parse_math=False,  # a name is no formula, whatever dollar signs it has
    )
    return figure


def write_pdf(
    path: Path, text: Iterable[str], drawings: Iterable[Drawing], *, say: Say, overwrite: bool = True
) -> Path:
    """Write pages of text, then a page for each figure, completely or not at all; returns the path.

    `say` is given what is being drawn, and why a figure was left out.
    """
    buffer = io.BytesIO()  # on a full disk, the library would fail with an error of its own
    with look.style(), PdfPages(buffer, metadata=_NO_DATE) as pages:
        for lines in _pages(text):
            pages.savefig(text_page(lines))
        for drawing in drawings:
            figure = drawn(drawing, say=say, warn=say)
            if not isinstance(figure, str):
                pages.savefig(figure)
    with replacing_output(path, overwrite=overwrite) as partial:
        partial.write_bytes(buffer.getvalue())
    return path
