"""Checksums of the arrays of a checkpoint, and whether they fit a template."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _raw(leaf: Any) -> Any:
    """The leaf, or the numbers of a random key."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _kinds(tree: Any) -> dict[str, str]:
    """Dtype and shape of each leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda t: jax.tree.map(_raw, t), tree))
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def checksums(tree: Any) -> dict[str, str]:
    """Compute dtype, shape and CRC-32 of each array of a tree, by its name."""
    found = _kinds(tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(np.asarray(_raw(leaf)))
        found[jax.tree_util.keystr(path)] += f":{zlib.crc32(array.reshape(-1).view(np.uint8).data):08x}"
    return found


def structure_of(tree: Any) -> str:
    """Compute a checksum of the structure of a tree, in which empty parts count too; JAX versions may differ in it."""
    return f"{zlib.crc32(str(jax.tree.structure(tree)).encode()):08x}"


def misfit_of(stored: dict[str, str], template: Any) -> str | None:
    """Say what in the checksums of a checkpoint does not fit a template; None if all does.

    Orbax's own answer to that leaves broken coroutines behind.
    """
    wanted = _kinds(template)
    for name, kind in wanted.items():
        if name not in stored:
            return f"it lacks {name}"
        if (there := stored[name].partition(":")[0]) != kind:
            return f"{name} is {there}, the settings need {kind}"
    surplus = sorted(set(stored) - set(wanted))
    return f"it holds {surplus[0]}, which the settings do not know" if surplus else None


def misfit(there: Any, wanted: Any) -> str | None:
    """Say in which array two trees differ by name, dtype or shape; None if they fit."""
    return misfit_of(_kinds(there), wanted)
