"""Settings as trees."""

import pytest

from tofae_jax.config import Config, leaves, only_used, to_tree


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


def test_only_used_drops_other_losses_and_models():
    shown = only_used(to_tree(Config()))
    assert set(shown["model"]) == {"name", "autoencoder"}
    assert set(shown["loss"]) == {"name", "acb_mse"}
    assert shown["evaluation_loss"] == {"name": "same"}
