"""Models by name: the one declaration of each."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from tofae_jax.core.precision import Policy, cast_variables, policy_by_name
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.models.autoencoder import LATENT, Autoencoder
from tofae_jax.models.hit_transformer import HitTransformer
from tofae_jax.models.interface import Inputs, Output, as_output, empty_input
from tofae_jax.models.lhcb_torch_blind import LhcbTorch
from tofae_jax.models.lhcb_torch_tracks import LhcbTorchTracks
from tofae_jax.models.unet import UNet

Variables = dict[str, Any]
NOT_SIZES = {"parent", "name", "shape_xyt", "bin_ns", "module", "dtype", "param_dtype", "output_dtype"}
"""fields of modules that flax or `build_model` fills in"""


class ModelKind(NamedTuple):
    """Everything that the rest of the package needs to know of a model, except its sizes."""

    module: type[nn.Module]
    """its fields are its sizes, which have no defaults here but in the model's section of `config.models`, and those of
    `shape_xyt`, `bin_ns`, `module`, `dtype`, `param_dtype`, `output_dtype` that it uses: `build_model` fills them in"""
    inputs: Inputs
    """`image`: normalised embedded-ToF image [b, y, x]; `hits`, `hits_and_tracks`: `HitInput`"""
    outputs: tuple[Literal["image", "hits"], ...]
    """`image`: normalised image [b, y, x] in [0, 1]; `hits`: logits of the hits, or of the pixels"""
    has_latent: bool = False
    """whether everything about an image passes through one vector, see `Model.encode` and `Model.decode`"""
    of_module: bool = False
    """whether it is built for an LHCb TORCH module: for its settings `module` and time bins of `bin_ns`"""
    learns_tracks: bool = False
    """whether it is trained to find tracks, so that training needs the true ones"""
    needs_normalised_images: bool = False
    """whether its input images must be normalised"""
    works_untrained: bool = False
    """whether its fresh weights are good ones, so that it comes with the package without a weights file"""

    @property
    def takes_tracks(self) -> bool:
        """Whether its input contains tracks."""
        return self.inputs == "hits_and_tracks"

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of its sizes: the fields of its module that `build_model` does not fill in itself."""
        return tuple(field.name for field in dataclasses.fields(self.module) if field.name not in NOT_SIZES)


MODELS: dict[str, ModelKind] = {
    "autoencoder": ModelKind(Autoencoder, inputs="image", outputs=("image",), has_latent=True),
    "hit_transformer": ModelKind(HitTransformer, inputs="hits", outputs=("hits",)),
    "unet": ModelKind(UNet, inputs="image", outputs=("image", "hits"), needs_normalised_images=True),
    "lhcb_torch": ModelKind(LhcbTorch, inputs="hits", outputs=("hits",), of_module=True, learns_tracks=True),
    "lhcb_torch_tracks": ModelKind(
        LhcbTorchTracks, inputs="hits_and_tracks", outputs=("hits",), of_module=True, works_untrained=True
    ),
}


class Model(NamedTuple):
    """A model ready for use: `init` and `apply` are pure and may be traced."""

    name: str
    kind: ModelKind
    module: nn.Module
    shape_xyt: tuple[int, int, int]
    policy: Policy
    matmul: str | None = None
    """precision of its matrix products, as `jax.default_matmul_precision`; None: the device's default"""

    def init(self, key: Array) -> Variables:
        """Draw initial `{"params": …, "batch_stats": …}`; all policies draw the same numbers and round them."""
        in_float32 = {"param_dtype": jnp.float32} if hasattr(self.module, "param_dtype") else {}
        module = self.module.clone(**in_float32)
        variables = module.init(key, empty_input(self.inputs, self.shape_xyt), train=False)
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
        """Compute the output for inference, with running batch statistics. `x` is an input of kind `inputs`."""
        with jax.default_matmul_precision(self.matmul):
            return as_output(self.module.apply(variables, x, train=False))

    def apply_train(self, variables: Variables, x: Any) -> tuple[Output, Any]:
        """Compute the output for training, with the batch's own statistics, and the new running statistics."""
        with jax.default_matmul_precision(self.matmul):
            output, updated = self.module.apply(variables, x, train=True, mutable=["batch_stats"])
        return as_output(output), updated.get("batch_stats", {})

    @property
    def inputs(self) -> Inputs:
        """Kind of its input: `image`, `hits` or `hits_and_tracks`."""
        return self.kind.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """What it outputs: `image`, `hits` or both."""
        return self.kind.outputs

    @property
    def takes_tracks(self) -> bool:
        """Whether its input contains tracks."""
        return self.kind.takes_tracks

    @property
    def learns_tracks(self) -> bool:
        """Whether training needs true tracks."""
        return self.kind.learns_tracks

    @property
    def has_latent(self) -> bool:
        """Whether it has `encode` and `decode`."""
        return self.kind.has_latent

    def encode(self, variables: Variables, x: Array) -> Array:
        """Return the latent vectors [b, n] of normalised images [b, y, x]."""
        with jax.default_matmul_precision(self.matmul):
            _, found = self.module.apply(variables, x, train=False, mutable=["intermediates"])
        latent: Any = found["intermediates"][LATENT][0]
        return latent

    def decode(self, variables: Variables, latent: Array) -> Array:
        """Return the images [b, y, x] of latent vectors [b, n]."""
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
    **sizes: Any,
) -> Model:
    """Build the model called `name` for a detector of this shape, of exactly the given sizes.

    `tofae_jax.build_model` does the same with default sizes.

    Args:
        name: a key of `MODELS`.
        shape_xyt: columns, rows and time bins of the detector.
        policy: its dtypes; None: float32.
        matmul: precision of its matrix products: `default`, `high`, `highest`; None: the device's default.
        bin_ns: length of a time bin [ns]; of LHCb TORCH models.
        module: the module that hits are from; of LHCb TORCH models.
        sizes: all sizes of the model, `MODELS[name].sizes`.

    Raises:
        ValueError: an unknown name, with those that are known; a size that is missing or unknown; an LHCb TORCH model
            without `bin_ns` or `module`.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; known: {', '.join(MODELS)}")
    kind = MODELS[name]
    if missing := [size for size in kind.sizes if size not in sizes]:
        raise ValueError(f"model {name!r}: sizes {', '.join(missing)} are missing")
    if unknown := [size for size in sizes if size not in kind.sizes]:
        raise ValueError(f"model {name!r} has no sizes {', '.join(unknown)}; known: {', '.join(kind.sizes)}")
    if kind.of_module and (bin_ns is None or module is None):
        raise ValueError(f"model {name!r} needs bin_ns and the module's settings, got {bin_ns}, {module}")
    policy = policy or policy_by_name("float32")
    known: dict[str, Any] = {
        "shape_xyt": shape_xyt,
        "bin_ns": bin_ns,
        "module": module,
        "dtype": jnp.dtype(policy.compute),
        "param_dtype": jnp.dtype(policy.param),
        "output_dtype": jnp.dtype(policy.output),
    }
    used = {field.name: known[field.name] for field in dataclasses.fields(kind.module) if field.name in known}
    return Model(name, kind, kind.module(**used, **sizes), shape_xyt, policy, matmul)
