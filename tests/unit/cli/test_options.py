"""Options that several commands share."""

import re

import pytest

from tofae_jax.cli import app
from tofae_jax.cli.options import SourceOptions, given_keys, parse, reading_options
from tofae_jax.config import Config, ConfigError
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.registry import (
    endings_with_arrays,
    endings_with_trees,
    readable_endings,
    table_endings,
    track_endings,
    writable_endings,
)

DEFAULTS = {"array": None, "tree": None, "columns": {}, "further": None, "units": "pixels", "origin": "edge"}
DEFAULTS |= {"decimal": ".", "per": "", "limits": Limits()}


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--array", "a"], {"array": "a"}),
        (["--limits.memory-gb", "2"], {"limits": Limits(memory_gb=2)}),
        (["--limits.event-hits", "7", "--limits.expansion", "3"], {"limits": Limits(event_hits=7, expansion=3)}),
        (["--columns.x", "column", "--columns.t", "t"], {"columns": {"x": "column"}}),
        (["--columns.event", ""], {"columns": {"event": ""}}),
        (["--columns.further", "none"], {"further": []}),
        (["--columns.further", ""], {"further": []}),
        (["--columns.further", "a,b"], {"further": ["a", "b"]}),
        (["--columns.further", "all"], {"further": None}),
        (["--units", "physical", "--origin", "centre"], {"units": "physical", "origin": "centre"}),
    ],
)
def test_reading_options_parsed_words_give_arguments(words, changed):
    assert reading_options(parse(SourceOptions, words, command="convert")) == DEFAULTS | changed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--units", "miles"], "convert: .*'miles'"),
        (["--arra", "a"], "convert: .*--arra.*; perhaps you meant --array"),
        (["a"], "convert: .*a"),
    ],
)
def test_parse_bad_words_are_one_line(words, said):
    with pytest.raises(ConfigError, match=said) as error:
        parse(SourceOptions, words, command="convert")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "endings"),
    [
        ("convert", {*readable_endings(), *writable_endings(), *table_endings()}),
        ("denoise", {*writable_endings(), *track_endings(), *endings_with_trees(), *endings_with_arrays()}),
        ("evaluate", set(writable_endings())),
    ],
)
def test_help_of_a_command_names_every_file_format(command, endings, capsys):
    with pytest.raises(SystemExit):
        app.main([command, "--help"])
    words = re.split(r"[^\w.]+", capsys.readouterr().out)
    assert len(endings) > 5
    assert endings <= set(words)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], set()),
        (["--seed", "3"], {"seed"}),
        (["--seed=3", "--degradation.n-noise", "1", "2"], {"seed", "degradation.n_noise"}),
        (["--degradation.n_noise", "-1"], {"degradation.n_noise"}),
        (["--train.no-jit"], {"train.jit"}),
        (["--tracking.no-tensorboard", "--train.jit"], {"tracking.tensorboard", "train.jit"}),
        (["--loss.acb-mse.hit-weight", "auto"], {"loss.acb_mse.hit_weight"}),
        (["--checkpoints.keep", "3"], {"checkpoints.keep"}),  # and not keep_best
        (["--nonsense", "seed"], set()),
    ],
)
def test_given_keys_are_those_of_the_words(words, keys):
    assert given_keys(words, Config()) == keys
