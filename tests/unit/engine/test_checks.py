"""Settings of a run that do not fit each other."""

import pytest

from tofae_jax.config import Config, from_tree
from tofae_jax.engine.checks import check_losses
from tofae_jax.losses import LOSSES


def unnormalised(loss, **sections):
    return from_tree({"normalisation": {"name": "none"}, "loss": loss, **sections}, Config, "test")


@pytest.mark.parametrize("loss", [{"name": "bce"}, {"name": "split", "split": {"hit_loss": "bce"}}])
def test_check_losses_bce_without_unit_targets_is_refused(loss):
    with pytest.raises(ValueError, match=r"^loss.name: bce needs targets in \[0, 1\], which normalisation.name none"):
        check_losses(unnormalised(loss))
    with pytest.raises(ValueError, match=r"^evaluation_loss.name: bce needs targets"):
        check_losses(unnormalised({"name": "mse"}, evaluation_loss=loss))


@pytest.mark.parametrize("name", ["mse", "split"])
def test_check_losses_without_unit_targets_returns_others(name):
    assert check_losses(unnormalised({"name": name, "split": {"hit_loss": "mae"}})) == {"loss": LOSSES[name]}
