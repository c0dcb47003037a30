"""The command `train`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tofae_jax.cli.options import EXIT_CODES, PROGRAM, parse
from tofae_jax.config import Config, ConfigError, read_toml
from tofae_jax.config.plugins import load_plugins
from tofae_jax.config.types import Section

DEFAULT_RECIPE = "demo.toml"


class Options(Section, frozen=True):
    """train a denoiser, evaluate it on unseen events, draw; without arguments: the demo"""

    recipe: str | None = None
    """--config: TOML file of settings"""
    resumed: str | None = None
    """--resume: folder of the run to resume"""
    parent: str | None = None
    """--from: folder of the run to start from"""
    plugins: tuple[str, ...] = ()
    """--plugin, which may be given several times: modules that register further models and losses"""


ABOUT = (
    "Train a denoiser, evaluate it on unseen events, draw. --config FILE takes settings from a TOML recipe; "
    f"without it configs/{DEFAULT_RECIPE} is used. --resume RUN goes on with an interrupted run. --from RUN "
    "starts another run from its weights, with its settings unless --config gives others. --plugin MODULE imports a "
    "module that registers further models and losses. Options override all."
)


def run(argv: list[str]) -> int:
    """Train a run, or resume one, and print its results."""
    rest = list(argv)
    options = take_options(rest)
    config = parse(Config, rest, command="train", default=_default(options), about=ABOUT)
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.summary import outputs_table

    command = [PROGRAM, "train", *argv]
    paths, record = (
        training.resume(options.resumed, config, command=command)
        if options.resumed
        else training.train(config, command=command)
    )
    if record.results["test"]:
        print(outputs_table(record.results["test"]))
    if record.status == "stopped":
        print(f"stopped ({record.reason}) after {record.results['steps']} steps; train --resume {paths.folder} goes on")
    print(f"run folder, with plots/ and {paths.summary.name}:")
    print(paths.folder)
    return EXIT_CODES.get(record.reason, 0)


def recipes_folder() -> Path:
    """Return the folder of the recipes: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def take_options(words: list[str]) -> Options:
    """Take the options out of the words that choose the defaults of all settings: `--config`, `--resume` and so on.

    Raises:
        ConfigError: a value is missing, or --resume is combined with another of them.
    """
    options = Options(
        recipe=_take(words, "--config"),
        resumed=_take(words, "--resume"),
        parent=_take(words, "--from"),
        plugins=tuple(iter(lambda: _take(words, "--plugin"), None)),
    )
    if options.resumed and (options.recipe or options.parent):
        raise ConfigError("train: --resume goes on with a run's own settings; it takes neither --config nor --from")
    return options


def _take(words: list[str], option: str) -> str | None:
    """Take an option and its value out of the words; returns the value, or None where the option is not given."""
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


def _default(options: Options) -> Config:
    """Return the settings that the other options change."""
    load_plugins(options.plugins)
    if options.recipe is None and (options.resumed or options.parent):
        from tofae_jax.runs.record import settings_of

        default = settings_of(options.resumed or options.parent or "")
    else:
        default = read_toml(options.recipe or recipes_folder() / DEFAULT_RECIPE, Config)
    if options.parent:
        optimiser = default.start.optimiser if options.recipe else False  # the parent's own start is not inherited
        start = type(default.start)(run=options.parent, optimiser=optimiser)
        default = msgspec.structs.replace(default, start=start)
    further = [name for name in options.plugins if name not in default.plugins]
    return msgspec.structs.replace(default, plugins=(*default.plugins, *further))
