"""Settings as trees."""

import pytest

from tofae_jax.config import Config, leaves, to_tree
from tofae_jax.config.loading import read_toml_and_keys


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, []),
        ({"a": 1}, [("a", 1)]),
        ({"b": {"c": {"d": None}}, "a": [1, {"x": 2}]}, [("b.c.d", None), ("a", [1, {"x": 2}])]),
        ({"a": {}, "b": {"c": {}}}, [("a", {}), ("b.c", {})]),
    ],
)
def test_leaves_nested_tree_gives_dotted_names(tree, expected):
    assert list(leaves(tree)) == expected


def test_leaves_other_separator_and_prefix_are_used():
    assert list(leaves({"a": {"b": 1}, "c": 2}, separator="/", prefix="x/")) == [("x/a/b", 1), ("x/c", 2)]


def test_leaves_of_settings_name_every_setting_once():
    names = [name for name, _ in leaves(to_tree(Config()))]
    assert len(names) == len(set(names))
    assert {"seed", "detector.n_x", "model.autoencoder.latent", "schedules"} <= set(names)


def test_read_toml_and_keys_are_dotted(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\n[loss.mse]\n[train]\nepochs = 1\n[detector]\n")
    settings, keys = read_toml_and_keys(tmp_path / "a.toml", Config)
    assert settings.seed == 3 and settings.train.epochs == 1
    assert keys == {"seed", "loss.mse", "train.epochs", "detector"}
