"""Settings whose arrays no machine holds are refused before anything is made."""

import pytest
from tiny import settings_from

from tofae_jax.config import ConfigError
from tofae_jax.engine.build import build_run
from tofae_jax.engine.memory_checks import check_batches, check_parameters, memory_bytes

SMALL = {"n_x": 12, "n_y": 16, "n_t": 40}


def test_memory_bytes_is_that_of_a_machine():
    assert 2**28 < memory_bytes() < 2**50


def test_check_batches_defaults_are_allowed():
    assert check_batches(settings_from({})) is None


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"train": {"batch": 1_000_000}, "detector": {"n_x": 32767}}, ["train.batch 1000000", "detector.n_x 32767"]),
        (
            {"train": {"batch": 1_000_000}, "detector": SMALL, "data": {"max_hits": 1_000_000}},
            ["max_hits 1000000", "held ready"],
        ),
        (
            {"train": {"batch": 1_000_000}, "detector": SMALL, "data": {"prefetch_batches": 10_000}},
            ["prefetch_batches 10000"],
        ),
    ],
)
def test_check_batches_names_the_settings_of_a_product(tree, parts):
    with pytest.raises(ConfigError) as error:
        check_batches(settings_from(tree))
    assert all(part in str(error.value) for part in parts)


def test_check_parameters_counts_without_making_them():
    check_parameters(build_run(settings_from({"detector": SMALL})))
    large = settings_from({"detector": SMALL, "model": {"autoencoder": {"fc": 65_536, "latent": 65_536}}})
    with pytest.raises(ConfigError, match=r"17,19.* parameters"):
        check_parameters(build_run(large))
