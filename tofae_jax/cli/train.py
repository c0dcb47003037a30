"""The command `train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tofae_jax.config import Config, ConfigError, read_toml

if TYPE_CHECKING:
    pass
from tofae_jax.cli.options import EXIT_CODES, PROGRAM, parse

DEFAULT_RECIPE = "demo.toml"


def recipes_folder() -> Path:
    """Where the recipes are: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def train(argv: list[str]) -> int:
    """train a denoiser, evaluate it on unseen events, draw; without arguments: the demo"""
    rest = list(argv)
    recipe, resumed, parent = (_take(rest, option) for option in ("--config", "--resume", "--from"))
    if resumed and (recipe or parent):
        raise ConfigError("train: --resume goes on with a run's own settings; it takes neither --config nor --from")
    about = (
        "Train a denoiser, evaluate it on unseen events, draw. --config FILE takes settings from a TOML recipe; "
        f"without it configs/{DEFAULT_RECIPE} is used. --resume RUN goes on with an interrupted run. --from RUN "
        "starts another run from its weights, with its settings unless --config gives others. Options override all."
    )
    if recipe is None and (resumed or parent):
        from tofae_jax.runs.record import settings_of

        default = settings_of(resumed or parent or "")
    else:
        default = read_toml(recipe or recipes_folder() / DEFAULT_RECIPE, Config)
    if parent:
        optimiser = default.start.optimiser if recipe else False  # the parent's own start is not inherited
        default = msgspec.structs.replace(default, start=type(default.start)(run=parent, optimiser=optimiser))
    config = parse(Config, rest, command="train", default=default, about=about)
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.summary import outputs_table

    command = [PROGRAM, "train", *argv]
    paths, record = (
        training.resume(resumed, config, command=command) if resumed else training.train(config, command=command)
    )
    if record.results["test"]:
        print(outputs_table(record.results["test"]))
    if record.status == "stopped":
        print(f"stopped ({record.reason}) after {record.results['steps']} steps; train --resume {paths.folder} goes on")
    print(f"run folder, with plots/ and {paths.summary.name}:")
    print(paths.folder)
    return EXIT_CODES.get(record.reason, 0)


def _take(words: list[str], option: str) -> str | None:
    """The value of an option, which is taken out of the words; None where it is not given."""
    for i, word in enumerate(words):
        if word == option:
            value = words[i + 1] if i + 1 < len(words) else ""
            del words[i : i + 2]
        elif word.startswith(f"{option}="):
            value = words.pop(i).partition("=")[2]
        else:
            continue
        if not value or value.startswith("--"):
            raise ConfigError(f"train: {option} needs a value")
        return value
    return None
