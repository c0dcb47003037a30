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


@pytest.mark.slow
def test_the_readme_example_runs_and_prints_what_it_says():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    printed = []
    exec(compile(example, "README.md", "exec"), {"print": lambda *words: printed.append(" ".join(map(str, words)))})
    claimed = re.findall(r"print\(.*\)\s+# (.*)", example)
    assert printed == claimed
