"""What of a run's settings has no effect, and what is recorded."""

from functools import partial

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from module_datasets import run_settings, simulate_module
from tiny import settings_from

from tofae_jax.config import Config, SimulateConfig, from_tree, leaves, to_tree
from tofae_jax.config.unused import reason_of_unused
from tofae_jax.core.degradation import degrade
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run, degradation_settings
from tofae_jax.engine.events import simulated_events, write_simulation
from tofae_jax.engine.unused_settings import recorded_seeds, recorded_settings, simulated_otherwise, unused_settings

SMALL = {"n_x": 12, "n_y": 16, "n_t": 40}
HITS = {"model": {"name": "hit_transformer"}, "loss": {"name": "hit_bce"}}
ON_THE_FLY = {"data": {"source": "simulate", "simulate": {"events": 20}}}


def why(key, value=1, *, has_policy=False, **sections):
    return reason_of_unused(key, value, unused_settings(settings_from({}, **sections), has_policy=has_policy))


@pytest.mark.parametrize(
    ("key", "sections", "reason"),
    [
        ("train.target", HITS, "loss hit_bce compares hits"),
        ("normalisation.threshold", HITS, "model hit_transformer and loss hit_bce work on hits"),
        (
            "normalisation.threshold",
            {"model": {"name": "unet"}, "loss": {"name": "hit_bce"}, "normalisation": {"name": "binary"}},
            "model unet and loss hit_bce work on hits",
        ),
        ("data.max_tracks", {}, "model autoencoder uses no tracks"),
        ("precision.fallback", {}, "precision.policy is float32"),
        ("precision.initial_loss_scale", {"precision": {"policy": "bfloat16"}}, "precision.policy is bfloat16"),
        ("data.simulate.lhcb_torch.photons", {}, "data.simulate.pattern is v"),
        ("data.simulate.lhcb_torch.module.width_mm", {}, "data.simulate.pattern is v"),
        ("data.simulate.lhcb_torch.background.n_dark", {}, "data.simulate.pattern is v"),
        ("loss.mse", {}, "loss.name is acb_mse"),
    ],
)
def test_unused_settings_say_what_has_no_use_for_them(key, sections, reason):
    assert why(key, **sections) == reason


@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("train.target", {}),
        ("train.target", {"model": {"name": "unet"}, "loss": {"name": "acb_mse"}}),
        ("normalisation.threshold", {}),
        ("normalisation.threshold", {"normalisation": {"name": "binary"}}),
        ("normalisation.threshold", {"model": {"name": "unet"}, "loss": {"name": "hit_bce"}}),
        ("data.max_tracks", {"model": {"name": "lhcb_torch"}, "loss": {"name": "hit_bce"}}),
        ("data.max_tracks", {"model": {"name": "lhcb_torch_tracks"}, "loss": {"name": "hit_bce"}}),
        ("data.simulate.lhcb_torch.module.width_mm", {"model": {"name": "lhcb_torch"}, "loss": {"name": "hit_bce"}}),
        ("data.simulate.lhcb_torch.background.n_dark", {"data": {"simulate": {"pattern": "lhcb_torch"}}}),
        ("precision.fallback", {"precision": {"policy": "mixed_float16"}}),
        ("checkpoints.keep", {}),
    ],
)
def test_unused_settings_leave_out_what_is_used(key, sections):
    assert why(key, **sections) is None


def test_unused_settings_given_policy_replaces_the_section():
    assert why("checkpoints.keep", has_policy=True) == "a checkpoint policy is given"


CHANGES = {
    "loss": {"mse": {}, "hit_focal": {"gamma": 1.5}, "acb_mse": {"hit_weight": 7.0}, "bce": {"epsilon": 0.1}},
    "model": {"unet": {"width": 4}, "lhcb_torch": {"width": 4}, "autoencoder": {"latent": 3}},
    "evaluation_loss": {"acb_mse": {"hit_weight": 9.0}},
    "tracking": {"tensorboard": False, "images_every": 3, "dashboard_port": 7000},
    "instruments": {"record_memory_mib": 3.0, "profile_first_step": 4, "python_profile_viewer": True},
    "precision": {"fallback": "float32", "fallback_after": 3, "initial_loss_scale": 8.0, "scale_growth_steps": 3},
    "degradation": {"noise": {"n_clusters": 2, "cluster_sigma_ns": 0.7, "burst_sigma_ns": 2.0, "hot_pixel_seed": 5}},
    "train": {"plots": "none", "plots_every": 3, "batch": 8},
    "start": {"optimiser": True},
}
VARIANTS = {
    "images": {},
    "hits": HITS,
    "unet": {"model": {"name": "unet"}, "loss": {"name": "hit_bce"}},
    "float16": {"precision": {"policy": "mixed_float16"}},
    "noise": {"degradation": {"noise": {"clusters": 0.5}}},
    "scheduled": {"schedules": {"degradation.noise.time_bursts": {"kind": "linear", "start": 0, "end": 0.5}}},
}


def merged(tree, other):
    return {
        key: merged(tree.get(key, {}), value) if isinstance(value, dict) else value for key, value in other.items()
    } | {key: value for key, value in tree.items() if key not in other}


@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_settings_read_as_the_same_run(variant):
    """What is left out takes its default when a run is resumed or used: it must change nothing that is computed."""
    names = {"model": {"name": "autoencoder"}, "loss": {"name": "acb_mse"}}
    tree = merged(merged({"detector": SMALL, **names}, CHANGES), VARIANTS[variant])
    tree["data"] = {"path": "nothing", "max_background": 3, "max_tracks": 2}
    config = from_tree(tree, Config, "test")
    again = from_tree(recorded_settings(config, None), Config, "test")
    assert again != config  # something was left out
    one, two = build_run(config), build_run(again)
    assert one.options == two.options
    assert one.model == two.model
    settings = [build_run(c).step_settings() for c in (config, again)]
    profiles = [of.degradation.noise for of in settings]
    if not one.policy.scales_loss:  # then `train_step` does not read it
        settings = [of._replace(scale_growth_steps=1) for of in settings]
    settings = [of._replace(degradation=of.degradation._replace(noise=None)) for of in settings]
    assert jax.tree.map(float, settings[0]) == jax.tree.map(float, settings[1])
    assert profiles[0].weights == profiles[1].weights
    assert jax.tree.structure(jax.eval_shape(one.fresh_state)) == jax.tree.structure(jax.eval_shape(two.fresh_state))
    assert recorded_settings(again, None) == recorded_settings(config, None)


def test_recorded_settings_noise_without_a_share_changes_no_draw():
    numbers = CHANGES["degradation"]["noise"]
    degraded = jax.jit(partial(degrade, shape_xyt=(12, 16, 40), max_signal=2, max_noise=30))
    drawn = []
    for noise in ({}, numbers, numbers | {"clusters": 0.5}):
        config = settings_from({"detector": SMALL}, degradation={"noise": noise, "n_noise": 30, "n_signal": 2})
        settings = jax.tree.map(jnp.asarray, degradation_settings(config.degradation, config.detector))
        drawn.append(np.asarray(degraded(jax.random.key(1), jnp.array([[1, 2, 3], [4, 5, 6]]), settings).hits))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.any(drawn[0] != drawn[2])  # the check can fail


def test_recorded_settings_simulation_only_where_it_made_the_events(tmp_path):
    detector = Detector(**SMALL)
    config = settings_from({"detector": SMALL}, data={"path": str(tmp_path / "d"), "simulate": {"events": 20}})
    own = write_simulation(str(tmp_path / "d"), config.data.simulate, detector=detector)
    recorded = recorded_settings(config, own)
    assert recorded["data"]["simulate"] == {"pattern": "v", "events": 20, "tracks": 1, "seed": 0}
    other = simulated_dataset(tmp_path / "e", detector=detector, weights={"v": 1}, n_events=20, seed=1)
    assert "simulate" not in recorded_settings(config, other)["data"]
    assert "simulate" not in recorded_settings(config, None)["data"]
    stream = settings_from({"detector": SMALL}, **ON_THE_FLY)
    recorded = recorded_settings(stream, simulated_events(stream))
    assert recorded["data"]["simulate"]["events"] == 20 and "path" not in recorded["data"]


def test_recorded_settings_keep_the_module_of_the_model():
    config = settings_from({}, model={"name": "lhcb_torch"}, loss={"name": "hit_bce"})
    simulate = recorded_settings(config, None)["data"]["simulate"]
    assert list(simulate) == ["lhcb_torch"] and list(simulate["lhcb_torch"]) == ["module"]
    assert simulate["lhcb_torch"]["module"] == to_tree(config.data.simulate.lhcb_torch.module)


@pytest.mark.parametrize(
    ("sections", "seeds"),
    [
        ({}, ["data.split_seed", "seed"]),
        (ON_THE_FLY, ["data.simulate.seed", "data.split_seed", "seed"]),
        (
            {"degradation": {"noise": {"hot_pixels": 1}}},
            ["data.split_seed", "degradation.noise.hot_pixel_seed", "seed"],
        ),
        ({"train": {"repeat_every": 2}}, ["data.split_seed", "seed", "train.repeat_every"]),
    ],
)
def test_recorded_seeds_are_those_in_use(sections, seeds):
    config = settings_from({"detector": SMALL}, **sections)
    store = simulated_events(config) if "data" in sections else None
    assert sorted(recorded_seeds(recorded_settings(config, store))) == seeds


def test_recorded_seeds_of_a_module_have_its_hot_pixels():
    config = run_settings()
    store = simulated_events(settings_from({"detector": SMALL}, **ON_THE_FLY))  # any
    key = "data.simulate.lhcb_torch.background.hot_pixel_seed"
    assert key not in recorded_seeds(recorded_settings(config, store))
    loud = run_settings(data={"simulate": {"pattern": "lhcb_torch", "events": 20}})
    assert recorded_seeds(recorded_settings(loud, store))[key] == 0


PROVENANCE = {
    "generator": "tofae_jax.simulation.patterns",
    "pattern": {"v": 2.0, "line": 1.0},
    "events": 30,
    "tracks": [1, 2],
    "origin": [None, None, None],
    "seed": 4,
}
SAME = {"pattern": "v=2,line", "events": 30, "tracks": [1, 2], "seed": 4}


@pytest.mark.parametrize(
    ("changes", "provenance", "differing"),
    [
        ({}, {}, {}),
        ({"events": 31}, {}, {"events": 30}),
        ({"pattern": "v"}, {}, {"pattern": {"v": 2.0, "line": 1.0}}),
        ({"tracks": 1, "seed": 5}, {}, {"tracks": [1, 2], "seed": 4}),
        ({}, {"origin": [3.0, None, None]}, {"origin": [3.0, None, None]}),
        ({"lhcb_torch": {"photons": "detected"}}, {}, {}),  # toy patterns have none
        ({"pattern": "lhcb_torch"}, {}, {"pattern": {"v": 2.0, "line": 1.0}}),
        ({}, {"generator": "another program"}, None),
        ({}, {"generator": None}, None),
    ],
)
def test_simulated_otherwise_names_the_dataset_s_own_values(changes, provenance, differing):
    simulate = from_tree(SAME | changes, SimulateConfig, "test")
    assert simulated_otherwise(simulate, PROVENANCE | provenance) == differing


@pytest.mark.slow
def test_simulated_otherwise_compares_the_module(tmp_path):
    dataset = simulate_module(tmp_path / "d", events=2)
    tree = {"pattern": "lhcb_torch", "events": 2, "seed": 8}
    quiet = {"n_other_tracks": 0.0, "n_dark": 60.0, "n_hot": 0.0, "afterpulse_chance": 0.0}
    own = {"photons": "detected", "background": quiet, "module": {"dense_factor": 3.0}}
    same = from_tree(tree | {"lhcb_torch": own}, SimulateConfig, "test")
    assert simulated_otherwise(same, dataset.provenance) == {}
    module = msgspec.structs.replace(same.lhcb_torch.module, width_mm=600.0)
    other = msgspec.structs.replace(same, lhcb_torch=msgspec.structs.replace(same.lhcb_torch, module=module))
    assert simulated_otherwise(other, dataset.provenance) == {"lhcb_torch.module.width_mm": 660.0}


def test_recorded_settings_name_no_setting_that_is_not_one():
    known = {key for key, _ in leaves(to_tree(Config()))}
    assert {key for key, _ in leaves(recorded_settings(Config(), None))} <= known
