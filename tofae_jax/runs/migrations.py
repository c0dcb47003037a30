"""What older versions of this package wrote, brought up to date when it is read. Nothing on disk is changed.

Each function takes a tree of one schema version to the next; `migrated_record` and `migrated_meta` apply all that are
due. A version that is not known here must be refused before.

- 1 to 2 (run records, and the settings inside checkpoints): `train.keep_checkpoints` became `checkpoints.keep`,
  `runs.tensorboard` became `tracking.tensorboard`.
- 1 to 2 (checkpoint metadata): `precision` is new; all was float32. Of the arrays, loss scale and rounding residual are
  new: those of a fresh state do.
"""

from __future__ import annotations

from typing import Any


def _config_1_to_2(config: Any) -> Any:
    if not isinstance(config, dict):
        return config  # whoever reads the settings says what is wrong
    config = {name: dict(section) if isinstance(section, dict) else section for name, section in config.items()}
    for (old_section, old), (section, name) in {
        ("train", "keep_checkpoints"): ("checkpoints", "keep"),
        ("runs", "tensorboard"): ("tracking", "tensorboard"),
    }.items():
        if isinstance(config.get(old_section), dict) and old in config[old_section]:
            value = config[old_section].pop(old)
            if isinstance(config.setdefault(section, {}), dict):
                config[section][name] = value
    return config


def migrated_record(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a `run.json` of any known schema version in the newest one."""
    if tree.get("schema_version") == 1:
        tree = tree | {"schema_version": 2, "config": _config_1_to_2(tree.get("config", {}))}
    return tree


def migrated_meta(tree: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a checkpoint of any known schema version in the newest one, but for the version itself.

    The version stays as it was, as it tells which arrays the checkpoint holds.
    """
    if tree.get("schema_version") == 1:
        tree = tree | {"precision": "float32", "config": _config_1_to_2(tree.get("config", {}))}
    return tree
