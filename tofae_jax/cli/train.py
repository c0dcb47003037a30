"""The command `train`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tofae_jax.cli.options import EXIT_CODES, PROGRAM, given_keys, parse
from tofae_jax.cli.schedule_options import take_schedules
from tofae_jax.config import Config, ConfigError
from tofae_jax.config.loading import read_toml_and_keys
from tofae_jax.config.plugins import load_plugins
from tofae_jax.config.schedules import kinds_and_fields
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
    "module that registers further models and losses. --schedules.KEY.FIELD VALUE lets a number of the degradation, a "
    "weight of the loss or the learning rate follow the epochs, e.g. --schedules.degradation.n-noise.kind linear "
    "--schedules.degradation.n-noise.start 20 --schedules.degradation.n-noise.end 200 "
    "--schedules.degradation.n-noise.last-epoch 10; kinds and their fields: "
    f"{kinds_and_fields().replace('_', '-')}. Options override all; one that has no effect beside the others is "
    "refused. The lengths of the detector are those of the dataset, if there is one already, unless they are given."
)


def run(argv: list[str]) -> int:
    """Train a run, or resume one, and print its results."""
    rest = list(argv)
    options = take_options(rest)
    load_plugins(options.plugins)
    recipe = _recipe(options)
    in_recipe = read_toml_and_keys(recipe, Config) if recipe is not None else None
    default = _default(options, in_recipe[0] if in_recipe is not None else None)
    default = msgspec.structs.replace(default, schedules=take_schedules(rest, default.schedules))
    config = parse(Config, rest, command="train", default=default, about=ABOUT)
    options_given = given_keys(rest, config)
    from tofae_jax.engine import process

    process.prepare_process()
    from tofae_jax.engine.given_settings import Given
    from tofae_jax.engine.training import train as training
    from tofae_jax.runs.messages import show
    from tofae_jax.runs.summary import outputs_table

    command, given = [PROGRAM, "train", *argv], Given(options_given)
    if recipe is not None and in_recipe is not None:
        given = given._replace(recipe=in_recipe[0], in_recipe=in_recipe[1] - options_given, name=recipe.name)
    if options.resumed:
        paths, record = training.resume(options.resumed, config, command=command, given=given)
    else:
        paths, record = training.train(config, command=command, given=given)
    lines = outputs_table(record.results["test"]).splitlines() if record.results["test"] else []
    if record.status == "stopped":
        steps = record.results["steps"]
        lines.append(f"stopped ({record.reason}) after {steps} steps; train --resume {paths.folder} goes on")
    show([*lines, f"run folder, with plots/ and {paths.summary.name}:", str(paths.folder)], is_on_disk=True)
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


def _recipe(options: Options) -> Path | None:
    """Return the path of the recipe in use; None where the settings are those of a run."""
    if options.recipe is None and (options.resumed or options.parent):
        return None
    return Path(options.recipe) if options.recipe else recipes_folder() / DEFAULT_RECIPE


def _default(options: Options, default: Config | None) -> Config:
    """Return the settings that the other options change: those of the recipe, or of a run."""
    if default is None:
        from tofae_jax.runs.record import settings_of

        default = settings_of(options.resumed or options.parent or "")
    if options.parent:
        optimiser = default.start.optimiser if options.recipe else False  # the parent's own start is not inherited
        start = type(default.start)(run=options.parent, optimiser=optimiser)
        default = msgspec.structs.replace(default, start=start)
    further = [name for name in options.plugins if name not in default.plugins]
    return msgspec.structs.replace(default, plugins=(*default.plugins, *further))
