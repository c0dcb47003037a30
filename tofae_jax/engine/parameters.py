"""Names of a model's parameters."""

from __future__ import annotations

from typing import Any

import jax

from tofae_jax.runs.summary import ParameterRow


def named_parameters(parameters: Any) -> dict[str, Any]:
    """Return the arrays of nested parameters by slash-joined name, e.g. `down_0/kernel`, in the order of their leaves.

    The values of the result are thus `jax.tree.leaves(parameters)`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def parameter_rows(parameters: Any) -> list[ParameterRow]:
    """Describe each array of nested parameters."""
    named = named_parameters(parameters)
    return [ParameterRow(name, tuple(leaf.shape), int(leaf.size), str(leaf.dtype)) for name, leaf in named.items()]
