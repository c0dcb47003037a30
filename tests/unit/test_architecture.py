"""The rules of the house: who may import whom, what starts quickly, what the linter says."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from places import ROOT

PACKAGE = ROOT / "tofae_jax"
LAYERS = [
    {"array_types", "config", "core", "detector", "elementary"},
    {"precision", "hits", "normalisation", "degradation", "losses", "metrics", "lhcb_torch"},
    {"models"},
    {"train_state", "steps"},
    {
        "data",
        "datasets",
        "simulation",
        "checkpoints",
        "migrations",
        "process",
        "control",
        "runs",
        "tracking",
        "progress",
        "plots",
        "summary",
        "lineage",
        "files",
        "display",
        "instruments",
        "dashboard",
        "saved",
        "figures",
        "drawing",
        "reports",
    },
    {
        "engine",
        "assembly",
        "loss_choice",
        "simulated",
        "training",
        "loop",
        "observers",
        "outcome",
        "parents",
        "predecessor_run",
        "evaluation",
        "latents",
        "operating",
        "inference",
        "packaged",
    },
    {"cli", "__main__"},
]
LAYER = {part: i for i, parts in enumerate(LAYERS) for part in parts}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tofae_jax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tofae_jax."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tofae_jax."))


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    part = part_of(path)
    assert part in LAYER, f"{part} has no layer yet"
    for name in imported_parts(path):
        assert name in LAYER, f"{path} imports {name}, which has no layer"
        assert LAYER[name] <= LAYER[part], f"{path} imports {name} from above"


def test_the_pure_layers_know_no_settings_files_or_clocks():
    for path in MODULES:
        if 1 <= LAYER[part_of(path)] <= 3:
            text = path.read_text()
            assert "config" not in set(imported_parts(path)), path
            assert not re.search(r"^(import|from) (os|time|pathlib|random|msgspec)\b", text, re.M), path


def loaded_modules(*arguments):
    code = f"import sys; sys.argv = ['x', *{list(arguments)!r}]\nfrom tofae_jax.__main__ import main\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(answer.stdout.split("LOADED", 1)[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_help_loads_no_array_library(arguments):
    loaded = loaded_modules(*arguments)
    assert "msgspec" in loaded
    assert not loaded & {"jax", "flax", "matplotlib", "grain", "orbax", "tensorboardX"}


@pytest.mark.backlog("B28", "B14")
def test_the_linter_finds_nothing():
    """Unused imports and commented-out code among other things; see pyproject.toml."""
    for command in (["check"], ["format", "--check"]):
        answer = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "tofae_jax", "tests", "benchmarks"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.backlog("B29")
def test_functions_and_modules_stay_small():
    for path in MODULES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_all_recipes_can_be_read():
    from tofae_jax.config import Config, read_toml

    recipes = sorted((ROOT / "configs").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        read_toml(recipe, Config)
        assert recipe.read_text().startswith("#"), f"{recipe} does not say what it is"


def test_readme_and_ci_name_the_same_commands():
    readme = (ROOT / "README.md").read_text()
    (test_command,) = re.findall(r"```sh\n(.*pytest.*)\n```", readme)
    assert test_command in (ROOT / ".ci" / "run").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] in readme


@pytest.mark.backlog("B35")
def test_readme_says_what_contributors_need():
    readme = (ROOT / "README.md").read_text().lower()
    for word in ("contributing", "tensorboard", "precision", "python"):
        assert word in readme
