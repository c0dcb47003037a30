"""What `report` writes: a page, a PDF, figures, tables; all from what the runs have saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tofae_jax.config import PlotMode, leaves, only_chosen
from tofae_jax.figures import Drawing, comparison_drawings, deliver_all, run_drawings
from tofae_jax.lineage import run_folders
from tofae_jax.progress import outputs_table
from tofae_jax.reports.page import write_page
from tofae_jax.reports.pdf import write_pdf
from tofae_jax.reports.tables import RunNumbers, write_csv, write_history_csv, write_xlsx
from tofae_jax.runs import RunError
from tofae_jax.saved import SavedRun, read_saved

Say = Callable[[str], object]
ENDINGS = {"out": ".html", "pdf": ".pdf", "csv": ".csv", "history_csv": ".csv", "xlsx": ".xlsx"}
COMPARISON = "comparison.html"


class Wanted(NamedTuple):
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

    Raises RunError where there is none, one cannot be read, or two folders hold the same run.
    """
    found: dict[str, SavedRun] = {}
    for folder in run_folders(places):
        run = read_saved(folder)
        other = found.setdefault(run.record.run_id, run)
        if other.paths.folder != run.paths.folder:
            raise RunError(f"{other.paths.folder} and {run.paths.folder}: both hold run {run.record.run_id}")
    return sorted(found.values(), key=lambda run: (run.record.started, run.record.run_id))


def check_wanted(wanted: Wanted, *, overwrite: bool) -> None:
    """ValueError for a file of another ending, or that is there and must not be replaced."""
    for name, ending in ENDINGS.items():
        path: Path | None = getattr(wanted, name)
        if path is None:
            continue
        option = name.replace("_", "-")
        if path.suffix.lower() != ending:
            raise ValueError(f"--{option} {path}: must end in {ending}")
        if path.is_dir():
            raise ValueError(f"--{option} {path}: is a folder")
        if path.exists() and not overwrite:
            raise ValueError(f"--{option} {path}: there already; --overwrite replaces it")
    if wanted.png is not None and wanted.png.exists() and not wanted.png.is_dir():
        raise ValueError(f"--png {wanted.png}: not a folder")


def numbers(run: SavedRun) -> RunNumbers:
    """A run as a row of tables."""
    record, results = run.record, run.record.results
    about = {
        "status": record.status,
        "started": record.started,
        "parent": record.parent_run_id,
        "model": record.config.get("model", {}).get("name"),
        "loss": record.config.get("loss", {}).get("name"),
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
        if run.test is not None:
            yield from outputs_table(run.test).splitlines()
            yield ""
        for heading, tree in (("settings", only_chosen(record.config)), ("data", record.data)):
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


def _write_figures(folder: Path, runs: Sequence[SavedRun], mode: PlotMode, say: Say) -> list[Path]:
    """Figures of one run into the folder; of several, each run's into one of its own."""
    if len(runs) == 1:
        return deliver_all(run_drawings(runs[0]), folder, mode, say=say)
    saved = deliver_all(comparison_drawings(runs), folder, mode, say=say)
    for run in runs:
        saved += deliver_all(run_drawings(run), folder / run.record.run_id, mode, say=say)
    return saved


def write_report(
    places: Sequence[str | Path],
    wanted: Wanted,
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
        overwrite: replace files that are there. The page at its usual place always is.
        say: is given what is being made.
    """
    check_wanted(wanted, overwrite=overwrite)
    if mode == "none" and (wanted.png or wanted.pdf):
        raise ValueError("--plots none: makes no figures, so there is nothing for --png and --pdf")
    runs = read_runs(places)
    for problem in (problem for run in runs for problem in run.problems):
        say(f"warning: {problem}")
    rows = [numbers(run) for run in runs]
    writers = {"csv": write_csv, "history_csv": write_history_csv, "xlsx": write_xlsx}
    written = [write(path, rows) for name, write in writers.items() if (path := getattr(wanted, name)) is not None]
    if mode in ("show", "both"):
        _write_figures(Path(), runs, "show", say)
    if mode == "show":
        return written
    usual = runs[0].paths.report if len(runs) == 1 else runs[0].paths.folder.parent / COMPARISON
    written.append(write_page(wanted.out or usual, runs, with_figures=mode != "none", say=say))
    if wanted.pdf is not None:
        written.append(write_pdf(wanted.pdf, _text(runs), _drawings(runs), say=say))
    if wanted.png is not None:
        written += _write_figures(wanted.png, runs, "save", say)
    return written
