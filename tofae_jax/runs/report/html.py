"""One HTML file that tells about one or several runs, with all it needs inside: it opens offline in any browser."""

from __future__ import annotations

import base64
import io
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from tofae_jax.config import leaves, only_used
from tofae_jax.data.storage.atomic import replacing_output
from tofae_jax.plots import style as look
from tofae_jax.plots.event_viewer import event_viewer, plotly_script
from tofae_jax.plots.labels import QUALITIES
from tofae_jax.runs.figures import Drawing, comparison_drawings, drawn, run_drawings
from tofae_jax.runs.lineage import duration, family_of, family_tree
from tofae_jax.runs.messages import Say
from tofae_jax.runs.saved_run import SavedRun

CSS_PIXELS_PER_INCH = 96
OUTPUTS = ("input", "direct", "masked")
MOST_EVENTS_OF_EACH = 2  # in the 3-D view of a comparison
# where a figure of a run stands; what is not named here stands in no section
SECTIONS: dict[str, tuple[str, ...]] = {
    "Results": ("outputs", "radar"),
    "Events": ("event_",),
    "Training": ("curves", "curves_time", "metrics", "metrics_time", "training", "threshold", "timeline"),
    "Data and latent space": ("occlusion", "latent_samples", "latent_space"),
}
OF_EACH_IN_COMPARISON = ("event_1_stages", "curves", "threshold")


class Picture(NamedTuple):
    """A figure on the page, or why it is not there."""

    name: str
    about: str
    source: str = ""
    """a data URI"""
    width: int = 0
    """on the page, in CSS pixels, unless that is narrower"""
    height: int = 0
    missing: str = ""


class Cell(NamedTuple):
    """A number of a table."""

    value: str
    interval: str = ""
    is_best: bool = False


class PageSection(NamedTuple):
    """Figures under a heading."""

    heading: str
    pictures: list[Picture]


class Viewer(NamedTuple):
    """Events that the reader can turn: trusted HTML, or a note why they are not there."""

    plotly: str = ""
    html: str = ""
    note: str = ""


class RunPage(NamedTuple):
    """What the page says of one run."""

    run_id: str
    status: str
    reason: str
    facts: dict[str, str]
    results: dict[str, list[Cell]]
    """by name of the metric, a cell for each of `OUTPUTS`"""
    n_events: int
    has_intervals: bool
    sections: list[PageSection]
    records: dict[str, dict[str, str]]
    """tables of names and values by heading"""
    problems: list[str]


def picture(drawing: Drawing, say: Say) -> Picture:
    """Draw a figure for the page; lossless, and smaller than as PNG. What cannot be drawn says why."""
    figure = drawn(drawing, say=say, warn=say)
    if isinstance(figure, str):
        return Picture(drawing.name, drawing.about, missing=figure)
    with look.style():
        figure.savefig(buffer := io.BytesIO(), format="webp", pil_kwargs={"lossless": True, "method": 1})
    width, height = (round(length * CSS_PIXELS_PER_INCH) for length in figure.get_size_inches())
    source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(drawing.name, drawing.about, source, width, height)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _cell(test: Mapping[str, Any], output: str, metric: str) -> Cell:
    value = test.get(output, {}).get(metric)
    limits = test.get("intervals", {}).get(output, {}).get(metric)
    if value is None or not math.isfinite(value):
        return Cell("-")
    return Cell(_shown(value), f"{limits[0]:.4g} to {limits[1]:.4g}" if limits and None not in limits else "")


def _results(test: Mapping[str, Any] | None) -> dict[str, list[Cell]]:
    if test is None:
        return {}
    rows = {of.label: [_cell(test, output, metric) for output in OUTPUTS] for metric, of in QUALITIES.items()}
    return {label: cells for label, cells in rows.items() if any(cell.value != "-" for cell in cells)}


def _pairs(tree: Mapping[str, Any]) -> dict[str, str]:
    """Dotted names and values of a nested dict."""
    return {name: _shown(value) for name, value in leaves(tree)}


def _joined(first: Any, *others: tuple[str, Any]) -> str:
    """What is known of these; of the others, in a phrase."""
    known = [phrase.format(value) for phrase, value in [("{}", first), *others] if value]
    return ", ".join(known)


def _facts(run: SavedRun) -> dict[str, str]:
    record, results = run.record, run.record.results
    data, system = record.data, record.system
    facts = {
        "started": record.started,
        "ended": record.ended,
        "parent": record.parent_run_id,
        "model": _joined(record.config.get("model", {}).get("name"), ("{:,} parameters", results.get("parameters"))),
        "data": data.get("path"),
        "events": ", ".join(f"{n:,} {part}" for part, n in data.get("splits", {}).items()),
        "epochs": _joined(results.get("epochs") or len(run.history), ("best {}", results.get("best_epoch"))),
        "training time": duration(results["training_s"]) if "training_s" in results else None,
        "precision": results.get("precision"),
        "device": ", ".join(system.get("devices", [])),
        "command": shlex.join(record.command),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _records(run: SavedRun) -> dict[str, dict[str, str]]:
    record = run.record
    sessions = {
        f"session {number}": f"{session.started} to {session.ended or '-'}: {session.status} {session.reason}".rstrip()
        for number, session in enumerate(record.sessions, start=1)
    }
    tables = {
        "Settings": _pairs(only_used(record.config)),
        "True counts of the test events": _pairs((run.test or {}).get("counts", {})),
        "Data": _pairs(record.data),
        "Seeds": _pairs(record.seeds),
        "Sessions": sessions,
        "Versions": record.versions,
        "System": _pairs(record.system),
    }
    return {heading: table for heading, table in tables.items() if table}


def _sections(drawings: Iterable[Drawing], say: Say) -> list[PageSection]:
    placed: dict[str, list[Picture]] = {heading: [] for heading in SECTIONS}
    for drawing in drawings:
        for heading, names in SECTIONS.items():
            if any(drawing.name == name or (name.endswith("_") and drawing.name.startswith(name)) for name in names):
                placed[heading].append(picture(drawing, say))
    return [PageSection(heading, pictures) for heading, pictures in placed.items() if pictures]


def _told(run: SavedRun, drawings: Iterable[Drawing], say: Say) -> RunPage:
    return RunPage(
        run_id=run.record.run_id,
        status=run.record.status,
        reason=run.record.reason,
        facts=_facts(run),
        results=_results(run.test),
        n_events=(run.test or {}).get("events", 0),
        has_intervals=bool((run.test or {}).get("intervals")),
        sections=_sections(drawings, say),
        records=_records(run),
        problems=run.problems,
    )


def _compared(runs: Sequence[SavedRun], output: str) -> dict[str, list[Cell]]:
    """A row per metric, a cell per run; the best is marked, where they differ."""
    table = {}
    for metric, quantity in QUALITIES.items():
        values = [((run.test or {}).get(output) or {}).get(metric) for run in runs]
        known = {value for value in values if value is not None and math.isfinite(value)}
        if not known:
            continue
        best = None if len(known) < 2 else min(known) if quantity.less_is_better else max(known)
        cells = [_cell(run.test or {}, output, metric) for run in runs]
        table[quantity.label] = [
            cell._replace(is_best=value == best and best is not None) for cell, value in zip(cells, values, strict=True)
        ]
    return table


def _differing(runs: Sequence[SavedRun]) -> dict[str, list[str]]:
    """Settings in which the runs differ: a row for each, a value per run."""
    flat = [_pairs(only_used(run.record.config)) for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = {name: [settings.get(name, "-") for settings in flat] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _viewer(runs: Sequence[SavedRun]) -> Viewer:
    """A view of all runs' events, if they have any."""
    most = None if len(runs) == 1 else MOST_EVENTS_OF_EACH
    shown = [
        (f"{run.record.run_id}, event {number}" if len(runs) > 1 else f"event {number}", view, run.detector)
        for run in runs
        for number, view in enumerate(run.views[:most], start=1)
    ]
    if not shown:
        return Viewer()
    try:
        return Viewer(plotly_script(), event_viewer([entry[:2] for entry in shown], [entry[2] for entry in shown]))
    except ModuleNotFoundError as error:
        return Viewer(note=f"No view that can be turned, only the pictures below: {error}")


def render(runs: Sequence[SavedRun], *, with_figures: bool = True, say: Say = lambda _: None) -> str:
    """The page of one run, or of several compared and then each; their ids must differ.

    Args:
        runs: at least one.
        with_figures: False leaves text and tables.
        say: is given what is being drawn.
    """
    from jinja2 import Environment

    several = len(runs) > 1
    told, pictures = [], []
    viewer = _viewer(runs) if with_figures else Viewer()
    for run in runs:
        drawings = run_drawings(run) if with_figures else ()
        if several:
            drawings = (drawing for drawing in drawings if drawing.name in OF_EACH_IN_COMPARISON)
        told.append(_told(run, drawings, say))
    if several and with_figures:
        pictures = [picture(drawing, say) for drawing in comparison_drawings(runs)]
    family = family_of([run.paths.folder for run in runs])
    template = resources.files("tofae_jax.runs.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        runs=told,
        outputs=OUTPUTS,
        viewer=viewer,
        comparison={output: _compared(runs, output) for output in ("masked", "direct")} if several else {},
        differing=_differing(runs) if several else {},
        pictures=pictures,
        lineage=family_tree(family) if family else "",
    )


def write_page(
    path: Path,
    runs: Sequence[SavedRun],
    *,
    with_figures: bool = True,
    overwrite: bool = True,
    say: Say = lambda _: None,
) -> Path:
    """Write the page of the runs, completely or not at all; returns its path."""
    page = render(runs, with_figures=with_figures, say=say)
    with replacing_output(path, overwrite=overwrite) as partial:
        partial.write_text(page, encoding="utf-8")
    return path
