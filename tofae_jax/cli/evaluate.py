"""The command `evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from tyro.conf import Positional, arg

from tofae_jax.cli.options import WRITABLE_FILES, parse
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import (
    WIDEST,
    CountOrRange,
    Fraction,
    Section,
    Seed,
    WidthOrRange,
    check_range,
)


class Options(Section, frozen=True):
    """evaluate a run on events that it has not seen, and print the result as JSON"""

    run: Annotated[Positional[str | None], arg(metavar="RUN", help="run folder, not with --model")] = None
    model: str | None = None
    """in place of a run, a packaged model: lhcb_torch, lhcb_torch_tracks, or one that pack has stored; needs --data"""
    data: str | None = None
    """dataset of patterns; None: the one the run was trained on"""
    split: Literal["auto", "train", "validation", "test", "all"] = "auto"
    """which of its events; auto: the test events of the run's own dataset, all events of any other"""
    signal: CountOrRange | None = None
    """signal hits kept per event, a number or a range; None: as in training"""
    noise: CountOrRange | None = None
    """noise hits added per event, a number or a range; None: as in training"""
    smear_t_ns: WidthOrRange | None = None
    """Gaussian smearing of signal times, in ns, a number or a range; None: as in training"""
    seed: Seed = 0
    """seed of the degradation"""
    keep: Literal["f1", "efficiency", "purity"] | None = None
    """choose which hits are kept for the best F1, or for an efficiency or purity wanted, by the validation events"""
    wanted: Fraction | None = None
    """the least efficiency or purity, where --keep asks for one"""
    score_threshold: Fraction | None = None
    """keep hits of a higher score; None: as the run has chosen"""
    precision: PrecisionName | None = None
    """dtypes of the network; None: as in training"""
    save_hits: Annotated[
        str | None, arg(help=f"write all hits with is_signal, score and kept to this file ({WRITABLE_FILES})")
    ] = None
    overwrite: bool = False
    """replace that file if it is there"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if (self.run is None) == (self.model is None):
            raise ValueError(
                f"either RUN or --model is needed, got {self.run or 'no run'} and {self.model or 'no model'}"
            )
        for name in ("signal", "noise"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value)
        if self.overwrite and self.save_hits is None:
            raise ValueError("overwrite has no effect without save_hits")
        if self.smear_t_ns is not None:
            check_range("smear_t_ns", self.smear_t_ns, most=WIDEST)


def run(argv: list[str]) -> None:
    """Evaluate a run and print the result."""
    options = parse(Options, argv, command="evaluate")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.evaluate import evaluate_run
    from tofae_jax.engine.operating_point import ThresholdChoice
    from tofae_jax.runs.messages import show

    result = evaluate_run(
        options.run,
        model=options.model,
        data=options.data,
        split=options.split,
        n_signal=options.signal,
        n_noise=options.noise,
        smear_t_ns=options.smear_t_ns,
        seed=options.seed,
        save_hits=options.save_hits,
        precision=options.precision,
        overwrite=options.overwrite,
        thresholds=ThresholdChoice(options.keep, options.wanted, options.score_threshold),
    )
    show(msgspec.json.format(msgspec.json.encode(result), indent=1).decode())
