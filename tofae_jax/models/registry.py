"""Models by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.precision import Policy, cast_variables, policy_by_name
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.models.autoencoder import LATENT, Autoencoder
from tofae_jax.models.hit_transformer import HitTransformer
from tofae_jax.models.interface import Output, as_output, empty_input
from tofae_jax.models.lhcb_torch_blind import LhcbTorch
from tofae_jax.models.lhcb_torch_tracks import LhcbTorchTracks
from tofae_jax.models.unet import UNet

Variables = dict[str, Any]
Takes = Literal["image", "hits", "hits and tracks"]


class ModelKind(NamedTuple):
    """What is registered for a name."""

    build: Callable[..., nn.Module]
    takes: Takes
    """`image`: normalised embedded-ToF image [b, y, x]; else `HitInput`"""
    gives: tuple[Literal["image", "hits"], ...]
    """`image`: normalised image [b, y, x] in [0, 1]; `hits`: logits of the hits, or of the pixels"""
    has_latent: bool = False
    """whether all that it knows of an image goes through one vector, `Model.encode` and `Model.decode`"""
    of_module: bool = False
    """whether it is built for an LHCb TORCH module: for its settings, and the length of a time bin"""
    learns_tracks: bool = False
    """whether it is taught to find tracks, so that training needs the true ones"""


MODELS: dict[str, ModelKind] = {
    "autoencoder": ModelKind(Autoencoder, takes="image", gives=("image",), has_latent=True),
    "hit_transformer": ModelKind(HitTransformer, takes="hits", gives=("hits",)),
    "unet": ModelKind(UNet, takes="image", gives=("image", "hits")),
    "lhcb_torch": ModelKind(LhcbTorch, takes="hits", gives=("hits",), of_module=True, learns_tracks=True),
    "lhcb_torch_tracks": ModelKind(LhcbTorchTracks, takes="hits and tracks", gives=("hits",), of_module=True),
}


class Model(NamedTuple):
    """A model ready for use: `init` and `apply` are pure and may be traced."""

    name: str
    takes: Takes
    gives: tuple[str, ...]
    module: nn.Module
    shape_xyt: tuple[int, int, int]
    policy: Policy
    matmul: str | None = None
    """precision of its matrix products, as `jax.default_matmul_precision`; None: the device's own choice"""

    def init(self, key: Array) -> Variables:
        """Fresh `{"params": …, "batch_stats": …}`; all policies draw the same numbers and round them."""
        module = self.module.clone(param_dtype=jnp.float32)
        variables = module.init(key, empty_input(self.takes, self.shape_xyt), train=False)
        return cast_variables({"batch_stats": {}, **variables}, self.policy)

    @property
    def n_x(self) -> int:
        """Columns of the detector."""
        return self.shape_xyt[0]

    @property
    def n_y(self) -> int:
        """Rows of the detector."""
        return self.shape_xyt[1]

    def apply(self, variables: Variables, x: Any) -> Output:
        """Output for inference: running batch statistics, nothing changed. `x` is what the model takes."""
        with jax.default_matmul_precision(self.matmul):
            return as_output(self.module.apply(variables, x, train=False))

    def apply_train(self, variables: Variables, x: Any) -> tuple[Output, Any]:
        """Output for training, by the batch's own statistics, and the new running statistics."""
        with jax.default_matmul_precision(self.matmul):
            output, updated = self.module.apply(variables, x, train=True, mutable=["batch_stats"])
        return as_output(output), updated.get("batch_stats", {})

    @property
    def takes_tracks(self) -> bool:
        """Whether it is given tracks."""
        return self.takes == "hits and tracks"

    @property
    def learns_tracks(self) -> bool:
        """Whether training needs true tracks."""
        return MODELS[self.name].learns_tracks

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
    shape_xyt: tuple[int, int, int],
    policy: Policy | None = None,
    matmul: str | None = None,
    bin_ns: float | None = None,
    module: ModuleSettings | None = None,
    **settings: Any,
) -> Model:
    """The model called `name` for a detector of this shape; an unknown name lists the known ones.

    Args:
        name: a key of `MODELS`.
        shape_xyt: columns, rows and time bins of the detector.
        policy: its dtypes; None: float32.
        matmul: precision of its matrix products: `default`, `high`, `highest`; None: the device's own choice.
        bin_ns: length of a time bin; of LHCb TORCH models.
        module: the module that hits are from; of LHCb TORCH models.
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
    if kind.takes != "image":
        settings["shape_xyt"] = shape_xyt
    if kind.of_module:
        if bin_ns is None or module is None:
            raise ValueError(f"model {name!r} needs bin_ns and the module's settings, got {bin_ns}, {module}")
        settings |= {"bin_ns": bin_ns, "module": module}
    return Model(name, kind.takes, kind.gives, kind.build(**dtypes, **settings), shape_xyt, policy, matmul)
