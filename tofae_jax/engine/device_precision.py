"""Prepare the process for a precision policy: check the device, allow 64-bit numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tofae_jax.core.precision import POLICIES, Policy, policy_by_name

WITHOUT_64_BIT = ("tpu", "metal")  # platforms


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
