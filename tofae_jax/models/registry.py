"""Models by name: the one declaration of each."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from tofae_jax.core.precision import Policy, check_available, policy_by_name
from tofae_jax.lhcb_torch.module import ModuleSettings
from tofae_jax.models.autoencoder import Autoencoder
from tofae_jax.models.hit_transformer import HitTransformer
from tofae_jax.models.lhcb_torch_blind import LhcbTorch
from tofae_jax.models.lhcb_torch_tracks import LhcbTorchTracks
from tofae_jax.models.model import Model, ModelKind, check_detector_shape, check_program
from tofae_jax.models.unet import UNet

MODELS: dict[str, ModelKind] = {
    "autoencoder": ModelKind(Autoencoder, inputs="image", outputs=("image",), has_latent=True, bounded_images=True),
    "hit_transformer": ModelKind(HitTransformer, inputs="hits", outputs=("hits",)),
    "unet": ModelKind(
        UNet, inputs="image", outputs=("image", "hits"), needs_normalised_images=True, bounded_images=True
    ),
    "lhcb_torch": ModelKind(LhcbTorch, inputs="hits", outputs=("hits",), of_module=True, learns_tracks=True),
    "lhcb_torch_tracks": ModelKind(
        LhcbTorchTracks, inputs="hits_and_tracks", outputs=("hits",), of_module=True, works_untrained=True
    ),
}


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
    check_available(policy)
    known: dict[str, Any] = {
        "shape_xyt": shape_xyt,
        "bin_ns": bin_ns,
        "module": module,
        "dtype": jnp.dtype(policy.compute),
        "param_dtype": jnp.dtype(policy.param),
        "output_dtype": jnp.dtype(policy.output),
    }
    used = {field.name: known[field.name] for field in dataclasses.fields(kind.module) if field.name in known}
    model = Model(name, kind, kind.module(**used, **sizes), check_detector_shape(shape_xyt), policy, matmul)
    if not kind.module.__module__.startswith("tofae_jax."):  # of a plugin: nobody has tried it yet
        check_program(model)
    return model
