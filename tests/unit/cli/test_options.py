"""Options that several commands share."""

import pytest

from tofae_jax.cli.options import SourceOptions, parse, reading_options
from tofae_jax.config import ConfigError

DEFAULTS = {"array": None, "tree": None, "columns": {}, "further": None, "units": "pixels", "origin": "edge"}


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--array", "a"], {"array": "a"}),
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
