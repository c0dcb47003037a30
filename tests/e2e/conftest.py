"""Whole runs: their functions are checked for types and shapes in the unit tests, and here in the quick tour alone."""

import jaxtyping
import pytest


@pytest.fixture(scope="module", autouse=True)
def unchecked_types(request):
    """Switch off the run-time type checks, which would cost a fifth of the time of whole runs."""
    is_checked = request.module.__name__.endswith("test_quick_tour")
    jaxtyping.config.update("jaxtyping_disable", not is_checked)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
