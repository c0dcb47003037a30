"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tofae_jax.cli.options import parse
from tofae_jax.config.types import PlotMode, Section


class Options(Section, frozen=True):
    """report on a run, or compare several, in one HTML file that opens offline; also PDF, PNG, CSV, XLSX"""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")]
    """run folders, or folders of runs; no dataset is needed"""
    out: str | None = None
    """HTML file; None: RUN/report.html, or comparison.html beside several runs"""
    pdf: str | None = None
    """also write the figures and settings to this PDF file"""
    png: str | None = None
    """also write every figure to this folder"""
    csv: str | None = None
    """also write the metrics to this CSV file, a row per run"""
    history_csv: str | None = None
    """also write the numbers of all epochs to this CSV file, a row per epoch"""
    xlsx: str | None = None
    """also write both to this spreadsheet, with coloured scales"""
    plots: PlotMode = "save"
    """save: figures in the files; show: in windows, and no files but tables; both; none: text and tables only"""
    overwrite: bool = False
    """replace files that are there (RUN/report.html and comparison.html always are)"""


def run(argv: list[str]) -> None:
    """Write the reports and print their paths."""
    options = parse(Options, argv, command="report")
    from tofae_jax.runs.messages import say, show
    from tofae_jax.runs.report.write import ReportPaths, write_report

    places = {name: Path(path) for name in ReportPaths._fields if (path := getattr(options, name)) is not None}
    for path in write_report(
        options.runs,
        ReportPaths(**places),
        mode=options.plots,
        overwrite=options.overwrite,
        say=say,
    ):
        show([str(path)], is_on_disk=True)
