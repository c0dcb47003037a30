"""Precision policies: which dtypes parameters, computation and outputs have; and dynamic loss scaling for float16.

Batch statistics, the optimiser's moments, losses and metrics are never below float32, whatever the policy. Parameters
below float32 carry what rounding took from them (`apply_compensated`), or small updates would vanish.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Policy(NamedTuple):
    """A precision policy: the dtypes of a model, by name.

    Names become dtypes only after 64-bit numbers have been allowed.
    """

    name: str
    """its key in `POLICIES`"""
    param: str
    """dtype of the parameters"""
    compute: str
    """dtype of the computation"""
    output: str
    """dtype of the model's output"""

    @property
    def scales_loss(self) -> bool:
        """Whether gradients pass through float16, whose range is too small for them."""
        return self.compute == "float16"

    @property
    def needs_64_bit(self) -> bool:
        """Whether JAX must be told to allow 64-bit numbers before any array is made."""
        return "float64" in self[1:]


def _pure(name: str) -> Policy:
    return Policy(name, name, name, name)


POLICIES: dict[str, Policy] = {
    **{name: _pure(name) for name in ("float32", "bfloat16", "float16", "float64")},
    "mixed_bfloat16": Policy("mixed_bfloat16", "float32", "bfloat16", "float32"),
    "mixed_float16": Policy("mixed_float16", "float32", "float16", "float32"),
}


def policy_by_name(name: str) -> Policy:
    """Return the precision policy called `name`.

    Args:
        name: a key of `POLICIES`: `float32`, `bfloat16`, `float16`, `float64`, `mixed_bfloat16`, `mixed_float16`.

    Returns:
        Dtypes of parameters, computation and output.

    Raises:
        ValueError: an unknown name, with those that are known.
    """
    if name not in POLICIES:
        raise ValueError(f"precision {name!r} is not known; known: {', '.join(POLICIES)}")
    return POLICIES[name]


def check_available(policy: Policy) -> None:
    """Check that JAX makes arrays of the policy's dtypes.

    Raises:
        ValueError: the policy needs float64, which JAX turns into float32 without a word unless told otherwise.
    """
    if policy.needs_64_bit and jax.dtypes.canonicalize_dtype(jnp.float64) != jnp.float64:
        raise ValueError(
            f"precision {policy.name} needs 64-bit numbers: jax.config.update('jax_enable_x64', True) before any array"
        )


def at_least_float32(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same values in at least float32: a float16 sum overflows at 65504, and bfloat16 counts to 256 only."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def wide_dtype(name: str) -> Any:
    """Float32, or the named dtype if it is wider."""
    return jnp.promote_types(jnp.dtype(name), jnp.float32)


def cast_floats(tree: Any, dtype: Any) -> Any:
    """Cast the floating-point arrays of a tree to a dtype; others, and keys, stay as they are."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf, tree
    )


def cast_variables(variables: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Parameters in the policy's dtype, batch statistics in at least float32."""
    dtypes = {"params": jnp.dtype(policy.param), "batch_stats": wide_dtype(policy.param)}
    return {
        name: jax.tree.map(lambda leaf, dtype=dtypes[name]: leaf.astype(dtype), tree)
        for name, tree in variables.items()
    }
