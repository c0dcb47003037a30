"""The command `simulate`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from tofae_jax.cli.options import given_keys, parse
from tofae_jax.config.data import LHCB_TORCH, parse_mixture
from tofae_jax.config.lhcb_torch import LhcbTorchConfig
from tofae_jax.config.types import (
    MOST_TRACKS,
    CountOrRange,
    PositiveManyCount,
    Section,
    Seed,
    check_range,
)
from tofae_jax.core.detector import Detector


class Options(Section, frozen=True):
    """simulate labelled patterns into a new dataset"""

    out: Annotated[Positional[str], arg(metavar="OUT")]
    """dataset folder to make"""
    pattern: str = "v"
    """pattern name (v, parabola, cross, line, hemisphere, blank, lhcb_torch), or a mixture such as v=2,parabola=1"""
    events: PositiveManyCount = 10_000
    """number of events"""
    seed: Seed = 0
    """seed; the same seed gives the same events"""
    tracks: CountOrRange = 1
    """tracks per event, a number or a range"""
    origin_x: float | None = None
    """pixel column of every origin; None: random"""
    origin_y: float | None = None
    """pixel row of every origin; None: random"""
    origin_t: float | None = None
    """time bin of every origin; None: random"""
    overwrite: bool = False
    """replace a dataset that is there"""
    detector: Detector = Detector()
    lhcb_torch: LhcbTorchConfig = LhcbTorchConfig()

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        check_range("tracks", self.tracks, least=1, most=MOST_TRACKS)


def run(argv: list[str]) -> None:
    """Simulate a dataset and print its numbers of events and hits."""
    options = parse(Options, argv, command="simulate")
    from tofae_jax.config import SimulateConfig

    if LHCB_TORCH in parse_mixture(options.pattern):  # toy patterns are drawn without JAX
        from tofae_jax.engine import process

        process.prepare_process()
    from tofae_jax.engine.events import write_simulation
    from tofae_jax.engine.given_settings import check_simulated
    from tofae_jax.runs.messages import show

    simulate = SimulateConfig(**{name: getattr(options, name) for name in SimulateConfig.__struct_fields__})
    check_simulated(simulate, given_keys(argv, simulate))
    dataset = write_simulation(
        options.out,
        simulate,
        detector=options.detector,
        origin=(options.origin_x, options.origin_y, options.origin_t),
        overwrite=options.overwrite,
    )
    show([f"{len(dataset)} events, {dataset.description.n_hits} hits: {dataset.path}"], is_on_disk=True)
