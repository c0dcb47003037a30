"""Trained models that come with the package, for use before any training.

```
NAME/model.json    settings, operating point, where the weights come from, what was measured
     weights.npz   parameters: large matrices as int8 with a scale per column, the rest as they are
     scores.npz    hits of the validation events by score, from which cuts are chosen
```
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, MaskConfig, to_tree
from tofae_jax.engine.build import build_run, step_settings
from tofae_jax.engine.evaluator import Evaluator, evaluation_key
from tofae_jax.engine.events import evaluation_source, open_events, splits_of
from tofae_jax.engine.load import LoadedRun
from tofae_jax.engine.operating_point import chosen_point, point_record, save_scores, with_point
from tofae_jax.engine.pretrained.load import FOLDER, MODEL, SCALE, SCORES, WEIGHTS, _Described, _name, _restored
from tofae_jax.runs.files import writable_folder, write_text
from tofae_jax.runs.messages import warn

LEAST_QUANTISED = 4096
"""numbers of a matrix from which on it is stored as int8"""
MOST = 127


def pack_run(run: LoadedRun, name: str, *, config: Config | None = None, parent: Path = FOLDER) -> Path:
    """Store a run's weights as the packaged model `name`; returns its folder.

    What is stored is evaluated as it will be used, with rounded weights: the cut for the best F1 is chosen on the run's
    validation events, and the metrics are those of its test events with this cut.

    Args:
        run: the run.
        name: of the packaged model.
        config: settings to use the weights with; None: the run's own.
        parent: folder of the packaged models.
    """
    if jax.tree.leaves(run.variables["batch_stats"]):
        raise ValueError(f"{run.paths.folder}: has batch statistics, which are not stored here")
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(run.variables["params"])):
        arrays |= _stored(_name(path), np.asarray(leaf, np.float32))
    config = _portable(run.setup.config if config is None else config)
    config = msgspec.structs.replace(config, mask=MaskConfig(choose="f1"))
    folder = writable_folder(parent / name)
    # measuring takes minutes: what is there already is replaced when all is known
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}.") as partial:
        new = Path(partial)
        np.savez_compressed(new / WEIGHTS, allow_pickle=False, **arrays)
        rounded = {"params": _restored(new / WEIGHTS, run.variables["params"]), "batch_stats": {}}
        point, results = _measured(config, rounded, new / SCORES)
        described = _Described(
            config=to_tree(config),
            operating_point=point,
            run_id=run.record.run_id,
            epoch=run.epoch,
            results=results,
            parent_run_id=run.record.parent_run_id,
            trained_on=to_tree(run.setup.config)["degradation"],
        )
        write_text(new / MODEL, msgspec.json.format(msgspec.json.encode(described), indent=1).decode() + "\n")
        for file in (WEIGHTS, SCORES, MODEL):
            os.replace(new / file, folder / file)
    return folder


def _measured(config: Config, variables: Any, scores: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operating point by the validation events, whose scores are kept, and the metrics of the test events."""
    setup = build_run(config)
    evaluator, key, store = Evaluator(setup), evaluation_key(config.seed), open_events(config, warn)
    splits = splits_of(store, config.data)
    source = evaluation_source(config, store, splits.validation)
    sums = evaluator.sums(variables, source, key, step_settings(config)).scores
    assert sums is not None  # sums of a whole evaluation have them
    save_scores(scores, sums)
    point = point_record(config, chosen_point(config, setup.options, sums))
    settings = step_settings(with_point(config, point))
    return point, evaluator.details(variables, evaluation_source(config, store, splits.test), key, settings).result


def _portable(config: Config) -> Config:
    """Without what means something on one machine only."""
    fresh = Config()
    data = msgspec.structs.replace(config.data, path=fresh.data.path)
    return msgspec.structs.replace(config, data=data, runs=fresh.runs, start=fresh.start, tracking=fresh.tracking)


def _stored(path: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.ndim < 2 or values.size < LEAST_QUANTISED:
        # little is won here, and waves, whose phases reach a hundred radians, would be turned by rounding
        return {path: values}
    scale = np.maximum(np.abs(values).max(axis=tuple(range(values.ndim - 1))), 1e-12) / MOST
    return {path: np.rint(values / scale).astype(np.int8), f"{path}/{SCALE}": scale.astype(np.float32)}
