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

from tofae_jax.models.autoencoder import LATENT, Autoencoder
from tofae_jax.precision import Policy, cast_variables, policy_by_name

Variables = dict[str, Any]


class ModelKind(NamedTuple):
    """What is registered for a name."""

    build: Callable[..., nn.Module]
    takes: Literal["image"]
    """`image`: normalised embedded-ToF image [b, y, x]"""
    gives: Literal["image"]
    """`image`: normalised image [b, y, x] in [0, 1]"""
    has_latent: bool = False
    """whether all that it knows of an image goes through one vector, `Model.encode` and `Model.decode`"""


MODELS: dict[str, ModelKind] = {
    "autoencoder": ModelKind(Autoencoder, takes="image", gives="image", has_latent=True),
}


class Model(NamedTuple):
    """A model ready for use: `init` and `apply` are pure and may be traced."""

    name: str
    takes: str
    gives: str
    module: nn.Module
    n_y: int
    n_x: int
    policy: Policy
    matmul: str | None = None
    """precision of its matrix products, as `jax.default_matmul_precision`; None: the device's own choice"""

    def init(self, key: Array) -> Variables:
        """Fresh `{"params": …, "batch_stats": …}`; all policies draw the same numbers and round them."""
        module = self.module.clone(param_dtype=jnp.float32)
        variables = module.init(key, jnp.zeros((1, self.n_y, self.n_x), jnp.float32), train=False)
        return cast_variables({"batch_stats": {}, **variables}, self.policy)

    def apply(self, variables: Variables, x: Array) -> Array:
        """Output for inference: running batch statistics, nothing changed."""
        with jax.default_matmul_precision(self.matmul):
            output = self.module.apply(variables, x, train=False)
        assert isinstance(output, jax.Array)
        return output

    def apply_train(self, variables: Variables, x: Array) -> tuple[Array, Any]:
        """Output for training, by the batch's own statistics, and the new running statistics."""
        with jax.default_matmul_precision(self.matmul):
            output, updated = self.module.apply(variables, x, train=True, mutable=["batch_stats"])
        return output, updated.get("batch_stats", {})

    @property
    def has_latent(self) -> bool:
        """Whether `encode` and `decode` mean something."""
        return MODELS[self.name].has_latent

    def encode(self, variables: Variables, x: Array) -> Array:
        """Latent vectors [b, n] of normalised images [b, y, x]."""
        with jax.default_matmul_precision(self.matmul):
            _, found = self.module.apply(variables, x, train=False, mutable=["intermediates"])
        latent: Any = found["intermediates"][LATENT][0]
        return latent

    def decode(self, variables: Variables, latent: Array) -> Array:
        """What the model gives for latent vectors [b, n]."""
        nothing = jnp.zeros((len(latent), self.n_y, self.n_x), jnp.float32)
        with jax.default_matmul_precision(self.matmul):
            output = self.module.apply(variables, nothing, train=False, latent=latent)
        assert isinstance(output, jax.Array)
        return output


def build_model(
    name: str,
    *,
    n_y: int,
    n_x: int,
    policy: Policy | None = None,
    matmul: str | None = None,
    **settings: Any,
) -> Model:
    """The model called `name` for a detector of `n_y` rows and `n_x` columns; an unknown name lists the known ones.

    Args:
        name: a key of `MODELS`.
        n_y: rows of the detector.
        n_x: columns.
        policy: its dtypes; None: float32.
        matmul: precision of its matrix products: `default`, `high`, `highest`; None: the device's own choice.
        settings: the model's own.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; known: {', '.join(MODELS)}")
    kind = MODELS[name]
    policy = policy or policy_by_name("float32")
    dtypes = {
        "dtype": jnp.dtype(policy.compute),
        "param_dtype": jnp.dtype(policy.param),
        "output_dtype": jnp.dtype(policy.output),
    }
    return Model(name, kind.takes, kind.gives, kind.build(**dtypes, **settings), n_y, n_x, policy, matmul)
