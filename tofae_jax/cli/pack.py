"""The command `pack`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from tofae_jax.cli.options import parse
from tofae_jax.config import Config, read_toml
from tofae_jax.config.types import CountOrRange, Section, check_range


class Options(Section, frozen=True):
    """store the weights of a run in the package, as a model for denoise --model NAME"""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """run folder"""
    name: Annotated[Positional[str], arg(metavar="NAME")]
    """name of the packaged model; one that is there is replaced"""
    config: str | None = None
    """recipe with other settings to use the weights with, e.g. of the track search; None: the settings of the run"""
    signal: CountOrRange | None = None
    """signal hits kept per event of the evaluation, a number or a range; None: as in the settings"""
    noise: CountOrRange | None = None
    """noise hits added per event of the evaluation, a number or a range; None: as in the settings"""

    def __post_init__(self) -> None:
        """Refuse what the types cannot."""
        for name in ("signal", "noise"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value)


def run(argv: list[str]) -> None:
    """Pack a run, and print the folder of the model and its size."""
    options = parse(Options, argv, command="pack")
    config = None if options.config is None else read_toml(options.config, Config)
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.evaluate import with_degradation
    from tofae_jax.engine.load import load_run
    from tofae_jax.engine.pretrained.pack import check_name, pack_run
    from tofae_jax.runs.messages import show

    check_name(options.name)
    loaded = load_run(options.run, best=False)
    config = with_degradation(
        loaded.setup.config if config is None else config, n_signal=options.signal, n_noise=options.noise
    )
    folder = pack_run(loaded, options.name, config=config)
    size = sum(path.stat().st_size for path in folder.iterdir())
    show([f"{folder}: {size / 1e6:.2f} MB"], is_on_disk=True)
