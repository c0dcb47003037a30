"""What the package `plots` imports."""

import ast
from pathlib import Path

import pytest

from tofae_jax import plots


@pytest.mark.backlog("B51")
def test_plots_import_nothing_of_training():
    allowed = (
        "tofae_jax.plots",
        "tofae_jax.core.detector",
        "tofae_jax.core.distributions",
        "tofae_jax.config.PlotMode",
    )
    files = sorted(Path(plots.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        names = [
            f"{node.module}.{part.name}" for node in nodes if isinstance(node, ast.ImportFrom) for part in node.names
        ]
        names += [part.name for node in nodes if isinstance(node, ast.Import) for part in node.names]
        assert not [name for name in names if name.split(".")[0] in ("jax", "jaxlib", "flax", "optax")], file
        assert not [name for name in names if name.startswith("tofae_jax") and not name.startswith(allowed)], file
        at_import = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not [line for line in at_import if "pyplot" in line], file
