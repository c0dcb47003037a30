"""The command `denoise`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from tyro.conf import Positional, arg

from tofae_jax.cli.options import (
    TRACK_FILES,
    WRITABLE_FILES,
    OutputOptions,
    parse,
    reading_options,
    say_of_reading,
)
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import Fraction, NonNegative


class Options(OutputOptions, frozen=True, kw_only=True):
    """denoise measured events into a file of hits with the columns of the input, and score"""

    places: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="RUN INPUT OUTPUT",
            help="run folder, not with --model; dataset folder, or what convert reads: a file, a pattern in quotes "
            "('run*.root'), a folder of files; "
            f"file to write ({WRITABLE_FILES})",
        ),
    ]
    model: str | None = None
    """in place of a run, a packaged model: lhcb_torch or lhcb_torch_tracks, which come with this program and are for
    hits of an LHCb TORCH module among uniform noise, or one that pack has stored"""
    tracks: Annotated[
        str | None,
        arg(
            help="the events' tracks, for a model that is given them, where INPUT has none: a dataset folder, or a "
            "table of event, x_mm, y_mm, slope_x, slope_y, momentum_gev and, where INPUT has none, window_start_ns, a "
            f"row per track ({TRACK_FILES})"
        ),
    ] = None
    all_hits: bool = False
    """write all hits, with a column kept, instead of the kept ones"""
    output: Literal["hits", "pattern"] = "hits"
    """hits: those of the input that are kept; pattern: the hits of the reconstructed pattern, the direct output of
    models that are trained with a loss of images"""
    keep: Literal["f1", "efficiency", "purity"] | None = None
    """choose which hits are kept for the best F1, or for an efficiency or purity wanted, by the validation events"""
    wanted: Fraction | None = None
    """the least efficiency or purity, where --keep asks for one"""
    score_threshold: Fraction | None = None
    """keep hits of a higher score; None: as the run has chosen"""
    tof_tolerance_ns: NonNegative | None = None
    """keep a hit only where the direct output's ToF agrees within this, in ns; None: as the run has chosen"""
    precision: PrecisionName | None = None
    """dtypes of the network; None: as in training"""
    overwrite: bool = False
    """replace the output if it is there"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        needed = ("RUN", "INPUT", "OUTPUT") if self.model is None else ("INPUT", "OUTPUT")
        if len(self.places) != len(needed):
            with_model = "" if self.model is None else f" with --model {self.model}"
            hint = "; put a pattern of several files in quotes" if len(self.places) > len(needed) else ""
            raise ValueError(f"expected {' '.join(needed)}{with_model}, got {len(self.places)} of these{hint}")
        chosen = {"all_hits": self.all_hits or None, "keep": self.keep, "wanted": self.wanted}
        chosen |= {"score_threshold": self.score_threshold, "tof_tolerance_ns": self.tof_tolerance_ns}
        if self.output == "pattern" and (given := [name for name, value in chosen.items() if value is not None]):
            raise ValueError(f"{given[0]} chooses hits of the input, and output pattern has none: leave one out")


def run(argv: list[str]) -> None:
    """Denoise a source, warn about events that look wrong, and print a report as JSON."""
    options = parse(Options, argv, command="denoise")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.data.files.tables import Reading
    from tofae_jax.engine.denoise import denoise_run
    from tofae_jax.engine.operating_point import ThresholdChoice
    from tofae_jax.runs.messages import show, warn

    *folder, source, target = options.places
    about = Reading()
    report = denoise_run(
        folder[0] if folder else None,
        source,
        target,
        model=options.model,
        tracks=options.tracks,
        write="pattern" if options.output == "pattern" else "all" if options.all_hits else "kept",
        thresholds=ThresholdChoice(options.keep, options.wanted, options.score_threshold, options.tof_tolerance_ns),
        precision=options.precision,
        overwrite=options.overwrite,
        output_units=options.output_units,
        about=about,
        **reading_options(options),
    )
    counts = report.counts
    say_of_reading(source, about)
    for n, what in ((counts.tracks_unused, "tracks have no event"), (counts.events_without_tracks, "events no track")):
        if n:
            warn(f"{options.tracks}: {n} {what}")
    if 2 * counts.events_emptied > counts.events:
        hint = _hint_where_emptied(options)
        done = "written for" if options.output == "pattern" else "kept of"
        warn(f"{source}: no hit was {done} {counts.events_emptied} of {counts.events} events; {hint}")
    about = report._asdict()
    del about["counts"]
    show(msgspec.json.encode(about | counts._asdict()).decode())


def _hint_where_emptied(options: Options) -> str:
    """Return what to check where nearly nothing is kept."""
    if options.tracks is not None:
        return f"do they belong to {options.tracks}, its impact points and windows to this module?"
    return "is the model made for such events?"
