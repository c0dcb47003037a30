"""Store the weights of a run as a packaged model, for use without any training.

```
NAME/model.json    settings, operating point, where the weights come from, what was measured
     weights.npz   parameters: large matrices as int8 with a scale per column, the rest as they are
     scores.npz    hits of the validation events by score, from which thresholds are chosen
```
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, MaskConfig, only_used, to_tree
from tofae_jax.config.unused import Unused
from tofae_jax.data.event_store import EventStore
from tofae_jax.data.events import DataError
from tofae_jax.data.storage.atomic import replacing_folder, write_text
from tofae_jax.data.storage.replaceable import check_free, no_folder_of
from tofae_jax.engine.build import build_run
from tofae_jax.engine.checks import check_run
from tofae_jax.engine.checksums import misfit
from tofae_jax.engine.data_checks import check_measurable
from tofae_jax.engine.detector_scale import check_lengths, on_scale_of
from tofae_jax.engine.evaluator import evaluation_key, run_evaluator
from tofae_jax.engine.events import evaluation_source, is_gone, open_events, splits_of
from tofae_jax.engine.load import LoadedRun
from tofae_jax.engine.operating_point import chosen_point, point_record, save_scores, with_point
from tofae_jax.engine.parameters import named_parameters
from tofae_jax.engine.pretrained.packaged_model import (
    FOLDER,
    MODEL,
    SCALE,
    SCORES,
    WEIGHTS,
    ModelDescription,
    read_weights,
)
from tofae_jax.engine.unused_settings import recorded_settings
from tofae_jax.runs.messages import warn

OF_ONE_MACHINE = ("data.path", "instruments", "runs", "start", "tracking")
LEAST_QUANTISED = 4096
"""numbers of a matrix from which on it is stored as int8"""
MOST = 127
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)


NO_MODEL = no_folder_of({WEIGHTS, SCORES, MODEL, "__pycache__"}.__contains__, needs=MODEL, kind="packaged model")
"""lets only packaged models be replaced, and none with other files"""


def pack_run(run: LoadedRun, name: str, *, config: Config | None = None, parent: Path = FOLDER) -> Path:
    """Store a run's weights as the packaged model `name`; returns its folder.

    The stored model is evaluated as it will be used, with rounded weights: the threshold of the best F1 is chosen on
    the validation events of its settings, and the metrics are those of the test events with this threshold.

    Args:
        run: the run.
        name: of the packaged model.
        config: settings to use the weights with; None: the run's own.
        parent: folder of the packaged models.

    Raises:
        ValueError: the name is not allowed, the run has batch statistics, the settings do not fit each other or the
            weights, or they leave no events to evaluate.
    """
    check_name(name)
    if jax.tree.leaves(run.variables["batch_stats"]):
        raise ValueError(f"{run.paths.folder}: has batch statistics, which are not stored here")
    arrays = stored_arrays(jax.device_get(run.variables["params"]))
    config = msgspec.structs.replace(run.setup.config if config is None else config, mask=MaskConfig(choose="f1"))
    _check_settings(run, config)
    store = _events_of(run, config)
    config = on_scale_of(config, store, warn=warn)
    check_lengths(config)
    folder = parent / name
    if folder.exists():
        check_free(folder, NO_MODEL, overwrite=True, sources=[run.paths.folder])
    # the evaluation takes minutes: a model that is there is replaced once it has succeeded
    with replacing_folder(folder, may_replace=NO_MODEL) as new:
        np.savez_compressed(new / WEIGHTS, allow_pickle=False, **arrays)
        rounded = {"params": read_weights(new / WEIGHTS, run.variables["params"]), "batch_stats": {}}
        point, results = _measured(config, store, rounded, new / SCORES)
        described = ModelDescription(
            config=_portable(recorded_settings(config, store)),
            operating_point=point,
            run_id=run.record.run_id,
            epoch=run.epoch,
            results=results,
            parent_run_id=run.record.parent_run_id,
            trained_on=only_used(to_tree(run.setup.config))["degradation"],
        )
        write_text(new / MODEL, msgspec.json.format(msgspec.json.encode(described), indent=1).decode() + "\n")
    return folder


def check_name(name: str) -> None:
    """Check the name of a packaged model: it is a folder, and a word on the command line.

    Raises:
        ValueError: it has other characters than letters, digits, `_` and `-`, or begins with another than a letter.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r}: letters, digits, '_' and '-' allowed, and a letter at the beginning")


def _check_settings(run: LoadedRun, config: Config) -> None:
    """Check that the settings fit each other and the weights of the run."""
    check_run(config)
    fresh = jax.eval_shape(build_run(config).fresh_state).params
    if (problem := misfit(_as_stored(run.variables["params"]), _as_stored(fresh))) is not None:
        raise ValueError(f"{run.paths.folder}: its weights do not fit the settings: {problem}")


def _as_stored(parameters: Any) -> Any:
    """Return the shapes of parameters; all are stored in float32, whatever their precision."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), parameters)


def _events_of(run: LoadedRun, config: Config) -> EventStore:
    """Open the events of the settings; the dataset of the run itself may be where it was then, and is not simulated."""
    then = str(run.record.data.get("path", "")) if config.data == run.setup.config.data else ""
    if then and is_gone(config.data, then):
        raise DataError(f"{then}: the run's dataset is not there any more; name another in a recipe, --config")
    return open_events(config, warn, places=[then])


def _measured(config: Config, store: EventStore, variables: Any, scores: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose the operating point on the validation events, save their scores, and evaluate the test events."""
    check_measurable(config)
    setup = build_run(config)
    evaluator, key = run_evaluator(setup), evaluation_key(config.seed)
    splits = splits_of(store, config.data)
    source = evaluation_source(config, store, splits.validation)
    sums = evaluator.sums(variables, source, key, setup.step_settings()).scores
    assert sums is not None  # sums of a whole evaluation have them
    save_scores(scores, sums)
    point = point_record(config, chosen_point(config, setup.options, sums))
    settings = setup.step_settings(with_point(config, point))
    return point, evaluator.details(variables, evaluation_source(config, store, splits.test), key, settings).result


def _portable(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out the settings that have a meaning on one machine only."""
    return only_used(settings, [Unused(key, "it is of one machine") for key in OF_ONE_MACHINE])


def stored_arrays(parameters: Any) -> dict[str, np.ndarray]:
    """Return the arrays of `weights.npz`, by slash-joined name; those that are int8 have a scale beside them."""
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in named_parameters(parameters).items():
        arrays |= _stored(name, np.asarray(leaf, np.float32))
    return arrays


def _stored(path: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.ndim < 2 or values.size < LEAST_QUANTISED:
        # int8 would save little, and would shift the phases (up to 100 rad) of the Fourier features
        return {path: values}
    scale = np.maximum(np.abs(values).max(axis=tuple(range(values.ndim - 1))), 1e-12) / MOST
    return {path: np.rint(values / scale).astype(np.int8), f"{path}/{SCALE}": scale.astype(np.float32)}
