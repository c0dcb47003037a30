"""Settings of the dataset, its splits, its input pipeline and its simulation."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tofae_jax.config.lhcb_torch import LhcbTorchConfig
from tofae_jax.config.types import (
    MOST_THREADS,
    MOST_TRACKS,
    CountOrRange,
    Fraction,
    PositiveCount,
    PositiveManyCount,
    Section,
    Seed,
    check_range,
)


def parse_mixture(text: str) -> dict[str, float]:
    """Weights by name from `name` or `name=weight,name=weight`; names are checked by whoever knows them."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (piece.strip() for piece in part.partition("="))
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            value = -1.0
        if not name or not 0 <= value < float("inf") or name in weights:
            raise ValueError(f"pattern must be a name or name=weight,name=weight with weights >= 0, got {text!r}")
        weights[name] = value
    if sum(weights.values()) <= 0:
        raise ValueError(f"pattern needs a weight above 0, got {text!r}")
    return weights


LHCB_TORCH = "lhcb_torch"
"""the pattern that is no toy; it mixes with no other"""


class SimulateConfig(Section, frozen=True):
    """how to make the events where there is no dataset"""

    pattern: str = "v"
    """pattern name, a weighted mixture such as v=2,parabola=1, or lhcb_torch"""
    events: PositiveManyCount = 20_000
    """number of events"""
    tracks: CountOrRange = 1
    """tracks per event, a number or a range"""
    seed: Seed = 0
    """seed of the simulation"""
    lhcb_torch: LhcbTorchConfig = LhcbTorchConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if LHCB_TORCH in (names := parse_mixture(self.pattern)) and len(names) > 1:
            raise ValueError(f"pattern: {LHCB_TORCH} mixes with no other, got {self.pattern!r}")
        check_range("tracks", self.tracks, least=1, most=MOST_TRACKS)


class DataConfig(Section, frozen=True):
    """the dataset, its splits and its input pipeline"""

    source: Literal["dataset", "simulate"] = "dataset"
    """events of the dataset at data.path, or simulated as data.simulate says, new ones in every epoch, none kept"""
    path: str = "data/v"
    """dataset folder; where there is none, it is simulated and kept"""
    simulate: SimulateConfig = SimulateConfig()
    train_share: Fraction = 0.8
    """share of the events to train on"""
    validation_share: Fraction = 0.1
    """share of the events to validate on after each epoch"""
    test_share: Fraction = 0.1
    """share of the events for the final evaluation, never seen before it"""
    split_seed: Seed = 0
    """seed of the split"""
    max_hits: PositiveCount = 512
    """hit slots of a pattern; events with more are thinned out at random, and the loss is counted"""
    max_background: PositiveCount = 512
    """slots of background hits that events bring along, where degradation.noise.data asks for them"""
    max_tracks: Annotated[int, msgspec.Meta(ge=1, le=MOST_TRACKS)] = 4
    """slots of an event's tracks, for models that are given tracks or learn to find them"""
    threads: Annotated[int, msgspec.Meta(ge=0, le=MOST_THREADS)] = 1
    """threads that read ahead; any number gives the same data"""
    prefetch_batches: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 4
    """batches held ready"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        total = self.train_share + self.validation_share + self.test_share
        if self.train_share == 0 or total > 1 + 1e-9:
            raise ValueError(
                "train_share must be above 0, and train_share + validation_share + test_share at most 1, "
                f"got {self.train_share}, {self.validation_share}, {self.test_share}"
            )
