"""No module of the package keeps what a run or an evaluation found: everything is an argument or a result."""

import ast

import pytest
from places import ROOT

PACKAGE = ROOT / "tofae_jax"
MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard", "clear"}


def mutable_names(tree) -> set[str]:
    """Module-level names of lists, dicts, sets and the like."""
    found = set()
    for node in tree.body:
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Assign | ast.AnnAssign) or value is None:
            continue
        is_call = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in (
            "list", "dict", "set", "defaultdict", "Counter", "deque", "OrderedDict"
        )  # fmt: skip
        if is_call or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def changes(tree) -> list[str]:
    """Where a function changes what its module holds."""
    known, found = mutable_names(tree), []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                found.append(f"line {node.lineno}: global {', '.join(node.names)}")
            target = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
                target = node.func.value
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                target = node.value
            elif isinstance(node, ast.AugAssign):
                target = node.target
            if isinstance(target, ast.Name) and target.id in known:
                found.append(f"line {node.lineno}: changes {target.id}")
    return found


@pytest.mark.backlog("B32", "B24")
def test_modules_functions_change_no_global_state():
    found = {str(path): changes(ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(found) > 100
    assert {path: where for path, where in found.items() if where} == {}


@pytest.mark.parametrize(
    "text",
    [
        "SEEN = []\ndef f(x):\n    SEEN.append(x)",
        "KNOWN: dict = {}\nclass A:\n    def f(self, x):\n        KNOWN[x] = 1",
        "N = 0\ndef f():\n    global N\n    N += 1",
        "from collections import defaultdict\nTOTALS = defaultdict(int)\ndef f(x):\n    TOTALS[x] += 1",
    ],
)
def test_modules_global_state_is_found(text):
    """The negative control of the test above."""
    assert changes(ast.parse(text))
