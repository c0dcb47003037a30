"""Settings of small runs."""

from tofae_jax.config import Config, from_tree


def settings_from(tree, **sections):
    """The settings of a tree, with these keys of its sections, or these values, in place of its own."""
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return from_tree(tree, Config, "test")
