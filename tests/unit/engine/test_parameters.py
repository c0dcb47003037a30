"""Names of a model's parameters."""

import jax
import numpy as np

from tofae_jax.engine.parameters import named_parameters, parameter_rows
from tofae_jax.runs.summary import ParameterRow

PARAMETERS = {
    "down_0": {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(4, np.float16)},
    "alone": np.zeros((), np.float64),
}


def test_named_parameters_nested_are_slash_joined():
    named = named_parameters(PARAMETERS)
    assert list(named) == ["alone", "down_0/bias", "down_0/kernel"]
    assert all(a is b for a, b in zip(named.values(), jax.tree.leaves(PARAMETERS), strict=True))
    assert named["down_0/kernel"] is PARAMETERS["down_0"]["kernel"]


def test_named_parameters_none_gives_no_names():
    assert named_parameters({}) == {}


def test_parameter_rows_give_shape_size_and_dtype():
    assert parameter_rows(PARAMETERS) == [
        ParameterRow("alone", (), 1, "float64"),
        ParameterRow("down_0/bias", (4,), 4, "float16"),
        ParameterRow("down_0/kernel", (3, 4), 12, "float32"),
    ]
