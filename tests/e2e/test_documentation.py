"""Every example of docs/functional_api.md, run in order; and that the page and the public names agree."""

import re
import shutil

import pytest
from places import ROOT
from small_run import config

import tofae_jax
from tofae_jax.core.detector import Detector

PAGE = (ROOT / "docs" / "functional_api.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)
SUBMODULES = {"losses", "metrics", "models", "plots", "lhcb_torch", "config"}


def names_in(text):
    return set(re.findall(r"\btj\.(\w+)", text)) - SUBMODULES


def test_every_public_name_is_in_a_table_and_in_an_example():
    tables = set(re.findall(r"`(\w+)`", "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))))
    tables |= {"LOSSES", "Loss", "loss_by_name"}  # in the text above their table
    public = set(tofae_jax.__all__)
    assert public - tables == set()
    assert public - names_in("".join(EXAMPLES)) == set()
    assert names_in("".join(EXAMPLES)) <= public


def test_the_first_example_is_short():
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 35


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the examples read: measured hits, and a run."""
    path = tmp_path_factory.mktemp("documentation")
    (path / "hits.csv").write_text("event,x,y,t\n0,4,5,50\n0,5,6,52\n0,20,3,9\n1,9,9,9\n")
    return path


@pytest.mark.slow
def test_examples_run_in_order(place, monkeypatch, capsys):
    from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
    from tofae_jax.engine.training.train import train

    monkeypatch.chdir(place)
    detector = Detector(n_x=24, n_y=32, n_t=100)
    simulated_dataset("d", detector=detector, weights={"v": 1}, n_events=160, seed=1)
    shape = {"n_x": 24, "n_y": 32, "n_t": 100}
    paths, _ = train(config(detector=shape, train={"epochs": 1}))
    shutil.copytree(paths.folder, "runs/example")
    capsys.readouterr()
    space = {"__name__": "functional_api"}
    printed = []
    for example in EXAMPLES:
        exec(compile(example, "docs/functional_api.md", "exec"), space)
        printed += capsys.readouterr().out.splitlines()
        claimed = re.findall(r"^print\(.*\)  # (.*)$", example, re.M)
        assert printed[len(printed) - len(claimed) :] == claimed
    step, notes, f1, n_compiled = re.match(r"(\d+) ({.*}) ([\d.]+) (\d+)", printed[0]).groups()
    assert (int(step), int(n_compiled)) == (200, 1)
    assert "loss" in notes
    assert float(f1) > 0.6
    assert printed[1].startswith("DenoiseCounts(events=2, hits=4")
