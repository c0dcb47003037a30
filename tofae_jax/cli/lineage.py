"""The command `lineage`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from tofae_jax.cli.options import parse
from tofae_jax.config.types import Section


class Options(Section, frozen=True):
    """show which run started from which, with training time and metrics along each line"""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUNS")] = ("runs",)
    """run folders, or folders of runs"""
    metric: str = "masked.f1"
    """number of the test events to show, e.g. loss or direct.ssim"""


def run(argv: list[str]) -> None:
    """Print the runs as trees."""
    options = parse(Options, argv, command="lineage")
    from tofae_jax.runs.lineage import check_shown_metric, family_tree, read_family
    from tofae_jax.runs.messages import show

    records = read_family(options.runs)
    check_shown_metric(records, options.metric)
    show(family_tree(records, metric=options.metric))
