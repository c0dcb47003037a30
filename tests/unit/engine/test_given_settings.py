"""Settings that were given and have no effect are refused; what may stand in a recipe is told."""

import pytest
from places import ROOT
from tiny import settings_from

from tofae_jax.config import Config, ConfigError, SimulateConfig, from_tree
from tofae_jax.config.loading import read_toml_and_keys
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.given_settings import Given, check_given, check_simulated, given_by_program

DETECTOR = Detector(n_x=12, n_y=16, n_t=40)


def refusal(config, given, **options):
    with pytest.raises(ConfigError) as error:
        check_given(config, given, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "sections", "said"),
    [
        (
            "loss.acb_mse.hit_weight",
            {"loss": {"name": "mse", "acb_mse": {"hit_weight": 5}}},
            "loss.acb_mse.hit_weight = 5: has no effect, as loss.name is mse",
        ),
        ("loss.mse", {}, "loss.mse = {}: has no effect, as loss.name is acb_mse"),
        (
            "data.path",
            {"data": {"source": "simulate"}},
            "data.path = data/v: has no effect, as data.source is simulate",
        ),
        (
            "start.optimiser",
            {"start": {"optimiser": True}},
            "start.optimiser = true: has no effect, as start.run is empty",
        ),
        (
            "optimiser.learning_rate",
            {"schedules": {"optimiser.learning_rate": {"kind": "constant", "value": 1e-2}}},
            "optimiser.learning_rate = 0.001: has no effect, as its schedule sets it in every epoch",
        ),
    ],
)
def test_check_given_option_without_effect_is_named(tmp_path, monkeypatch, key, sections, said):
    monkeypatch.chdir(tmp_path)
    config = settings_from({}, **sections)
    assert refusal(config, Given([key])) == said
    assert check_given(config, Given(["seed"])) == []


def test_check_given_option_with_its_default_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "loss.name is acb_mse" in refusal(Config(), Given(["loss.split.hit_weight"]))


def recipe_of(tree):
    """Settings of a recipe, and what it gives."""
    config = from_tree(tree, Config, "recipe")
    keys = [f"{section}.{name}" for section, part in tree.items() for name in part]
    keys = [key for key in keys if not isinstance(tree[key.split(".")[0]][key.split(".")[1]], dict)]
    keys += [
        f"{section}.{name}.{last}"
        for section, part in tree.items()
        for name, value in part.items()
        if isinstance(value, dict)
        for last in value
    ]
    return config, Given(recipe=config, in_recipe=set(keys), name="r.toml")


UNET = {"unet": {"width": 8}}


def test_check_given_recipe_without_effect_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, given = recipe_of({"model": UNET})
    assert refusal(config, given) == "r.toml: model.unet.width = 8: has no effect, as model.name is autoencoder"
    config, given = recipe_of({"train": {"plots": "none", "plots_every": 2}})
    assert "r.toml: train.plots_every = 2" in refusal(config, given)
    config, given = recipe_of({"model": {"unet": {"width": 48}}})  # the default, which a list of all settings has
    assert check_given(config, given) == []


def test_check_given_recipe_for_several_models_may_carry_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, given = recipe_of({"model": UNET | {"name": "autoencoder", "autoencoder": {"latent": 3}}})
    assert check_given(config, given) == ["r.toml: not used: model.unet.width, as model.name is autoencoder"]
    config, given = recipe_of({"model": UNET | {"hit_transformer": {"width": 3}}})  # none is chosen here
    assert "model.hit_transformer.width" in refusal(config, given)
    chosen = from_tree({"model": UNET | {"hit_transformer": {"width": 3}, "name": "unet"}}, Config, "test")
    notes = check_given(chosen, given._replace(options=["model.name"]))
    assert notes == ["r.toml: not used: model.hit_transformer.width, as model.name is unet"]


def test_check_given_recipe_section_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"unet": {"width": 8, "depth": 3}, "hit_transformer": {"width": 4}, "autoencoder": {"latent": 3}}
    config, given = recipe_of({"model": sizes})
    assert check_given(config, given) == [
        "r.toml: not used: model.hit_transformer.width, model.unet, as model.name is autoencoder"
    ]


def test_check_given_recipe_overruled_by_an_option_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, given = recipe_of({"loss": {"acb_mse": {"zero_weight": 1.5}}})
    assert check_given(recipe, given) == []
    config = from_tree({"loss": {"acb_mse": {"zero_weight": 1.5}, "name": "mse"}}, Config, "test")
    assert check_given(config, given._replace(options=["loss.name"])) == [
        "r.toml: not used: loss.acb_mse.zero_weight, as loss.name is mse"
    ]


def test_check_given_recipe_with_the_base_of_a_schedule_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = {"optimiser": {"learning_rate": 1e-2}}
    schedules = {"optimiser.learning_rate": {"kind": "constant", "value": 1e-3}}
    config = from_tree(tree | {"schedules": schedules}, Config, "test")
    given = Given(recipe=config, in_recipe=["optimiser.learning_rate"], name="r.toml")
    assert check_given(config, given) == [
        "r.toml: not used: optimiser.learning_rate, as its schedule sets it in every epoch"
    ]


def test_check_given_schedule_without_effect_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key = "degradation.noise.n_clusters"
    config = settings_from({}, schedules={key: {"kind": "constant", "value": 3}})
    assert refusal(config, Given()) == f"schedules: '{key}' has no effect, as degradation.noise.clusters is 0"
    config = settings_from(
        {}, degradation={"noise": {"clusters": 1}}, schedules={key: {"kind": "constant", "value": 3}}
    )
    assert check_given(config, Given()) == []


def test_check_given_settings_of_a_program_are_those_that_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert given_by_program(Config()).keys == set()
    config = settings_from({}, loss={"name": "mse", "acb_mse": {"hit_weight": 5}})
    assert given_by_program(config).keys == {"loss.name", "loss.acb_mse.hit_weight"}
    assert refusal(config, given_by_program(config)).startswith("loss.acb_mse.hit_weight = 5: has no effect")
    config = settings_from({}, checkpoints={"keep": 7})
    assert check_given(config, given_by_program(config)) == []
    assert "a checkpoint policy is given" in refusal(config, given_by_program(config), has_policy=True)


def simulated(path, **changes):
    tree = {"data": {"path": str(path), "simulate": {"events": 20} | changes}}
    return settings_from(tree)


def test_check_given_simulation_of_a_dataset_that_exists(tmp_path):
    path = tmp_path / "d"
    events, seed = "data.simulate.events", "data.simulate.seed"
    assert check_given(simulated(path), Given([events])) == []  # there is none yet
    simulated_dataset(path, detector=DETECTOR, weights={"v": 1}, n_events=20, seed=0)
    assert check_given(simulated(path), Given([events, seed, "data.simulate.pattern"])) == []  # it is as they say
    said = refusal(simulated(path, seed=3), Given([seed]))
    assert said == f"{seed} = 3: has no effect, as {path} exists and was simulated with 0; give another --data.path"
    assert check_given(simulated(path, seed=3), Given(["data.path"])) == []
    other = simulated_dataset(tmp_path / "e", detector=DETECTOR, weights={"v": 1}, n_events=3)
    write_dataset(tmp_path / "f", other.events(), detector=DETECTOR, provenance={"source": "x.csv"})
    assert "f exists and was not simulated" in refusal(simulated(tmp_path / "f"), Given([events]))


def test_check_given_recipe_with_another_simulation_is_told(tmp_path):
    path = tmp_path / "d"
    dataset = simulated_dataset(path, detector=DETECTOR, weights={"v": 1}, n_events=20, seed=0)
    config = simulated(path, events=30)
    given = Given(recipe=config, in_recipe={"data.path", "data.simulate.events"}, name="r.toml")
    notes = check_given(config, given)
    assert len(notes) == 1 and "data.simulate.events = 30, as" in notes[0] and "simulated with 20" in notes[0]
    assert check_given(config, given._replace(options=["data.path"])) == []  # another one was asked for
    assert check_given(config, given._replace(in_recipe={"data.path"})) == []
    (note,) = check_given(config, given_by_program(config))
    assert note.startswith("settings: not used: data.simulate.events = 30, as")
    (note,) = check_given(simulated(path, pattern="v=2,line=1"), given._replace(in_recipe=["data.simulate.pattern"]))
    assert "data.simulate.pattern = v=2,line=1, as" in note
    assert note.endswith("simulated with v; another data.path is simulated anew")
    write_dataset(tmp_path / "f", dataset.events(), detector=DETECTOR, provenance={})
    assert check_given(simulated(tmp_path / "f", events=30), given) == []


def test_check_given_module_of_the_model_is_used(tmp_path):
    path = tmp_path / "d"
    write_dataset(
        path,
        simulated_dataset(tmp_path / "e", detector=DETECTOR, weights={"v": 1}, n_events=3).events(),
        detector=DETECTOR,
        provenance={},
    )
    tree = {"data": {"path": str(path)}, "model": {"name": "lhcb_torch"}, "loss": {"name": "hit_bce"}}
    assert check_given(settings_from(tree), Given(["data.simulate.lhcb_torch.module.width_mm"])) == []
    assert "was not simulated" in refusal(settings_from(tree), Given(["data.simulate.pattern"]))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_check_given_every_recipe_has_an_effect(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, keys = read_toml_and_keys(path, Config)
    assert check_given(config, Given(recipe=config, in_recipe=keys, name=path.name)) == []


@pytest.mark.parametrize(
    ("tree", "key", "said"),
    [
        ({}, "lhcb_torch.photons", "lhcb_torch.photons = dense: has no effect, as pattern is v"),
        ({}, "lhcb_torch.background.n_dark", "as pattern is v"),
        (
            {"pattern": "lhcb_torch", "lhcb_torch": {"background": {"n_hot": 0}}},
            "lhcb_torch.background.n_hot_pixels",
            "as lhcb_torch.background.n_hot is 0",
        ),
    ],
)
def test_check_simulated_option_without_effect_is_named(tree, key, said):
    with pytest.raises(ConfigError) as error:
        check_simulated(from_tree(tree, SimulateConfig, "test"), [key])
    assert said in str(error.value)
    assert check_simulated(from_tree(tree, SimulateConfig, "test"), ["pattern", "events"]) is None
