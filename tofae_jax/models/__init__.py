"""Models by name.

A model is two pure functions over nested dicts of arrays, and a declaration of what it takes and gives, so that the
same steps, metrics, plots and commands serve every model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.models.autoencoder import Autoencoder

Variables = dict[str, Any]


class ModelKind(NamedTuple):
    """What is registered for a name."""

    build: Callable[..., nn.Module]
    takes: Literal["image"]
    """`image`: normalised embedded-ToF image [b, y, x]"""
    gives: Literal["image"]
    """`image`: normalised image [b, y, x] in [0, 1]"""


MODELS: dict[str, ModelKind] = {"autoencoder": ModelKind(Autoencoder, takes="image", gives="image")}


class Model(NamedTuple):
    """A model ready for use: `init` and `apply` are pure and may be traced."""

    name: str
    takes: str
    gives: str
    module: nn.Module
    n_y: int
    n_x: int

    def init(self, key: Array) -> Variables:
        """Fresh `{"params": …, "batch_stats": …}`."""
        variables = self.module.init(key, jnp.zeros((1, self.n_y, self.n_x), jnp.float32), train=False)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def apply(self, variables: Variables, x: Array) -> Array:
        """Output for inference: running batch statistics, nothing changed."""
        output = self.module.apply(variables, x, train=False)
        assert isinstance(output, jax.Array)
        return output

    def apply_train(self, variables: Variables, x: Array) -> tuple[Array, Any]:
        """Output for training, by the batch's own statistics, and the new running statistics."""
        output, updated = self.module.apply(variables, x, train=True, mutable=["batch_stats"])
        return output, updated.get("batch_stats", {})


def build_model(
    name: str, *, n_y: int, n_x: int, dtype: Any = jnp.float32, param_dtype: Any = jnp.float32, **settings: Any
) -> Model:
    """The model called `name` for a detector of `n_y` rows and `n_x` columns; an unknown name lists the known ones."""
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; known: {', '.join(MODELS)}")
    kind = MODELS[name]
    module = kind.build(dtype=dtype, param_dtype=param_dtype, **settings)
    return Model(name, kind.takes, kind.gives, module, n_y, n_x)
