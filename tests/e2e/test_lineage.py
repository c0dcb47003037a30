"""Which run started from which: what a child takes from its parent, and families as text."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from places import ROOT
from small_run import RECIPE, config, folder, inside, programs  # noqa: F401 (fixtures)

from tofae_jax.cli import app
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.checksums import checksums
from tofae_jax.engine.load import load_run, stored_shapes
from tofae_jax.engine.training import loop
from tofae_jax.engine.training import train as training
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.lineage import family_tree, read_family
from tofae_jax.runs.record import RunRecord, read_record, write_record

pytestmark = pytest.mark.slow

DAY = "2026-01-{:02d}T00:00:00+0000"


def record(name, parent=None, *, day=1, seconds=10.0, f1=0.5, status="finished", **results):
    known = {"epochs": 3, "best_epoch": 2, "training_s": seconds, "test": {"loss": 0.25, "masked": {"f1": f1}}}
    return RunRecord(run_id=name, parent_run_id=parent, started=DAY.format(day), status=status, results=known | results)


FAMILY = [
    record("old", day=1),
    record("child", "old", day=2, seconds=200.0, f1=0.61234),
    record("grandchild", "child", day=3, seconds=8000.0, f1=None),
    record("sibling", "old", day=4, test=None),
    RunRecord(run_id="killed", started=DAY.format(5), status="running"),
]


def written(place, records):
    for one in records:
        (place / one.run_id).mkdir(parents=True)
        write_record(RunPaths(place / one.run_id), one)
    return place


def names(tree):
    """Each line's run and how deep it stands."""
    lines = [(line, line.lstrip("│├└─ ")) for line in tree.splitlines()]
    return [((len(line) - len(text)) // 4, text.partition(":")[0]) for line, text in lines]


@pytest.mark.backlog("B41")
def test_a_family_is_drawn_with_times_and_metrics(tmp_path):
    tree = family_tree(read_family([written(tmp_path / "runs", reversed(FAMILY))]))
    assert tree.splitlines() == [
        "old: finished; 3 epochs, best 2; 10 s; masked.f1 0.5",
        "├── child: finished; 3 epochs, best 2; 3.3 min, 3.5 min in all; masked.f1 0.6123",
        "│   └── grandchild: finished; 3 epochs, best 2; 2.2 h, 2.3 h in all; masked.f1 -",
        "└── sibling: finished; 3 epochs, best 2; 10 s, 20 s in all; masked.f1 -",
        "killed: running; 0 s; masked.f1 -",
    ]


def test_other_metrics_are_shown_and_missing_ones_are_a_dash():
    assert "; loss 0.25" in family_tree(FAMILY, metric="loss")
    for metric in ("masked", "masked.f2", "loss.f1", ""):
        assert all(line.endswith("-") for line in family_tree(FAMILY, metric=metric).splitlines()), metric


def test_a_parent_that_is_not_there_is_named_once():
    tree = family_tree([record("a", "gone"), record("b", "gone", day=2), record("c", "lost"), record("d", "a")])
    assert names(tree) == [(0, "gone (not here)"), (1, "a"), (2, "d"), (1, "b"), (0, "lost (not here)"), (1, "c")]


def test_a_run_that_descends_from_itself_is_a_root():
    assert names(family_tree([record("a", "a"), record("b", "a")])) == [(0, "a"), (1, "b")]
    circle = [record("a", "c"), record("b", "a"), record("c", "b"), record("d", "b"), record("e", "d")]
    found = names(family_tree(circle))
    assert sorted(name for _, name in found) == ["a", "b", "c", "d", "e"]
    assert found.index((1, "d")) == found.index((0, "b")) + 1
    assert (2, "e") in found


@pytest.mark.parametrize("name", ["r", "a-rather-long-name-of-a-run-that-says-what-it-is-good-for" * 2])
def test_a_long_line_of_descent_has_a_line_per_run(name):
    runs = [record(f"{name}{i:03}", f"{name}{i - 1:03}" if i else None, day=1 + i) for i in range(28)]
    tree = family_tree(runs)
    assert names(tree) == [(depth, one.run_id) for depth, one in enumerate(runs)]
    assert "4.7 min in all" in tree.splitlines()[-1]


def test_places_may_be_runs_and_folders_and_overlap(tmp_path):
    one, two = written(tmp_path / "one", FAMILY[:3]), written(tmp_path / "two", FAMILY[3:])
    (one / "no-run").mkdir()
    (one / "a.txt").write_text("")
    assert [r.run_id for r in read_family([two, one, one / "old"])] == [r.run_id for r in FAMILY]
    assert [r.run_id for r in read_family([one / "child"])] == ["child"]


def test_no_runs_and_damaged_ones_are_named(tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="empty: no runs here"):
        read_family([tmp_path / "empty"])
    with pytest.raises(RunError, match="nothing: no such folder"):
        read_family([tmp_path / "nothing"])
    written(tmp_path / "runs", FAMILY)
    (tmp_path / "runs" / "child" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"child.run\.json: damaged"):
        read_family([tmp_path / "runs" / "child"])
    with caplog.at_level("WARNING"):
        found = read_family([tmp_path / "runs"])
    assert "child" not in {record.run_id for record in found} and found
    assert "child/run.json: damaged" in caplog.text


@pytest.mark.backlog("B41", "B63")
def test_the_command_prints_the_tree(tmp_path, monkeypatch, capsys):
    written(tmp_path / "runs", FAMILY)
    monkeypatch.chdir(tmp_path)
    assert app.main(["lineage"]) == 0
    assert capsys.readouterr().out == family_tree(FAMILY) + "\n"
    assert app.main(["lineage", "runs/old", "runs/child", "--metric", "loss"]) == 0
    assert capsys.readouterr().out == family_tree(FAMILY[:2], metric="loss") + "\n"
    assert app.main(["lineage", "runs", "--metric", "nope"]) == 2
    assert capsys.readouterr().err.startswith("tofae_jax: metric 'nope': not a number of the test events; known: ")
    assert app.main(["lineage", "none"]) == 2
    assert capsys.readouterr().err == "tofae_jax: none: no such folder\n"


@pytest.fixture(scope="module")
def parent(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return training.train(config(train={"epochs": 2, "plots": "none"}, runs={"name": "parent"}))[0]


def begun(monkeypatch, *words):
    """A child's state before its first step; the run of the child is kept."""
    seen, real = [], loop.Loop.run

    def run(self, state):
        seen.append(jax.device_get(state.replace(key=None)))
        return real(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "run", run)
        assert app.main(["train", "--train.epochs=1", "--train.plots=none", *words]) == 0
    return seen[0]


def best_of(paths):
    config = load_run(paths.folder).setup.config
    with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
        return checkpoints.restore(stored_shapes(config), best=True, warn=pytest.fail)[0]


def sums(tree):
    return {name: checksum for name, checksum in checksums(tree).items() if "key" not in name}


@pytest.mark.backlog("B41")
@pytest.mark.parametrize("optimiser", [False, True])
def test_a_child_begins_with_its_parent_s_best_weights(parent, monkeypatch, capsys, optimiser):
    words = ["--start.optimiser"] if optimiser else []
    state, best = begun(monkeypatch, "--from", str(parent.folder), "--runs.name=child", *words), best_of(parent)
    run = Path(capsys.readouterr().out.splitlines()[-1])
    assert sums(state.params) == sums(best.params)
    assert sums(state.batch_stats) == sums(best.batch_stats)
    assert (sums(state.opt_state) == sums(best.opt_state)) == optimiser
    assert int(state.step) == 0
    if not optimiser:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    record = read_record(run)[1]
    assert record.parent_run_id == parent.folder.name
    assert f"parent {parent.folder.name}" in (run / "summary.txt").read_text()
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.read_meta(checkpoints.numbers()[-1]).parent_run_id == parent.folder.name
    assert app.main(["lineage", str(parent.folder), str(run)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{parent.folder.name}: finished")
    assert second.startswith(f"└── {run.name}: finished")
    assert " in all" in second


def test_a_child_may_have_another_precision_and_rate(parent, monkeypatch):
    words = ["--precision.policy=float16", "--optimiser.learning-rate=1e-4", "--degradation.n-noise=3"]
    state, best = begun(monkeypatch, "--from", str(parent.folder), *words, "--start.optimiser"), best_of(parent)
    assert sums(state.params) == sums(jax.tree.map(lambda leaf: leaf.astype("float16"), best.params))
    assert sums(state.opt_state) == sums(best.opt_state)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.autoencoder.latent=5"], ("its model does not fit", "the settings need float32[")),
        (["--detector.n-x=13", "--data.path=new", "--data.simulate.events=60"], ("(12, 16, 40)", "(13, 16, 40)")),
        (["--from"], ("train: --from needs a value",)),
        (["--from", "none"], ("none: no such run",)),
    ],
)
def test_what_does_not_fit_is_named_and_makes_no_run(parent, capsys, words, said):
    before = set(Path("runs").iterdir())
    source = [] if "--from" in words else ["--from", str(parent.folder)]
    assert app.main(["train", *source, *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(part in line for part in said), line
    assert set(Path("runs").iterdir()) == before


def test_a_child_does_not_inherit_how_its_parent_started(parent, monkeypatch, capsys):
    """The optimiser of the grandparent was asked for there, not here."""
    begun(monkeypatch, "--from", str(parent.folder), "--start.optimiser")
    run = capsys.readouterr().out.splitlines()[-1]
    state = begun(monkeypatch, "--from", run)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    child = read_record(capsys.readouterr().out.splitlines()[-1])[1]
    assert child.parent_run_id == Path(run).name


def test_a_child_in_float32_of_a_parent_in_float64_computes_as_any_other(tmp_path, folder):
    """In processes of their own: 64-bit numbers are switched on for good, and only where they are asked for."""
    (tmp_path / "d").symlink_to(folder / "d")
    (tmp_path / "a.toml").write_text(RECIPE)

    def train(*words):
        """The run, and whether 64-bit numbers were on at its end."""
        code = "import sys, jax; from tofae_jax.cli import app; code = app.main(sys.argv[1:]); "
        done = subprocess.run(
            [sys.executable, "-c", f"{code} print(jax.config.jax_enable_x64); sys.exit(code)", "train", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-2:]

    epochs = "--train.epochs=1"
    run, is_wide = train("--config", "a.toml", "--precision.policy=float64", epochs)
    assert is_wide == "True"
    child, is_wide = train("--from", run, "--precision.policy=float32", "--start.optimiser", epochs)
    assert read_record(child)[1].results["precision"] == "float32"
    assert load_run(child).epoch == 1  # dtypes fit, here without 64-bit numbers
    assert is_wide == "False"  # or a resumed child would compute otherwise
