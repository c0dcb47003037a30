"""The command `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tofae_jax.cli import evaluate as c

if TYPE_CHECKING:
    pass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tofae_jax.cli.options import parse
from tofae_jax.config.run import PrecisionName
from tofae_jax.config.types import (
    WIDEST,
    Fraction,
    Section,
    Seed,
    WidthOrRange,
    check_range,
)


def evaluate(argv: list[str]) -> None:
    """evaluate a run on events that it has not seen, and print the result as JSON"""
    settings = parse(c.EvaluateCommand, argv, command="evaluate")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.evaluate import evaluate_run
    from tofae_jax.engine.operating_point import ThresholdChoice

    result = evaluate_run(
        settings.run,
        data=settings.data,
        split=settings.split,
        n_signal=settings.signal,
        n_noise=settings.noise,
        smear_t_ns=settings.smear_t_ns,
        seed=settings.seed,
        save_hits=settings.save_hits,
        precision=settings.precision,
        overwrite=settings.overwrite,
        cut=ThresholdChoice(settings.keep, settings.wanted, settings.score_threshold),
    )
    print(msgspec.json.format(msgspec.json.encode(result), indent=1).decode())


class EvaluateCommand(Section, frozen=True):
    """evaluate a run on events that it has not seen, and print the result as JSON"""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """run folder"""
    data: str | None = None
    """dataset of patterns; None: the one the run was trained on"""
    split: Literal["auto", "train", "validation", "test", "all"] = "auto"
    """which of its events; auto: the test events of the run's own dataset, all events of any other"""
    signal: int | tuple[int, int] | None = None
    """signal hits kept per event, a number or a range; None: as in training"""
    noise: int | tuple[int, int] | None = None
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
    save_hits: str | None = None
    """write all hits with is_signal, score and kept to this file (.npz, .csv, .root, .parquet, .arrow, .h5)"""
    overwrite: bool = False
    """replace that file if it is there"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        for name in ("signal", "noise"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value)
        if self.smear_t_ns is not None:
            check_range("smear_t_ns", self.smear_t_ns, most=WIDEST)
