"""What research code imports, and the README's example of it."""

import inspect
import re

import pytest
from places import ROOT

import tofae_jax

README = ROOT / "README.md"


@pytest.mark.parametrize("name", tofae_jax.__all__)
def test_public_names_are_there_and_documented(name):
    value = getattr(tofae_jax, name)
    if callable(value):
        assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        tofae_jax.nonsense


def test_readme_example_is_the_first_of_the_page():
    """tests/e2e/test_documentation.py runs it."""
    page = (ROOT / "docs" / "functional_api.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert example == re.findall(r"```python\n(.*?)```", page, re.S)[0]


def documented(name):
    """Arguments of a public function that its docstring does not describe, and whether it says what it returns."""
    function = getattr(tofae_jax, name)
    text = inspect.getdoc(function) or ""
    described = text.split("Args:")[-1]
    signature = inspect.signature(function)
    missing = [p for p in signature.parameters if not re.search(rf"^\s+{p}: ", described, re.M)]
    return missing, "Returns:" in text or signature.return_annotation in ("None", None)


@pytest.mark.parametrize("name", [name for name in tofae_jax.__all__ if inspect.isfunction(getattr(tofae_jax, name))])
def test_public_functions_describe_arguments_and_result(name):
    assert documented(name) == ([], True)
