"""Precision policies: which dtypes parameters, computation and outputs have; and dynamic loss scaling for float16.

Batch statistics, the optimiser's moments, losses and metrics are never below float32, whatever the policy. Parameters
below float32 carry what rounding took from them (`apply_compensated`), or small updates would vanish.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from tofae_jax.array_types import Number

LEAST_SCALE = 1.0
LARGEST_SCALE = 2.0**24  # of a loss in float32, which leaves its gradients room


class Policy(NamedTuple):
    """Dtypes by name: they turn into dtypes only after 64-bit numbers have been allowed."""

    name: str
    param: str
    compute: str
    output: str

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
FALLBACKS = {
    ("float16", "bfloat16"): "bfloat16",
    ("mixed_float16", "bfloat16"): "mixed_bfloat16",
    ("float16", "float32"): "float32",
    ("mixed_float16", "float32"): "float32",
}
"""policy to go on with, by the failing policy and the wanted kind of number"""
WITHOUT_64_BIT = ("tpu", "metal")  # platforms


def policy_by_name(name: str) -> Policy:
    """The policy called `name`; an unknown name lists the known ones."""
    if name not in POLICIES:
        raise ValueError(f"precision {name!r} is not known; known: {', '.join(POLICIES)}")
    return POLICIES[name]


def wide(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same values in at least float32: a float16 sum overflows at 65504, and bfloat16 counts to 256 only."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def wide_dtype(name: str) -> Any:
    """Float32, or the named dtype if it is wider."""
    return jnp.promote_types(jnp.dtype(name), jnp.float32)


def _runs(policy: Policy) -> bool:
    """Whether a matrix product in each of the policy's dtypes comes out right on the default device."""
    if policy.needs_64_bit and jax.default_backend().lower() in WITHOUT_64_BIT:
        return False
    try:
        with jax.enable_x64(policy.needs_64_bit):
            for name in set(policy[1:]):
                ones = jnp.ones((8, 8), jnp.dtype(name))
                product = jax.jit(jnp.matmul)(ones, ones)
                if product.dtype != jnp.dtype(name) or not bool(jnp.all(product == 8)):
                    return False
    except Exception:  # each kind of device refuses in its own words
        return False
    return True


def prepare(name: str) -> Policy:
    """Make the process ready for a policy: checks the device, and allows 64-bit numbers where they are needed.

    Call it before any array is made: older ones keep their dtype. ValueError lists what the device can run.
    """
    policy = policy_by_name(name)
    check_device(policy)
    allow_64_bit(policy)
    return policy


def allow_64_bit(policy: Policy) -> None:
    """Switch 64-bit numbers on, for the whole process, where the policy needs them."""
    if policy.needs_64_bit:
        jax.config.update("jax_enable_x64", True)


def check_device(policy: Policy) -> None:
    """ValueError, with the list of what the default device can run, if it cannot run this policy."""
    if not _runs(policy):
        able = ", ".join(known for known, other in POLICIES.items() if _runs(other))
        raise ValueError(
            f"precision {policy.name} does not run on this device ({jax.default_backend()}); it can run: {able}"
        )


def cast_variables(variables: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """Parameters in the policy's dtype, batch statistics in at least float32."""
    dtypes = {"params": jnp.dtype(policy.param), "batch_stats": wide_dtype(policy.param)}
    return {
        name: jax.tree.map(lambda leaf, dtype=dtypes[name]: leaf.astype(dtype), tree)
        for name, tree in variables.items()
    }


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
    whole = [wide(leaf) if rest is None else wide(leaf) + wide(rest) for leaf, rest in zip(leaves, rests, strict=True)]
    cast = shape.unflatten([leaf.astype(jnp.dtype(policy.param)) for leaf in whole])
    lost = jax.tree.map(lambda full, low: full - wide(low), shape.unflatten(whole), cast)
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


def initial_scale(value: float) -> LossScale:
    """A fresh state; 1 where nothing is to be scaled."""
    # each an array of its own, as a training step takes over their memory
    good, skipped, stuck = (jnp.zeros((), jnp.int32) for _ in range(3))
    return LossScale(value=jnp.asarray(value, jnp.float32), good=good, skipped=skipped, stuck=stuck)


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
    return LossScale(
        value=value,
        good=jnp.where(grown, 0, good),
        skipped=scale.skipped + jnp.where(finite, 0, 1),
        stuck=jnp.where(finite, 0, jnp.where(at_floor, scale.stuck + 1, 0)),
    )


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
