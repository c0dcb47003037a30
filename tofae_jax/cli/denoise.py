"""The command `denoise`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from tyro.conf import Positional, arg

from tofae_jax.cli.options import TRACK_FILES, WRITABLE_FILES, SourceOptions, parse, reading_options
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import Fraction, NonNegative


class Options(SourceOptions, frozen=True, kw_only=True):
    """denoise measured events into a file of hits with columns event, x, y, t, those of the input, and score"""

    places: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="RUN INPUT OUTPUT",
            help="run folder, not with --model; dataset folder, or any file that convert reads; "
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
            raise ValueError(f"expected {' '.join(needed)}{with_model}, got {len(self.places)} of these")


def run(argv: list[str]) -> None:
    """Denoise a source, warn about events that look wrong, and print a report as JSON."""
    options = parse(Options, argv, command="denoise")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.data.files.units import Tally
    from tofae_jax.engine.denoise import denoise_run
    from tofae_jax.engine.operating_point import ThresholdChoice
    from tofae_jax.runs.messages import say, warn

    *folder, source, output = options.places
    report = denoise_run(
        folder[0] if folder else None,
        source,
        output,
        model=options.model,
        tracks=options.tracks,
        all_hits=options.all_hits,
        thresholds=ThresholdChoice(options.keep, options.wanted, options.score_threshold, options.tof_tolerance_ns),
        precision=options.precision,
        overwrite=options.overwrite,
        **reading_options(options),
    )
    if report.hits_outside:
        n_read = report.hits + report.hits_outside
        say(f"{source}: {Tally(n_read, report.hits_outside)}")
    for n, what in ((report.tracks_unused, "tracks have no event"), (report.events_without_tracks, "events no track")):
        if n:
            warn(f"{options.tracks}: {n} {what}")
    if 2 * report.events_emptied > report.events:
        hint = _hint_where_emptied(options)
        warn(f"{source}: no hit was kept of {report.events_emptied} of {report.events} events; {hint}")
    print(msgspec.json.encode(report._asdict()).decode())


def _hint_where_emptied(options: Options) -> str:
    """Return what to check where nearly nothing is kept."""
    if options.tracks is not None:
        return f"do they belong to {options.tracks}, its impact points and windows to this module?"
    return "is the model made for such events?"
