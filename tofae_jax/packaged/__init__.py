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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from tofae_jax.assembly import (
    Assembly,
    assemble,
    evaluation_source,
    open_events,
    splits_of,
    step_settings,
    with_precision,
)
from tofae_jax.config import Config, MaskConfig, from_tree, to_tree
from tofae_jax.core.precision import cast_variables, prepare
from tofae_jax.data.events import DataError
from tofae_jax.evaluation import Evaluator, LoadedRun, evaluation_key, warn
from tofae_jax.operating import chosen_point, point_record, save_scores, with_point
from tofae_jax.runs.files import writable_folder, write_text

FOLDER = Path(__file__).parent
MODEL, WEIGHTS, SCORES = "model.json", "weights.npz", "scores.npz"
UNTRAINED = ("lhcb_torch_tracks",)
"""models that work without training, so that nothing has to be kept of them"""
LEAST_QUANTISED = 4096
"""numbers of a matrix from which on it is stored as int8"""
MOST = 127
SCALE = "scale"


class _Described(msgspec.Struct, frozen=True, kw_only=True):
    """All of `model.json`."""

    config: dict[str, Any]
    operating_point: dict[str, Any] | None
    run_id: str
    epoch: int
    results: dict[str, Any]
    parent_run_id: str | None = None
    """of the run that this one went on from"""
    trained_on: dict[str, Any] = {}
    """degradation of the training, where it is to be used with another"""


class PackagedModel(NamedTuple):
    """A model ready for use."""

    name: str
    epoch: int
    assembly: Assembly
    variables: Any
    scores: Path
    """file of its validation scores; may not be there"""


def packaged_names() -> tuple[str, ...]:
    """The models that there are."""
    return tuple(sorted([path.parent.name for path in FOLDER.glob(f"*/{MODEL}")] + list(UNTRAINED)))


def load_packaged(name: str, *, precision: str | None = None) -> PackagedModel:
    """A packaged model; ValueError listing the known ones. `precision` is a policy, None its own."""
    if name not in packaged_names():
        raise ValueError(f"model {name!r} does not come with the package; known: {', '.join(packaged_names())}")
    folder = FOLDER / name
    described = _described(folder) if name not in UNTRAINED else _untrained(name)
    config = with_point(from_tree(described.config, Config, str(folder)), described.operating_point)
    policy = prepare(precision or config.precision.policy)
    assembly = assemble(with_precision(config, policy.name))
    init, key = assembly.model.init, jax.random.key(config.seed)
    if name in UNTRAINED:
        variables = init(key)
    else:
        like = jax.eval_shape(init, key)["params"]
        variables = {"params": _restored(folder / WEIGHTS, like), "batch_stats": {}}
    variables = cast_variables(variables, assembly.policy)
    return PackagedModel(name, described.epoch, assembly, variables, folder / SCORES)


def _described(folder: Path) -> _Described:
    return msgspec.json.decode((folder / MODEL).read_bytes(), type=_Described)


def _untrained(name: str) -> _Described:
    config = Config()
    sections = {"model": {"name": name}, "loss": {"name": "hit_bce"}}
    changed = {key: msgspec.structs.replace(getattr(config, key), **values) for key, values in sections.items()}
    config = msgspec.structs.replace(config, **changed)
    return _Described(config=to_tree(config), operating_point=None, run_id="", epoch=0, results={})


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
    config = _portable(run.assembly.config if config is None else config)
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
            trained_on=to_tree(run.assembly.config)["degradation"],
        )
        write_text(new / MODEL, msgspec.json.format(msgspec.json.encode(described), indent=1).decode() + "\n")
        for file in (WEIGHTS, SCORES, MODEL):
            os.replace(new / file, folder / file)
    return folder


def _measured(config: Config, variables: Any, scores: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operating point by the validation events, whose scores are kept, and the metrics of the test events."""
    assembly = assemble(config)
    evaluator, key, store = Evaluator(assembly), evaluation_key(config.seed), open_events(config, warn)
    splits = splits_of(store, config.data)
    source = evaluation_source(config, store, splits.validation)
    sums = evaluator.sums(variables, source, key, step_settings(config)).scores
    assert sums is not None  # sums of a whole evaluation have them
    save_scores(scores, sums)
    point = point_record(config, chosen_point(config, assembly.options, sums))
    settings = step_settings(with_point(config, point))
    return point, evaluator.details(variables, evaluation_source(config, store, splits.test), key, settings).result


def _portable(config: Config) -> Config:
    """Without what means something on one machine only."""
    fresh = Config()
    data = msgspec.structs.replace(config.data, path=fresh.data.path)
    return msgspec.structs.replace(config, data=data, runs=fresh.runs, start=fresh.start, tracking=fresh.tracking)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _stored(path: str, values: np.ndarray) -> dict[str, np.ndarray]:
    if values.ndim < 2 or values.size < LEAST_QUANTISED:
        # little is won here, and waves, whose phases reach a hundred radians, would be turned by rounding
        return {path: values}
    scale = np.maximum(np.abs(values).max(axis=tuple(range(values.ndim - 1))), 1e-12) / MOST
    return {path: np.rint(values / scale).astype(np.int8), f"{path}/{SCALE}": scale.astype(np.float32)}


def _restored(file: Path, like: Any) -> Any:
    """Parameters from a file, like those of a fresh model; DataError where they are not."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored}
    except Exception as error:  # a damaged archive raises anything
        raise DataError(f"{file}: missing or damaged ({error})") from None

    def restored(place: Any, leaf: Any) -> Any:
        path = _name(place)
        values = arrays.get(path)
        if values is None or values.shape != leaf.shape:
            raise DataError(f"{file}: holds no {path} of shape {leaf.shape}; it belongs to another version")
        if values.dtype == np.int8:
            values = values.astype(np.float32) * arrays[f"{path}/{SCALE}"]  # `pack_run` writes both
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(restored, like)
