"""Load a model that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from tofae_jax.config import Config, from_tree, to_tree
from tofae_jax.core.precision import cast_variables, prepare
from tofae_jax.data.events import DataError
from tofae_jax.engine.build import RunSetup, build_run, with_precision
from tofae_jax.engine.operating_point import with_point

FOLDER = Path(__file__).parent
MODEL, WEIGHTS, SCORES = "model.json", "weights.npz", "scores.npz"
UNTRAINED = ("lhcb_torch_tracks",)
"""models that work without training, so that nothing has to be kept of them"""
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
    setup: RunSetup
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
    setup = build_run(with_precision(config, policy.name))
    init, key = setup.model.init, jax.random.key(config.seed)
    if name in UNTRAINED:
        variables = init(key)
    else:
        like = jax.eval_shape(init, key)["params"]
        variables = {"params": _restored(folder / WEIGHTS, like), "batch_stats": {}}
    variables = cast_variables(variables, setup.policy)
    return PackagedModel(name, described.epoch, setup, variables, folder / SCORES)


def _described(folder: Path) -> _Described:
    return msgspec.json.decode((folder / MODEL).read_bytes(), type=_Described)


def _untrained(name: str) -> _Described:
    config = Config()
    sections = {"model": {"name": name}, "loss": {"name": "hit_bce"}}
    changed = {key: msgspec.structs.replace(getattr(config, key), **values) for key, values in sections.items()}
    config = msgspec.structs.replace(config, **changed)
    return _Described(config=to_tree(config), operating_point=None, run_id="", epoch=0, results={})


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


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
