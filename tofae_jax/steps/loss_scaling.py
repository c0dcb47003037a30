"""Dynamic loss scaling and parameter updates below float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

from tofae_jax.core.precision import Policy, at_least_float32
from tofae_jax.core.types import Number

LEAST_SCALE = 1.0
INITIAL_SCALE = 2.0**15
LARGEST_SCALE = 2.0**24  # of a loss in float32, which leaves its gradients room
FALLBACKS = {
    ("float16", "bfloat16"): "bfloat16",
    ("mixed_float16", "bfloat16"): "mixed_bfloat16",
    ("float16", "float32"): "float32",
    ("mixed_float16", "float32"): "float32",
}
"""policy to go on with, by the failing policy and the wanted kind of number"""


def residual_of(params: Any) -> Any:
    """What `apply_compensated` carries along, 0 at first: for parameters below float32, else nothing."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if leaf.dtype.itemsize < 4 else None, params)


def apply_compensated(params: Any, updates: Any, residual: Any) -> tuple[Any, Any]:
    """`params + updates`, and what rounding took away, which is added to the next update (Kahan summation).

    Without it a bfloat16 parameter of 1 stands still under updates below 0.004. Zamirai et al. 2020, "Revisiting
    BFloat16 Training". `residual` comes from `residual_of`; where it has None, the sum is the plain one.
    """

    def add(param: Array, update: Array, rest: Array | None) -> tuple[Array, Array | None]:
        if rest is None:
            return (param + update).astype(param.dtype), None
        wanted = param.astype(jnp.float32) + (update.astype(jnp.float32) + rest.astype(jnp.float32))
        new = wanted.astype(param.dtype)
        return new, (wanted - new.astype(jnp.float32)).astype(param.dtype)

    leaves, shape = jax.tree.flatten(params)
    summed = [
        add(*parts) for parts in zip(leaves, shape.flatten_up_to(updates), shape.flatten_up_to(residual), strict=True)
    ]
    return shape.unflatten([new for new, _ in summed]), shape.unflatten([rest for _, rest in summed])


def recast(params: Any, residual: Any, policy: Policy) -> tuple[Any, Any]:
    """Parameters and their residual in another policy, without losing what the residual holds."""
    leaves, shape = jax.tree.flatten(params)
    rests = shape.flatten_up_to(residual)
    whole = [
        at_least_float32(leaf) if rest is None else at_least_float32(leaf) + at_least_float32(rest)
        for leaf, rest in zip(leaves, rests, strict=True)
    ]
    cast = shape.unflatten([leaf.astype(jnp.dtype(policy.param)) for leaf in whole])
    lost = jax.tree.map(lambda full, low: full - at_least_float32(low), shape.unflatten(whole), cast)
    return apply_compensated(cast, lost, residual_of(cast))


class LossScale(struct.PyTreeNode):
    """State of dynamic loss scaling (Micikevicius et al. 2018): the loss is multiplied by `value` before the gradient.

    Small gradients then do not vanish in float16. When one overflows the step is skipped and the scale halved; after
    `growth_steps` good steps in a row it is doubled.
    """

    value: Any
    good: Any
    """good steps since the scale last changed"""
    skipped: Any
    """steps skipped in all"""
    stuck: Any
    """steps skipped in a row at the smallest scale"""
    in_use: bool = struct.field(pytree_node=False, default=True)
    """whether the loss is scaled at all; static, so that a step that scales can refuse a state of one that does not"""


def initial_scale(value: float, *, in_use: bool = True) -> LossScale:
    """A fresh state; 1 and not `in_use` where nothing is to be scaled."""
    # each an array of its own, as a training step takes over their memory
    good, skipped, stuck = (jnp.zeros((), jnp.int32) for _ in range(3))
    return LossScale(jnp.asarray(value, jnp.float32), good, skipped, stuck, in_use)


def next_scale(scale: LossScale, finite: Bool[Array, ""], *, growth_steps: Number) -> LossScale:
    """The state after a step whose gradients were `finite` or not."""
    good = jnp.where(finite, scale.good + 1, 0)
    grown = good >= growth_steps
    at_floor = scale.value <= LEAST_SCALE
    value = jnp.where(
        finite,
        jnp.where(grown, jnp.minimum(scale.value * 2, LARGEST_SCALE), scale.value),
        jnp.maximum(scale.value / 2, LEAST_SCALE),
    )
    return scale.replace(
        value=value,
        good=jnp.where(grown, 0, good),
        skipped=scale.skipped + jnp.where(finite, 0, 1),
        stuck=jnp.where(finite, 0, jnp.where(at_floor, scale.stuck + 1, 0)),
    )


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
