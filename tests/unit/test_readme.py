"""What README says is so: commands, options, precisions, extras, needs of TensorBoard and profilers, paths, names."""

import importlib
import re
import shlex
import tomllib

import pytest
from places import ROOT

import tofae_jax
from tofae_jax.cli import app
from tofae_jax.config import Config
from tofae_jax.core.precision import POLICIES
from tofae_jax.data.files.registry import FORMATS

TEXT = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text):
    """Cells of the tables' rows."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def shell_commands():
    """Every `python -m tofae_jax …` of the shell blocks, in words, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if "python -m tofae_jax" in line:
                yield shlex.split(line.split("python -m tofae_jax", 1)[1], comments=True)


def printed_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        app.main([command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.backlog("B35")
def test_readme_commands_are_those_of_the_program():
    named = {re.match(r"`(\w+)", row[0])[1] for row in rows(section("Commands"))[1:]}
    assert named == set(app.COMMANDS)
    shown = [words[0] for words in shell_commands()]
    assert set(shown) <= named
    assert len(shown) > 10


@pytest.mark.backlog("B35")
def test_readme_options_exist(capsys):
    known = {command: printed_help(capsys, command) for command in app.COMMANDS}
    # described in the text of `train --help`; of TensorBoard; a placeholder
    outside = {"--help", "--config", "--resume", "--from", "--logdir", "--section.key"}
    for words in shell_commands():
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in outside or re.search(rf"{option}\b", known[words[0]]), (words[0], option)
    everything = "\n".join(known.values())
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", TEXT)) - outside:
        assert re.search(rf"{option}\b", everything), option


@pytest.mark.backlog("B35")
def test_readme_settings_exist():
    sections = set(Config.__struct_fields__)
    named = {tuple(name.split(".")) for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", TEXT)}
    named = {names for names in named if names[0] in sections and names[-1] not in ("toml", "npz", "json", "jsonl")}
    assert len(named) >= 15
    for names in named:
        value = Config()
        for name in names:
            assert hasattr(value, name), ".".join(names)
            value = getattr(value, name)


@pytest.mark.backlog("B35", "B10")
def test_readme_precisions_are_all_policies_and_their_dtypes():
    table = {row[0]: row[1] for row in rows(section("Precision"))[1:]}
    named = {re.match(r"`(\w+)`", cell)[1]: cell for cell in table}
    assert set(named) == set(POLICIES)
    for name, policy in POLICIES.items():
        dtypes = policy.param, policy.compute, policy.output
        assert table[named[name]] == (", ".join(dtypes) if len(set(dtypes)) > 1 else dtypes[0])
        assert ("(default)" in named[name]) == (Config().precision.policy == name)


@pytest.mark.backlog("B35")
def test_readme_environment_is_that_of_the_project():
    (version,) = re.findall(r"Python (3\.\d+) or newer", TEXT)
    assert PROJECT["requires-python"] == f">={version}"
    named = set(re.findall(r"(?:tofae-jax|-e '\.)\[(\w+)\]|`\[(\w+)\]`", TEXT))
    named = {first or second for first, second in named}
    assert named == set(EXTRAS)
    for kind in FORMATS:
        for library in kind.libraries:
            needs = EXTRAS[kind.extra] if kind.extra is not None else PROJECT["dependencies"]
            assert any(library.startswith(re.match(r"\w+", needed)[0]) for needed in needs)


@pytest.mark.backlog("B35")
def test_readme_tensorboard_and_profiler_needs_are_true():
    assert "TensorBoard files are written by tensorboardX" in TEXT
    assert any(needed.startswith("tensorboardX") for needed in PROJECT["dependencies"])
    assert not any(re.match(r"tensorboard\b(?!X)", needed) for needed in PROJECT["dependencies"])
    assert "`pip install tensorboard`" in TEXT  # it is needed to see them, and does not come along
    monitoring = ROOT / "tofae_jax" / "engine" / "monitoring"
    for needed in ("xprof", "snakeviz"):  # what the program itself asks for
        assert f"pip install {needed}" in (monitoring / "profiler.py").read_text()
        assert re.search(rf"`pip install [^`]*\b{needed}\b", TEXT)
    (file,) = re.findall(r"`profile/([\w.]+)`", TEXT)
    assert f'"{file}"' in (monitoring / "callbacks.py").read_text()


@pytest.mark.backlog("B35")
def test_readme_paths_and_names_exist():
    for path in re.findall(r"\]\((?!http)([^)#]+)\)|`((?:docs|tests|benchmarks|configs)/[\w/.]+)`", TEXT):
        assert (ROOT / (path[0] or path[1])).exists(), path
    for name in re.findall(r"`(\w+\.toml)`", TEXT):
        assert (ROOT / "configs" / name).is_file(), name
    for name in re.findall(r"`(tofae_jax(?:\.\w+)+)(?:\(\))?`", TEXT):
        *modules, last = name.split(".")
        owner = tofae_jax if len(modules) == 1 else importlib.import_module(".".join(modules))
        assert hasattr(owner, last) or importlib.import_module(name), name
