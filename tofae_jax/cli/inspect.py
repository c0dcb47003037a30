"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from tofae_jax.cli.options import TEXT_FILES, LimitsConfig, check_own_detector, parse
from tofae_jax.config import ConfigError
from tofae_jax.config.types import PlotMode, Section
from tofae_jax.core.detector import Detector
from tofae_jax.data.files.registry import format_of


class Options(Section, frozen=True):
    """check a dataset and show what is in it; or show the tables and columns of a file, and the options that read it"""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """dataset folder, or what convert reads: a file, a pattern in quotes ('run*.root'), a folder of files"""
    plots: PlotMode = "save"
    """figure of the distributions of a dataset; of a file there is none"""
    plot_file: str = ""
    """where to save it; empty: runs/inspect-NAME.png"""
    overwrite: bool = False
    """replace a figure that is there at plot_file"""
    decimal: Annotated[Literal[".", ","], arg(help=f"decimal point of text ({TEXT_FILES})")] = "."
    limits: LimitsConfig = LimitsConfig()
    detector: Detector = Detector()
    """of the hits of a file; a dataset has its own"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        if self.overwrite and not self.plot_file:
            raise ValueError("overwrite has no effect without plot_file")
        if self.plot_file and self.plots not in ("save", "both"):
            raise ValueError(f"plot_file has no effect with plots {self.plots}")


def run(argv: list[str]) -> int:
    """Inspect a dataset or file and print what it holds; returns 2 if it has a problem."""
    options = parse(Options, argv, command="inspect")
    from tofae_jax.data.convert import is_dataset
    from tofae_jax.data.files.inspect_file import describe_file
    from tofae_jax.runs.messages import say, show

    source = Path(options.source)
    if not is_dataset(source) and (source.is_file() or format_of(source) is not None or source.is_dir()):
        if options.plot_file or options.plots in ("show", "both"):
            raise ConfigError(f"inspect: {source} is no dataset, and only of one a figure is drawn; convert makes one")
        how = {"detector": options.detector, "decimal": options.decimal, "limits": options.limits.chosen}
        show(describe_file(source, **how))
        return 0
    from tofae_jax import plots
    from tofae_jax.data.dataset import Dataset
    from tofae_jax.data.inspection import describe, inspect_dataset
    from tofae_jax.data.simulated import MODULE_GENERATOR
    from tofae_jax.runs.figure_output import check_delivery, deliver

    dataset = Dataset(source, verify=False)  # all of it is checked below
    check_own_detector(argv, options, source, dataset.detector)
    if options.decimal != ".":
        raise ConfigError(f"inspect: {source} is a dataset, which has no text: --decimal has no effect")
    if options.limits != LimitsConfig():
        raise ConfigError(f"inspect: {source} is a dataset, and limits are for files: --limits has no effect")
    name = options.plot_file or f"runs/inspect-{dataset.path.resolve().name}.png"
    if options.plot_file:
        check_delivery(name, options.plots, overwrite=options.overwrite)
    found = inspect_dataset(dataset)
    show(describe(dataset, found))
    if options.plots != "none":
        is_ours = dataset.provenance.get("generator") == MODULE_GENERATOR
        angles = dataset.provenance["module"]["theta_z_rad"] if is_ours else None
        figure = plots.dataset_distributions(
            found.distributions, detector=dataset.detector, row_angles_rad=tuple(angles) if angles else None
        )
        path = deliver(figure, Path(name), options.plots, overwrite=options.overwrite or not options.plot_file)
        if path:
            show([f"plot saved: {path}"])
    for problem in found.problems:
        say(f"problem: {problem}")
    return 2 if found.problems else 0
