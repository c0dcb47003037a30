"""Store a run's weights in the package: `python -m tofae_jax.packaged RUN NAME`."""

from __future__ import annotations

import argparse

from tofae_jax.config import Config, read_toml
from tofae_jax.engine import process
from tofae_jax.engine.evaluate import with_degradation
from tofae_jax.engine.load import load_run
from tofae_jax.engine.pretrained.pack import pack_run


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
    try:
        config = None if arguments.config is None else read_toml(arguments.config, Config)
        run = load_run(arguments.run, best=False)
        n_signal, n_noise = _count(arguments.signal), _count(arguments.noise)
        config = with_degradation(run.setup.config if config is None else config, n_signal=n_signal, n_noise=n_noise)
        folder = pack_run(run, arguments.name, config=config)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")


def _count(given: list[int] | None) -> int | tuple[int, ...] | None:
    if given is not None and len(given) > 2:
        raise ValueError(f"--signal and --noise take one number, or two for a range, got {len(given)}")
    if not given:
        return None
    return given[0] if len(given) == 1 else tuple(given)


if __name__ == "__main__":
    main()
