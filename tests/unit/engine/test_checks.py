"""Settings of a run that do not fit each other."""

import pytest

from tofae_jax.config import Config, ConfigError, from_tree
from tofae_jax.engine.checkpoint_policy import checkpoint_policy
from tofae_jax.engine.checks import check_losses, check_new_run, check_run
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


UNREACHED = (
    r"^normalisation.name = 'none': the targets of {}.name {} are time bins up to 1000, and the outputs of model {}"
)


@pytest.mark.parametrize("loss", ["mse", "acb_mse", "sse"])
def test_check_new_run_targets_out_of_reach_are_refused(loss):
    with pytest.raises(ConfigError, match=UNREACHED.format("loss", loss, "autoencoder")):
        check_new_run(unnormalised({"name": loss}))


def test_check_new_run_evaluation_loss_out_of_reach_is_refused():
    tree = {"model": {"name": "unet"}, "evaluation_loss": {"name": "mse"}}
    with pytest.raises(ConfigError, match=UNREACHED.format("evaluation_loss", "mse", "unet")):
        check_new_run(unnormalised({"name": "hit_bce"}, **tree))


@pytest.mark.parametrize(
    "sections",
    [
        {"normalisation": {"name": "gapped"}},
        {"normalisation": {"name": "binary"}},
        {"model": {"name": "hit_transformer"}, "loss": {"name": "hit_bce"}},
        {"detector": {"n_t": 1}},  # time bins are 0 and 1
    ],
)
def test_check_new_run_targets_within_reach_pass(sections):
    assert check_new_run(from_tree({"normalisation": {"name": "none"}} | sections, Config, "test")) is None


def test_check_run_lets_older_runs_be_resumed():
    """Runs of earlier versions may have what new ones may not: they go on as they began."""
    assert check_run(unnormalised({"name": "mse"}, mask={"tof_tolerance_ns": 65})) is None


@pytest.mark.parametrize(
    ("metric", "better", "is_higher"),
    [
        (None, None, True),
        ("loss", None, False),
        ("masked.mse", None, False),
        ("masked.false_positives_per_event", None, False),
        ("direct.ssim", None, True),
        ("loss", "higher", True),
        ("masked.f1", "lower", False),
        ("counts.kept_hits", "lower", False),
    ],
)
def test_checkpoint_policy_keeps_what_is_better(metric, better, is_higher):
    config = from_tree({"checkpoints": {"metric": metric, "better": better}}, Config, "test")
    assert check_run(config) is None
    assert checkpoint_policy(config).higher_is_better == is_higher


@pytest.mark.parametrize("metric", ["counts.kept_hits", "outputs.above"])
def test_check_metric_without_a_direction_asks_for_one(metric):
    with pytest.raises(ConfigError, match=r"^checkpoints.metric = '.*': neither high nor low .* checkpoints.better"):
        check_run(from_tree({"checkpoints": {"metric": metric}}, Config, "test"))
