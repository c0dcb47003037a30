"""The rules of the package's layout (docs/architecture.md), each as a test that fails when the rule is broken."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache

import pytest
from places import ROOT

import tofae_jax

PACKAGE = ROOT / "tofae_jax"
LAYERS = [
    {"core"},
    {"losses", "metrics", "lhcb_torch", "config"},
    {"models", "plots"},
    {"steps", "data"},
    {"runs"},
    {"engine"},
    {"cli"},
]
"""imports go strictly down between packages"""
LAYER = {package: i for i, packages in enumerate(LAYERS, start=1) for package in packages}
ENTRIES = {"__init__.py", "__main__.py", *LAYER}
PURE = {"core", "losses", "metrics", "lhcb_torch", "models", "steps"}
IMPURE_MODULES = {
    "atexit", "datetime", "glob", "io", "logging", "msgspec", "os", "pathlib", "pickle", "random", "shutil", "signal",
    "socket", "subprocess", "sys", "tempfile", "threading", "time", "tomllib", "tyro", "warnings",
}  # fmt: skip
WITHOUT_JAX = ("config", "plots", "runs")
JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "grain"}
EMPTY_NAMES = {"base", "common", "helpers", "misc", "names", "parts", "reading", "util", "utils", "views"}
SAME_NAME = {"Options", "main", "run", "build_model"}
"""what every command has; programs that are run with `-m`; the public `build_model` fills in default sizes"""
SETTINGS_IN_CORE = {"detector.py"}
"""the detector is a typed struct, as `config` has it too"""
PUBLIC = {name: home.partition(".")[2] for home, names in tofae_jax._HOMES.items() for name in names}
"""modules of the public names, which could be imported from the root in place of them"""
IMPURE_CALLS = {"import_module", "np.save", "np.savez", "np.load", "jax.config.update", "open", "print", "input"}
MOST_LINES, MOST_FUNCTION_LINES = 400, 60


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def modules_of(package=PACKAGE):
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def dotted(path, package=PACKAGE):
    """Module name below the package, `runs.report` for `runs/report/__init__.py`."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, known):
    """Modules of the package that a file imports, wherever in it: lazily and under TYPE_CHECKING too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith("tofae_jax."))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            if (node.module or "").split(".")[0] == "tofae_jax":
                module = node.module.partition(".")[2]
                for alias in node.names:
                    below = f"{module}.{alias.name}".lstrip(".")
                    public = module or PUBLIC.get(alias.name, module)  # through the root
                    yield below if below in known else public


def import_graph(package=PACKAGE):
    """Imported modules by module; importing a module counts for itself, not for the packages around it."""
    paths = {dotted(path, package): path for path in modules_of(package)}
    return {module: set(imports_of(path, paths)) - {module} for module, path in paths.items()}


def package_of(module):
    return module.split(".")[0]


def upward(graph):
    """Imports that do not go strictly down between packages."""
    for module, imported in graph.items():
        if module in ("", "__main__"):  # the public names, and the program
            continue
        assert package_of(module) in LAYER, f"{module}: not in a package of the layout"
        for other in imported:
            above, below = package_of(module), package_of(other)
            if other and above != below and LAYER[below] >= LAYER[above]:
                yield f"{module} (layer {LAYER[above]}) imports {other} (layer {LAYER[below]})"


def cycles(graph):
    """Groups of modules that import each other, by Tarjan's strongly connected components."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def impure(path):
    """What a pure module may not have: settings, files, clocks, global state."""
    for node in ast.walk(parsed(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            is_known = name == "msgspec" and path.name in SETTINGS_IN_CORE
            if (name.split(".")[0] in IMPURE_MODULES and not is_known) or name.startswith("tofae_jax.config"):
                yield f"line {node.lineno}: imports {name}"
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in IMPURE_CALLS:
            yield f"line {node.lineno}: calls {called}"


def imports_at_start(path):
    """Names of modules that a file imports when it is imported, `if TYPE_CHECKING` left out."""
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def loaded_by(code):
    """Top-level modules that are loaded after running code in a fresh Python."""
    code += "\nimport sys; print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(answer.stdout.split("LOADED", 1)[1].split())


def test_root_holds_the_fourteen_entries_only():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == ENTRIES
    assert len(ENTRIES) == 14


def test_imports_go_strictly_down_between_packages():
    assert list(upward(import_graph())) == []


def test_imports_have_no_cycle_between_files():
    assert cycles(import_graph()) == []


def test_import_graph_sees_lazy_and_typing_imports(tmp_path):
    """The rules cannot be passed by hiding an import."""
    for name, text in {
        "core/a.py": "def f():\n    from tofae_jax.core.b import g\n",
        "core/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tofae_jax.core import a\n",
        "steps/c.py": "import tofae_jax.engine.d\n",
        "engine/d.py": "",
        "losses/e.py": "from tofae_jax import load_run\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path)
    assert cycles(graph) == [["core.a", "core.b"]]
    assert sorted(upward(graph)) == [
        "losses.e (layer 2) imports engine.load (layer 6)",
        "steps.c (layer 4) imports engine.d (layer 6)",
    ]


@pytest.mark.parametrize("package", sorted(PURE))
def test_pure_packages_know_no_settings_files_or_clocks(package):
    for path in modules_of(PACKAGE / package):
        assert list(impure(path)) == [], path


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("import os", 1),
        ("from time import time", 1),
        ("from tofae_jax.config import Config", 1),
        ("def f():\n    global x", 1),
        ("open('a')", 1),
        ("jax.config.update('jax_enable_x64', True)", 1),
        ("np.save('a', 1)", 1),
        ("def f():\n    import pathlib", 1),
        ("import math", 0),
    ],
)
def test_impure_finds_each_kind(text, n_found, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(text)
    assert len(list(impure(path))) == n_found


@pytest.mark.parametrize("package", WITHOUT_JAX)
def test_packages_without_jax_import_none_at_start(package):
    for path in modules_of(PACKAGE / package):
        found = {name.split(".")[0] for name in imports_at_start(path)} & JAX
        assert not found, f"{path} imports {found}"
    names = [f"tofae_jax.{dotted(path)}" for path in modules_of(PACKAGE / package)]
    loaded = loaded_by("\n".join(f"import {name}" for name in names))
    assert not loaded & JAX, f"{package} loads {loaded & JAX} through what it imports"


@pytest.mark.parametrize("package", ["core", "data"])
def test_packages_under_config_hold_a_docstring_only(package):
    """`config` and `cli` import modules of theirs, and `--help` must not load JAX."""
    (statement,) = ast.parse((PACKAGE / package / "__init__.py").read_text()).body
    assert isinstance(statement, ast.Expr)


def test_module_names_are_unique_within_a_layer_and_say_something():
    by_name = defaultdict(list)
    for path in modules_of():
        package = package_of(dotted(path))
        if package in LAYER and path.stem != "__init__":
            assert path.stem not in EMPTY_NAMES, path
            by_name[LAYER[package], path.stem].append(str(path.relative_to(PACKAGE)))
    assert [paths for paths in by_name.values() if len(paths) > 1] == []


def test_public_classes_and_functions_have_one_home():
    """One name, one meaning."""
    homes = defaultdict(list)
    for path in modules_of():
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in homes.items() if len(found) > 1 and name not in SAME_NAME} == {}


def test_private_names_stay_in_their_module():
    for path in modules_of():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tofae_jax"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path} imports {private} from {node.module}"


@pytest.mark.backlog("B29")
def test_modules_and_functions_stay_small():
    for path in modules_of():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, f"{path}: {node.name}"


def test_unit_tests_mirror_the_package():
    """tests/unit/PACKAGE/test_MODULE.py tests tofae_jax/PACKAGE/MODULE.py."""
    known = {dotted(path) for path in modules_of()}
    for path in sorted((ROOT / "tests" / "unit").rglob("test_*.py")):
        *folders, name = path.relative_to(ROOT / "tests" / "unit").with_suffix("").parts
        if folders and folders[0] != "benchmarks":
            assert ".".join([*folders, name.removeprefix("test_")]) in known, f"{path} tests no module"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_help_loads_no_array_library(arguments):
    code = f"import sys; sys.argv = ['x', *{arguments!r}]\nfrom tofae_jax.__main__ import main\n"
    loaded = loaded_by(code + "try: main()\nexcept SystemExit: pass")
    assert "msgspec" in loaded
    assert not loaded & {*JAX, "matplotlib", "tensorboardX"}


@pytest.mark.backlog("B28", "B14")
def test_linter_finds_nothing():
    """Unused imports and commented-out code among other things; see pyproject.toml."""
    for command in (["check"], ["format", "--check"]):
        answer = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "tofae_jax", "tests", "benchmarks", "docs"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_recipes_can_be_read_and_say_what_they_are():
    from tofae_jax.config import Config, read_toml

    recipes = sorted((ROOT / "configs").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        read_toml(recipe, Config)
        assert recipe.read_text().startswith("#"), f"{recipe} does not say what it is"


def test_readme_and_ci_name_the_same_commands():
    readme = (ROOT / "README.md").read_text()
    (test_command,) = re.findall(r"```sh\n(.*pytest.*)\n```", readme)
    ci = (ROOT / ".ci" / "run").read_text()
    assert test_command in ci
    assert "pytest -n 2 -m slow" in ci
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["name"] in readme


def test_architecture_page_shows_the_tree():
    """The tree in docs/architecture.md names every module in the line of its package, and no other."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = re.search(r"```\n(core/.*?)```", page, re.S).group(1)
    shown, package = defaultdict(set), ""
    for line in tree.splitlines():
        if line[0] != " ":
            package = line.split("/")[0]
        shown[package] |= set(re.findall(r"(?<![\w{.,])([a-z]\w*)(?![\w/.])", line))
    prose = {*"one module per figure named after the function it exports and what they share".split()}  # noqa: SIM905
    for package in LAYER:
        modules = {path.stem for path in modules_of(PACKAGE / package) if path.stem != "__init__"}
        assert modules - shown[package] == set(), f"{package}: not in the tree of docs/architecture.md"
        assert shown[package] - modules - prose - {"html", "pdf"} == set(), f"{package}: in the tree, but not there"
