"""Settings that have no effect beside the others."""

import pytest
from tiny import settings_from

from tofae_jax.config import Config, leaves, only_used, to_tree
from tofae_jax.config.unused import (
    Unused,
    is_default,
    overridden_by_schedules,
    reason_of_unused,
    unused_by_choice,
)


def tree_of(**sections):
    return to_tree(settings_from({}, **sections))


def why(key, value=1, **sections):
    return reason_of_unused(key, value, unused_by_choice(tree_of(**sections)))


NOISE = "degradation.noise"
BACKGROUND = "data.simulate.lhcb_torch.background"
SCHEDULE = {"kind": "constant", "value": 0.5}


@pytest.mark.parametrize(
    ("key", "sections", "reason"),
    [
        ("loss.mse", {}, "loss.name is acb_mse"),
        ("loss.acb_mse.hit_weight", {"loss": {"name": "mae"}}, "loss.name is mae"),
        ("loss.acb_mse_mean.hit_weight", {}, "loss.name is acb_mse"),
        ("evaluation_loss.mse", {}, "evaluation_loss.name is same: the training loss, acb_mse, with its settings"),
        ("evaluation_loss.bce.epsilon", {"evaluation_loss": {"name": "mse"}}, "evaluation_loss.name is mse"),
        ("model.unet.width", {}, "model.name is autoencoder"),
        ("model.lhcb_torch_tracks.width", {"model": {"name": "lhcb_torch"}}, "model.name is lhcb_torch"),
        (
            "model.lhcb_torch.refined",
            {"model": {"name": "lhcb_torch", "lhcb_torch": {"samples": 0}}},
            "model.lhcb_torch.samples is 0",
        ),
        ("data.path", {"data": {"source": "simulate"}}, "data.source is simulate"),
        ("data.prefetch_batches", {"data": {"threads": 0}}, "data.threads is 0"),
        ("data.max_background", {}, f"{NOISE}.data is 0"),
        (f"{NOISE}.cluster_sigma_ns", {}, f"{NOISE}.clusters is 0"),
        (f"{NOISE}.hot_pixel_seed", {}, f"{NOISE}.hot_pixels is 0"),
        (f"{NOISE}.n_bursts", {}, f"{NOISE}.time_bursts is 0"),
        (
            f"{BACKGROUND}.hot_pixel_seed",
            {"data": {"simulate": {"lhcb_torch": {"background": {"n_hot": 0}}}}},
            f"{BACKGROUND}.n_hot is 0",
        ),
        ("normalisation.threshold", {"normalisation": {"name": "none"}}, "normalisation.name is none"),
        ("mask.wanted", {}, "mask.choose is none"),
        ("mask.score_threshold", {"mask": {"choose": "f1"}}, "mask.choose is f1"),
        ("checkpoints.better", {"data": {"validation_share": 0}}, "data.validation_share is 0"),
        ("train.plots_every", {"train": {"plots": "show"}}, "train.plots is show"),
        ("train.plots_every", {"data": {"validation_share": 0}}, "data.validation_share is 0"),
        ("tracking.images_every", {"data": {"validation_share": 0}}, "data.validation_share is 0"),
        (
            "data.simulate.lhcb_torch.module.dense_factor",
            {"data": {"simulate": {"lhcb_torch": {"photons": "detected"}}}},
            "data.simulate.lhcb_torch.photons is detected",
        ),
        ("tracking.images_every", {"tracking": {"tensorboard": False}}, "tracking.tensorboard is false"),
        ("tracking.dashboard_port", {}, "tracking.dashboard is false"),
        ("instruments.record_memory_mib", {}, "instruments.record_every is 0"),
        ("instruments.profile_folder", {}, "instruments.profile_steps is 0"),
        ("instruments.python_profile_viewer", {}, "instruments.python_profile is false"),
        ("start.optimiser", {}, "start.run is empty"),
    ],
)
def test_unused_by_choice_says_what_is_chosen(key, sections, reason):
    assert why(key, **sections) == reason


@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("loss.acb_mse.hit_weight", {}),
        ("loss.acb_mse", {}),
        ("loss.name", {"loss": {"name": "mse"}}),
        ("evaluation_loss.mse", {"evaluation_loss": {"name": "mse"}}),
        ("model.lhcb_torch.refined", {"model": {"name": "lhcb_torch"}}),
        (f"{NOISE}.cluster_sigma_ns", {"degradation": {"noise": {"clusters": 0.1}}}),
        (f"{NOISE}.cluster_sigma_ns", {"schedules": {f"{NOISE}.clusters": SCHEDULE}}),
        (f"{NOISE}.clusters", {}),
        ("data.max_background", {"schedules": {f"{NOISE}.data": SCHEDULE}}),
        ("data.path", {}),
        ("tracking.images_every", {}),
        ("start.optimiser", {"start": {"run": "r"}}),
        ("optimiser.warmup_steps", {}),
    ],
)
def test_unused_by_choice_settings_in_use_have_no_reason(key, sections):
    assert why(key, **sections) is None


def test_reason_of_unused_off_beside_a_switch_says_the_same():
    off = {"tracking": {"tensorboard": False}}
    assert why("tracking.images_every", 0, **off) is None
    assert why("tracking.images_every", 3, **off)
    assert why("loss.acb_mse.hit_weight", 0.0, loss={"name": "mse"})  # 0 is a weight, not a switch


def test_reason_of_unused_key_is_matched_as_a_whole():
    unused = [Unused("loss.acb_mse", "it is"), Unused("a.b", "too")]
    assert reason_of_unused("loss.acb_mse", 1, unused) == "it is"
    assert reason_of_unused("loss.acb_mse.hit_weight", 1, unused) == "it is"
    assert reason_of_unused("loss.acb_mse_3d.hit_weight", 1, unused) is None
    assert reason_of_unused("a.bc", 1, unused) is None


@pytest.mark.parametrize(
    ("key", "sections", "is_overridden"),
    [
        ("optimiser.learning_rate", {}, True),
        ("degradation.n_noise", {}, False),  # validation and test use the setting itself
        ("loss.acb_mse.hit_weight", {}, False),
        ("loss.acb_mse.hit_weight", {"evaluation_loss": {"name": "mse"}}, True),
    ],
)
def test_overridden_by_schedules_is_what_nothing_else_reads(key, sections, is_overridden):
    tree = tree_of(schedules={key: SCHEDULE}, **sections)
    assert [entry.key for entry in overridden_by_schedules(tree)] == ([key] if is_overridden else [])
    assert overridden_by_schedules(tree_of()) == []


def test_only_used_keeps_what_is_chosen():
    shown = only_used(to_tree(Config()))
    assert list(shown["model"]) == ["name", "autoencoder"]
    assert list(shown["loss"]) == ["name", "acb_mse"]
    assert shown["evaluation_loss"] == {"name": "same"}
    assert "schedules" not in shown and "plugins" not in shown
    assert shown["start"] == {"run": ""} and "dashboard_port" not in shown["tracking"]
    assert "cluster_sigma_ns" not in shown["degradation"]["noise"] and shown["degradation"]["noise"]["clusters"] == 0
    assert only_used(tree_of(loss={"name": "mse"}))["loss"] == {"name": "mse"}


@pytest.mark.parametrize(
    "tree",
    [{}, {"loss": "nonsense", "model": 3}, {"model": {"name": "of_a_plugin", "plugin": {"width": 3}}, "new": {"a": 1}}],
)
def test_only_used_unknown_record_is_shown_as_it_is(tree):
    """Records of plugins that are not installed, of newer versions, or damaged ones."""
    assert only_used(tree) == tree


def test_only_used_schedules_keep_their_keys():
    tree = tree_of(schedules={"degradation.n_noise": SCHEDULE})
    assert only_used(tree)["schedules"] == {"degradation.n_noise": {"kind": "constant", "value": 0.5}}


def test_is_default_compares_with_the_settings():
    assert is_default("data.threads", 1) and not is_default("data.threads", 2)
    assert not is_default("model.plugin.width", 1)
    assert all(is_default(key, value) for key, value in leaves(to_tree(Config())))
