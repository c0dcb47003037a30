"""All figures of a run, made from what it saved: in training, at its end, and whenever somebody asks again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tofae_jax import plots
from tofae_jax.config import PlotMode
from tofae_jax.runs.figure_output import deliver, display_obstacle
from tofae_jax.runs.messages import Say, warn_once
from tofae_jax.runs.saved_run import SavedRun


class Drawing(NamedTuple):
    """A figure that can be made."""

    name: str
    """of its file, without ending"""
    about: str
    """what it shows"""
    draw: Callable[[], Figure]


AGAINST: tuple[tuple[str, plots.Against, str], ...] = (("", "epoch", ""), ("_time", "time", " against time"))
"""ends of names, abscissas, and ends of descriptions of the figures of curves"""


def curve_drawings(run: SavedRun) -> Iterator[Drawing]:
    """How the training goes: what is drawn during it too."""
    history, losses = run.history, run.loss_names
    for name, against, about in AGAINST:
        draw = partial(plots.training_curves, history, against=against, losses=losses)
        yield Drawing(f"curves{name}", f"training curves{about}", draw)
    yield Drawing("threshold", "outputs about the threshold", lambda: plots.threshold_telemetry(history))


EVENT_FIGURES: dict[str, tuple[str, Callable[..., Figure]]] = {
    "stages": ("stages", plots.stage_panels),
    "3d": ("in 3-D", plots.event_3d),
    "difference": ("differences from the targets", plots.pixel_difference),
}


def event_drawings(run: SavedRun, *kinds: str) -> Iterator[Drawing]:
    """Each saved event in figures of these kinds, keys of `EVENT_FIGURES`; none given: all."""
    for number, view in enumerate(run.views, start=1):
        for kind in kinds or EVENT_FIGURES:
            shows, draw = EVENT_FIGURES[kind]
            about = f"event {number} of {len(run.views)}, {shows}"
            yield Drawing(f"event_{number}_{kind}", about, partial(draw, view, detector=run.detector))


def detail_drawings(run: SavedRun) -> Iterator[Drawing]:
    """All metrics and what else is known of the training."""
    history, test, events = run.history, run.test, run.events
    for name, against, about in AGAINST:
        draw = partial(plots.metrics_grid, history, against=against, losses=run.loss_names)
        yield Drawing(f"metrics{name}", f"all metrics{about}", draw)
    yield Drawing("training", "details of the training", lambda: plots.training_details(history))
    if test is not None:
        yield Drawing("outputs", "comparison of outputs", lambda: plots.output_comparison(test))
        yield Drawing("radar", "radar of metrics", lambda: plots.radar({run.record.run_id: test}))
    if run.scores and _scores_hits(run):  # scores of image models are not probabilities
        yield Drawing("scores", "scores of hits", partial(_score_quality, run))
    if {"n_signal_hits", "n_noise_hits", "n_occluded_hits"} <= events.keys():
        yield Drawing(
            "occlusion",
            "occlusion by hits",
            lambda: plots.occlusion_by_hits(
                events["n_signal_hits"] + events["n_noise_hits"], events["n_occluded_hits"], detector=run.detector
            ),
        )


def _scores_hits(run: SavedRun) -> bool:
    if (recorded := run.record.results.get("scores_hits")) is not None:
        return bool(recorded)
    from tofae_jax import losses  # here: it loads jax; of a run of an earlier version

    section = run.record.config.get("loss")
    loss = losses.LOSSES.get(str(section.get("name"))) if isinstance(section, dict) else None
    return loss is not None and loss.takes == "hits"


def _score_quality(run: SavedRun) -> Figure:
    from tofae_jax import metrics  # here: it loads jax

    sums = metrics.ScoreSums(**run.scores)
    signal, noise = (counts[:, -1] for counts in metrics.kept_counts(sums))
    kept = signal + noise > 0
    efficiency, purity = signal[kept] / max(int(sums.n_signal), 1), signal[kept] / (signal + noise)[kept]
    has_signal = int(sums.n_signal) > 0
    cuts = (efficiency, purity) if has_signal else (np.zeros(0), np.zeros(0))
    return plots.score_quality(metrics.reliability(sums), cuts, point=run.record.results.get("operating_point"))


def latent_drawings(run: SavedRun) -> Iterator[Drawing]:
    """The latent space, where there is one."""
    if (latents := run.latents) is None:
        return
    yield Drawing(
        "latent_samples",
        "draws from the latent space",
        lambda: plots.latent_samples(latents.samples, detector=run.detector, has_time=latents.has_time),
    )
    labels = [str(label) for label in latents.labels]
    yield Drawing(
        "latent_space",
        "latent space",
        lambda: plots.latent_projection(latents.vectors, labels if any(labels) else None),
    )


def run_drawings(run: SavedRun) -> Iterator[Drawing]:
    """Every figure of one run."""
    yield from curve_drawings(run)
    yield from detail_drawings(run)
    yield from event_drawings(run)
    yield from latent_drawings(run)
    if run.spans:
        yield Drawing("timeline", "timeline", lambda: plots.timer_timeline(run.spans))


def comparison_drawings(runs: Sequence[SavedRun]) -> Iterator[Drawing]:
    """Several runs on the same axes; their ids must differ."""
    histories = {run.record.run_id: run.history for run in runs}
    results = {run.record.run_id: run.test for run in runs}
    losses = {run.record.run_id: run.loss_names for run in runs}
    for name, against, _ in AGAINST:
        draw = partial(plots.compare_curves, histories, against=against, losses=losses)
        yield Drawing(f"compare_curves{name}", f"runs against {against}", draw)
    yield Drawing("compare_outputs", "results of the runs", lambda: plots.compare_outputs(results))
    yield Drawing("compare_radar", "radar of the runs", lambda: plots.radar(results))


def drawn(drawing: Drawing, *, say: Say, warn: Say) -> Figure | str:
    """The figure, or why it could not be made, which `warn` is given too; `say` is given what is being made.

    Whatever goes wrong: what it shows may be damaged, and a figure is no reason to lose a run or a report.
    """
    say(f"plotting: {drawing.about}")
    try:
        return drawing.draw()
    except (ModuleNotFoundError, ValueError) as error:  # these speak for themselves
        why = str(error)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    warn(f"left out: {drawing.about}: {why}")
    return why


def deliver_all(
    drawings: Iterable[Drawing],
    folder: Path,
    mode: PlotMode,
    *,
    say: Say,
    warn: Say | None = None,
    overwrite: bool = True,
) -> list[Path]:
    """Draw figures one by one, and show or save each; returns the paths of those that are there.

    `say` is given what is being made. A figure that cannot be made is left out, and `warn`, or `say`, is told why.
    Where nobody can see windows, none is drawn only to be shown; one warning says so.
    """
    if mode == "show" and (obstacle := display_obstacle()):
        warn_once(f"plots are not shown: {obstacle}")
        return []
    saved = []
    for drawing in drawings if mode != "none" else ():
        figure = drawn(drawing, say=say, warn=warn or say)
        if isinstance(figure, str):
            continue
        if path := deliver(figure, folder / f"{drawing.name}.png", mode, overwrite=overwrite):
            saved.append(path)
    return saved
