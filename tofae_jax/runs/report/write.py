"""What `report` writes: a page, a PDF, figures, tables; all from what the runs have saved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tofae_jax.config import PlotMode, leaves, only_used
from tofae_jax.data.storage.atomic import writable_folder
from tofae_jax.data.storage.replaceable import check_free, no_file_like
from tofae_jax.plots.detector_axes import check_choice
from tofae_jax.runs.figures import Drawing, comparison_drawings, deliver_all, run_drawings
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.lineage import readable_runs
from tofae_jax.runs.messages import Say
from tofae_jax.runs.report.html import OUTPUTS, write_page
from tofae_jax.runs.report.pdf import write_pdf
from tofae_jax.runs.report.tables import RunNumbers, check_can_write_xlsx, write_csv, write_history_csv, write_xlsx
from tofae_jax.runs.saved_run import SavedRun, read_saved
from tofae_jax.runs.summary import outputs_table

ENDINGS = {"out": ".html", "pdf": ".pdf", "csv": ".csv", "history_csv": ".csv", "xlsx": ".xlsx"}
COMPARISON = "comparison.html"
_LONGEST_NAME = 100  # of a folder, in signs; systems allow 255 bytes


class ReportPaths(NamedTuple):
    """Where things go; None: not wanted."""

    out: Path | None = None
    """HTML; None: `report.html` in the run's folder, or `comparison.html` beside the first of several"""
    pdf: Path | None = None
    png: Path | None = None
    """a folder"""
    csv: Path | None = None
    history_csv: Path | None = None
    xlsx: Path | None = None


def read_runs(places: Sequence[str | Path]) -> list[SavedRun]:
    """The runs at the places, each a run folder or a folder of runs, by start.

    Raises RunError where there is none, one of `places` cannot be read, or two folders hold the same run.
    """
    found: dict[str, SavedRun] = {}
    for run in readable_runs(places, read_saved):
        other = found.setdefault(run.record.run_id, run)
        if other.paths.folder != run.paths.folder:
            raise RunError(f"{other.paths.folder} and {run.paths.folder}: both hold run {run.record.run_id}")
    return sorted(found.values(), key=lambda run: (run.record.started, run.record.run_id))


def check_wanted(wanted: ReportPaths, *, mode: PlotMode, overwrite: bool) -> None:
    """Check what is to be written, before anything is read or drawn.

    Raises:
        ValueError: a file of another ending, named twice, or there and not to be replaced; an unknown mode.
        ModuleNotFoundError: a library that a form needs is missing.
    """
    check_choice("plot mode", mode, PlotMode)
    if wanted.xlsx is not None:
        check_can_write_xlsx()
    figures = {"show": ("out", "pdf", "png"), "none": ("pdf", "png")}.get(mode, ())
    seen: dict[Path, str] = {}
    for name, path in wanted._asdict().items():
        if path is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if name in figures:
            raise ValueError(f"{option} {path}: not written with --plots {mode}; use --plots save or both")
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"{option} {path}: {other} is written there")
        if name == "png":
            if path.exists() and not path.is_dir():
                raise ValueError(f"{option} {path}: not a folder")
            continue
        if path.suffix.lower() != ENDINGS[name]:
            raise ValueError(f"{option} {path}: must end in {ENDINGS[name]}")
        if path.is_dir():
            raise ValueError(f"{option} {path}: is a folder")
        try:
            check_free(path, no_file_like(path), overwrite=overwrite)
        except ValueError as error:
            raise ValueError(f"{option} {error}") from None


def numbers(run: SavedRun) -> RunNumbers:
    """A run as a row of tables."""
    record, results = run.record, run.record.results
    about = {
        "status": record.status,
        "started": record.started,
        "parent": record.parent_run_id,
        "model": record.config.get("model", {}).get("name"),
        "loss": run.loss_names.train or None,
        "validation_loss": run.loss_names.validation or None,
        "data": record.data.get("path"),
        **{name: results.get(name) for name in ("parameters", "epochs", "best_epoch", "training_s", "precision")},
    }
    return RunNumbers(record.run_id, about, run.test, run.history)


def _text(runs: Sequence[SavedRun]) -> Iterator[str]:
    for run in runs:
        record = run.record
        yield f"run {record.run_id}: {record.status} {record.reason}".rstrip()
        yield f"started {record.started}, ended {record.ended or '-'}"
        yield from (f"could not be read: {problem}" for problem in run.problems)
        yield ""
        if run.test is not None and all(run.test.get(output) for output in OUTPUTS):
            yield from outputs_table(run.test).splitlines()
            yield ""
        for heading, tree in (("settings", only_used(record.config)), ("data", record.data)):
            yield heading
            yield from (f"  {name} = {value}" for name, value in leaves(tree))
            yield ""


def _drawings(runs: Sequence[SavedRun]) -> Iterator[Drawing]:
    several = len(runs) > 1
    if several:
        yield from comparison_drawings(runs)
    for run in runs:
        for drawing in run_drawings(run):
            yield drawing._replace(about=f"{run.record.run_id}: {drawing.about}") if several else drawing


def _figure_folders(folder: Path, runs: Sequence[SavedRun]) -> list[tuple[Path, list[Drawing]]]:
    """Figures of one run into the folder; of several, each run's into one of its own."""
    if len(runs) == 1:
        return [(folder, list(run_drawings(runs[0])))]
    places = [(folder, list(comparison_drawings(runs)))]
    for number, run in enumerate(runs, start=1):
        # an id may be any text; a folder's name may not
        name = re.sub(r"[^\w.-]+|^[.]+", "_", run.record.run_id)
        name = name if name == run.record.run_id and len(name) <= _LONGEST_NAME else f"{number}_{name[:_LONGEST_NAME]}"
        places.append((folder / name, list(run_drawings(run))))
    return places


def _check_figures(places: list[tuple[Path, list[Drawing]]], *, overwrite: bool) -> None:
    """ValueError where something is that is not to be replaced."""
    for folder, drawings in places:
        for drawing in drawings:
            path = folder / f"{drawing.name}.png"
            try:
                check_free(path, no_file_like(path), overwrite=overwrite)
            except ValueError as error:
                raise ValueError(f"--png {error}") from None


def _check_place(path: Path, *, hint: str) -> None:
    try:
        writable_folder(path.parent)
    except ValueError as error:
        raise ValueError(f"{error}{hint}") from None


def _write_tables(wanted: ReportPaths, rows: Sequence[RunNumbers], *, overwrite: bool) -> list[Path]:
    writers = {"csv": write_csv, "history_csv": write_history_csv, "xlsx": write_xlsx}
    written = []
    for name, write in writers.items():
        if (path := getattr(wanted, name)) is not None:
            written.append(write(path, rows, overwrite=overwrite))
    return written


def write_report(
    places: Sequence[str | Path],
    wanted: ReportPaths,
    *,
    mode: PlotMode = "save",
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> list[Path]:
    """Tell about runs in every form that is wanted; returns the paths of what was written.

    Args:
        places: run folders, or folders of runs.
        wanted: where things go.
        mode: `save`: files; `show`: the figures in windows, and no files but tables; `both`; `none`: files, and no
            figure in the page.
        overwrite: replace files of the same kinds that are there. The page at its usual place always is.
        say: is given what is being made, and what went wrong with a part of it.

    Raises ValueError for what cannot be written or read, before anything is drawn.
    """
    check_wanted(wanted, mode=mode, overwrite=overwrite)
    runs = read_runs(places)
    usual = runs[0].paths.report if len(runs) == 1 else runs[0].paths.folder.parent / COMPARISON
    if mode != "show":
        wanted = wanted._replace(out=wanted.out or usual)
    figures = _figure_folders(wanted.png, runs) if wanted.png is not None else []
    _check_figures(figures, overwrite=overwrite)
    for name, path in wanted._asdict().items():
        if path is not None:
            _check_place(path, hint="; name another file with --out" if name == "out" and path == usual else "")
    for problem in (problem for run in runs for problem in run.problems):
        say(f"warning: {problem}")
    written = _write_tables(wanted, [numbers(run) for run in runs], overwrite=overwrite)
    if mode in ("show", "both"):
        deliver_all(_drawings(runs), Path(), "show", say=say)
    if wanted.out is not None:
        replaces = overwrite or wanted.out == usual
        written.append(write_page(wanted.out, runs, with_figures=mode != "none", overwrite=replaces, say=say))
    if wanted.pdf is not None:
        written.append(write_pdf(wanted.pdf, _text(runs), _drawings(runs), say=say, overwrite=overwrite))
    for folder, drawings in figures:
        written += deliver_all(drawings, folder, "save", say=say, overwrite=overwrite)
    return written
