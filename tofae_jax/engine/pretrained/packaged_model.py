"""Load a model that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from tofae_jax.config import Config, from_tree, to_tree
from tofae_jax.config.documents import DocumentError, decode_json
from tofae_jax.core.precision import cast_variables
from tofae_jax.core.text import one_line
from tofae_jax.data.events import DataError
from tofae_jax.engine.build import RunSetup, build_run, with_precision
from tofae_jax.engine.device_precision import prepare
from tofae_jax.engine.load import load_run
from tofae_jax.engine.operating_point import with_point
from tofae_jax.engine.parameters import named_parameters
from tofae_jax.models import MODELS

FOLDER = Path(__file__).parent
MODEL, WEIGHTS, SCORES = "model.json", "weights.npz", "scores.npz"
SCALE = "scale"


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of `model.json`."""

    config: dict[str, Any]
    operating_point: dict[str, Any] | None
    run_id: str
    epoch: int
    results: dict[str, Any]
    parent_run_id: str | None = None
    """run that this one started from"""
    trained_on: dict[str, Any] = {}
    """degradation of the training, where the model is to be used with another"""


class PackagedModel(NamedTuple):
    """A model ready for use."""

    name: str
    epoch: int
    setup: RunSetup
    variables: Any
    scores: Path
    """file of its validation scores; may be missing"""
    data: dict[str, Any] = {}
    """what the record of a run says of its dataset"""


def packaged_names() -> tuple[str, ...]:
    """Return the names of the packaged models; those that work untrained have no files."""
    untrained = [name for name, kind in MODELS.items() if kind.works_untrained]
    return tuple(sorted({*(path.parent.name for path in FOLDER.glob(f"*/{MODEL}")), *untrained}))


def load_packaged(name: str, *, precision: str | None = None) -> PackagedModel:
    """Load a packaged model.

    Args:
        name: one of `packaged_names()`; ValueError lists these for any other.
        precision: use it in this precision policy; None: its own.
    """
    if name not in packaged_names():
        raise ValueError(f"model {name!r} does not come with the package; known: {', '.join(packaged_names())}")
    folder, is_stored = FOLDER / name, (FOLDER / name / MODEL).is_file()
    described = _described(folder) if is_stored else _untrained(name)
    file = str(folder / MODEL)
    config = with_point(from_tree(described.config, Config, file), described.operating_point, file)
    policy = prepare(precision or config.precision.policy)
    setup = build_run(with_precision(config, policy.name))
    init, key = setup.model.init, jax.random.key(config.seed)
    if is_stored:
        like = jax.eval_shape(init, key)["params"]
        variables = {"params": read_weights(folder / WEIGHTS, like), "batch_stats": {}}
    else:
        variables = init(key)
    variables = cast_variables(variables, setup.policy)
    return PackagedModel(name, described.epoch, setup, variables, folder / SCORES)


def load_model(folder: str | Path | None, model: str | None, *, precision: str | None = None) -> PackagedModel:
    """Load the model of a run, or a packaged one; both are used alike.

    Raises:
        ValueError: not one of the two is given; and as for `load_run` and `load_packaged`.
    """
    if model is not None and folder is None:
        return load_packaged(model, precision=precision)
    if model is not None or folder is None:
        raise ValueError(f"either a run or a packaged model is needed, got {folder} and {model}")
    run = load_run(folder, precision=precision)
    return PackagedModel(run.record.run_id, run.epoch, run.setup, run.variables, run.paths.scores, run.record.data)


def _described(folder: Path) -> ModelDescription:
    file = folder / MODEL
    try:
        return msgspec.convert(decode_json(file.read_bytes()), ModelDescription)
    except DocumentError as error:
        raise DataError(f"{file}: {error}") from None
    except (msgspec.MsgspecError, OSError) as error:
        raise DataError(f"{file}: damaged: {error}") from None


def _untrained(name: str) -> ModelDescription:
    config = Config()
    sections = {"model": {"name": name}, "loss": {"name": "hit_bce"}}
    changed = {key: msgspec.structs.replace(getattr(config, key), **values) for key, values in sections.items()}
    config = msgspec.structs.replace(config, **changed)
    return ModelDescription(config=to_tree(config), operating_point=None, run_id="", epoch=0, results={})


def read_weights(file: Path, like: Any) -> Any:
    """Read the parameters that `pack_run` wrote; DataError where the file is damaged or they differ from `like`.

    Args:
        file: `weights.npz` of a packaged model.
        like: parameters of the model, of which only structure and shapes are used.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored}
    except Exception as error:  # a damaged archive raises anything
        raise DataError(f"{file}: missing or damaged ({one_line(error, limit=None)})") from None
    found = []
    for name, leaf in named_parameters(like).items():
        values = arrays.get(name)
        if values is None or values.shape != leaf.shape:
            raise DataError(f"{file}: holds no {name} of shape {leaf.shape}; it belongs to another version")
        if values.dtype == np.int8:
            values = values.astype(np.float32) * arrays[f"{name}/{SCALE}"]  # `pack_run` writes both
        found.append(jnp.asarray(values, jnp.float32))
    return jax.tree.unflatten(jax.tree.structure(like), found)
