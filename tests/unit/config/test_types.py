"""Every whole number among the settings has limits."""

from typing import Annotated, get_args, get_origin

import msgspec
import pytest

from tofae_jax.config import Config, ConfigError, checked, from_tree, parse_duration
from tofae_jax.config.types import MOST_HITS

CHECKED_ELSEWHERE = {"n_hot_pixels"}
"""by `lhcb_torch.simulation.check_settings`"""


def whole_numbers(kind, path=()):
    """Yield the path and the limits of every field of whole numbers."""
    for field in msgspec.structs.fields(kind):
        parts = [field.type, *get_args(field.type)]
        for part in parts:
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                yield from whole_numbers(part, (*path, field.name))
            limits = get_args(part)[1] if get_origin(part) is Annotated else None
            if part is int or (limits is not None and get_args(part)[0] is int):
                yield (*path, field.name), limits if isinstance(limits, msgspec.Meta) else None


FIELDS = sorted(dict(whole_numbers(Config)).items(), key=lambda item: item[0])


def tree_of(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


@pytest.mark.parametrize("path", [path for path, _ in FIELDS], ids=".".join)
@pytest.mark.parametrize("value", [10**12, 10**18, 10**23, -1])
def test_from_tree_whole_number_beyond_any_sense_is_refused_with_its_name(path, value):
    if path[-1] in CHECKED_ELSEWHERE:
        return
    with pytest.raises(ConfigError) as error:
        from_tree(tree_of(path, value), Config, "a.toml")
    assert "a.toml" in str(error.value) and path[-1] in str(error.value)


def test_fields_are_those_of_all_sections():
    names = {".".join(path) for path, _ in FIELDS}
    assert {"seed", "train.epochs", "train.batch", "data.prefetch_batches", "model.unet.depth", "detector.n_x"} <= names
    assert len(names) > 60


def test_checked_number_of_hits_in_a_range_is_limited():
    with pytest.raises(ConfigError, match=str(MOST_HITS)):
        checked(from_tree({"degradation": {"n_noise": [1, 10**20]}}, Config, "x"))


def test_parse_duration_of_centuries_is_refused():
    assert parse_duration("100000h") == 3.6e8
    for text in ("100001h", "9" * 500 + "h"):
        with pytest.raises(ValueError, match="up to 100000h"):
            parse_duration(text)
