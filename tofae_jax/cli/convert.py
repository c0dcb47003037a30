"""The command `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from tofae_jax.cli.options import (
    HIT_FILES,
    IMAGE_FILES,
    PROGRAM,
    WRITABLE_FILES,
    OutputOptions,
    check_own_detector,
    parse,
    reading_options,
    say_of_reading,
)
from tofae_jax.config import ConfigError
from tofae_jax.core.detector import Detector

if TYPE_CHECKING:
    from tofae_jax.data.files.predecessor_checkpoint import PredecessorCheckpoint


class Options(OutputOptions, frozen=True, kw_only=True):
    """make a dataset from files of other programs, or such a file from a dataset; a run from a .pth checkpoint"""

    src: Annotated[
        Positional[str],
        arg(
            metavar="SRC",
            help=f"images ({IMAGE_FILES}); hits ({HIT_FILES}); several as one, a pattern in quotes ('run*.root') or a "
            "folder of files; a dataset folder; a .pth checkpoint",
        ),
    ]
    out: Annotated[
        Positional[str],
        arg(
            metavar="OUT",
            help=f"dataset folder to make, or hit file ({WRITABLE_FILES}); of a checkpoint: run folder",
        ),
    ]
    overwrite: bool = False
    """replace a dataset, file or run that is there"""
    detector: Detector = Detector()
    """of the hits of a file; a dataset has its own"""


def run(argv: list[str]) -> None:
    """Convert the source and print what was written."""
    options = parse(Options, argv, command="convert")
    from tofae_jax.data.convert import convert_events, is_dataset
    from tofae_jax.data.dataset import Dataset
    from tofae_jax.data.files.predecessor_checkpoint import read_predecessor_checkpoint
    from tofae_jax.runs.messages import show

    source, out = Path(options.src), Path(options.out)
    if (checkpoint := read_predecessor_checkpoint(source)) is not None:
        _convert_checkpoint(options, checkpoint, [PROGRAM, "convert", *argv])
        return
    if is_dataset(source):
        check_own_detector(argv, options, source, Dataset(source).detector)
    done = convert_events(
        source,
        out,
        detector=options.detector,
        overwrite=options.overwrite,
        output_units=options.output_units,
        **reading_options(options),
    )
    say_of_reading(source, done.reading)
    show([f"{done.n_events} events, {done.n_hits} hits: {out}"], is_on_disk=True)


def _convert_checkpoint(options: Options, checkpoint: PredecessorCheckpoint, command: list[str]) -> None:
    if options.array is not None:
        raise ConfigError(f"convert: --array {options.array}: {options.src} is a checkpoint and has no named arrays")
    if reading_options(options) != reading_options(Options(src="", out="")):
        raise ConfigError(f"convert: {options.src} is a checkpoint, for which no tree, columns or units can be chosen")
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.import_predecessor import predecessor_run
    from tofae_jax.runs.messages import show

    _, record = predecessor_run(
        checkpoint, options.out, detector=options.detector, overwrite=options.overwrite, command=command
    )
    n_parameters, epoch = record.results["parameters"], record.results["epochs"]
    about = f"autoencoder of {n_parameters} parameters after epoch {epoch}, {record.results['precision']}"
    show([f"{about}: {options.out}"], is_on_disk=True)
