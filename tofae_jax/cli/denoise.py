"""The command `denoise`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from tofae_jax.cli import denoise as c

if TYPE_CHECKING:
    pass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tofae_jax.cli.options import SourceOptions, _reading_options, parse
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import (
    Fraction,
    NonNegative,
)


def denoise(argv: list[str]) -> None:
    """denoise measured events into a file of hits with columns event, x, y, t, those of the input, and score"""
    settings = parse(c.DenoiseCommand, argv, command="denoise")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.data.files.units import Tally
    from tofae_jax.engine.denoise import denoise_run
    from tofae_jax.engine.operating_point import ThresholdChoice
    from tofae_jax.runs.messages import warn

    *run, source, output = settings.places
    report = denoise_run(
        run[0] if run else None,
        source,
        output,
        model=settings.model,
        tracks=settings.tracks,
        all_hits=settings.all_hits,
        cut=ThresholdChoice(settings.keep, settings.wanted, settings.score_threshold, settings.tof_tolerance_ns),
        precision=settings.precision,
        overwrite=settings.overwrite,
        **_reading_options(settings),
    )
    if report.hits_outside:
        n_read = report.hits + report.hits_outside
        print(f"{source}: {Tally(n_read, report.hits_outside)}", file=sys.stderr)
    for n, what in ((report.tracks_unused, "tracks have no event"), (report.events_without_tracks, "events no track")):
        if n:
            warn(f"{settings.tracks}: {n} {what}")
    if 2 * report.events_emptied > report.events:
        warn(f"{source}: no hit was kept of {report.events_emptied} of {report.events} events; {_why(settings)}")
    print(msgspec.json.encode(report._asdict()).decode())


def _why(settings: c.DenoiseCommand) -> str:
    """What to look at where nearly nothing is kept."""
    if settings.tracks is not None:
        return f"do they belong to {settings.tracks}, its impact points and windows to this module?"
    return "is the model made for such events?"


class DenoiseCommand(SourceOptions, frozen=True, kw_only=True):
    """denoise measured events into a file of hits with columns event, x, y, t, those of the input, and score"""

    places: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN INPUT OUTPUT")]
    """run folder, not with --model; dataset folder, or any file that convert reads; file to write: .npz, .csv, .root,
    .parquet, .arrow or .h5"""
    model: Literal["lhcb_torch", "lhcb_torch_tracks"] | None = None
    """in place of a run, a model that comes with this program: for hits of an LHCb TORCH module among uniform noise"""
    tracks: str | None = None
    """the events' tracks, for a model that is given them, where INPUT has none: a dataset folder, or a table of event,
    x_mm, y_mm, slope_x, slope_y, momentum_gev and, where INPUT has none, window_start_ns, a row per track (.csv, .npz,
    .root, .parquet, .arrow, .h5)"""
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
        wanted = ("RUN", "INPUT", "OUTPUT") if self.model is None else ("INPUT", "OUTPUT")
        if len(self.places) != len(wanted):
            with_model = "" if self.model is None else f" with --model {self.model}"
            raise ValueError(f"expected {' '.join(wanted)}{with_model}, got {len(self.places)} of these")
