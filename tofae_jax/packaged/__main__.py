"""Store a run's weights in the package: `python -m tofae_jax.packaged RUN NAME`."""

from __future__ import annotations

import argparse

import msgspec

from tofae_jax import process
from tofae_jax.config import Config, read_toml
from tofae_jax.evaluation import load_run
from tofae_jax.packaged import pack_run


def main() -> None:
    """Pack, and say how large it is."""
    parser = argparse.ArgumentParser(prog="python -m tofae_jax.packaged", description=__doc__)
    parser.add_argument("run", help="run folder")
    parser.add_argument("name", help="what the model is called, as in denoise --model NAME")
    parser.add_argument("--config", help="recipe with other settings to use it with, e.g. of its search")
    for what in ("signal", "noise"):
        parser.add_argument(
            f"--{what}", type=int, nargs="+", help=f"{what} hits of the events it is measured by: a number or a range"
        )
    arguments = parser.parse_args()
    process.prepare_process()
    config = None if arguments.config is None else read_toml(arguments.config, Config)
    run = load_run(arguments.run, best=False)
    config = run.assembly.config if config is None else config
    counts = {"n_signal": arguments.signal, "n_noise": arguments.noise}
    counts = {name: given[0] if len(given) == 1 else tuple(given) for name, given in counts.items() if given}
    config = msgspec.structs.replace(config, degradation=msgspec.structs.replace(config.degradation, **counts))
    folder = pack_run(run, arguments.name, config=config)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
