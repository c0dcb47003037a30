"""Nonsense in files of JSON and TOML: one line that names the file, exit code 2, and neighbours are not affected."""

import contextlib
import copy
import json
import random
import shutil

import pytest
from made_runs import epoch_record, make_run
from sealing import reseal

from tofae_jax.cli import app
from tofae_jax.config import Config, ConfigError, read_toml
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.pretrained import packaged_model
from tofae_jax.runs.history import encoded_epoch, read_history
from tofae_jax.runs.record import read_record

NONSENSE = (None, True, -5, 0, 5, 10**30, 2.5, "nonsense", "\0", "\x1b[31m", [], {}, [None], {"": None}, [[[]]])
DEEP = b"[" * 100_000
FILES = (
    DEEP,
    b"",
    b"\0",
    b"{",
    b'{"a\xff": 1}',
    b"[1]",
    b"null",
    b"3",
    b'{"schema_version": 1' + b"0" * 5000 + b"}",
    b"{}",
)
POINT = {"score_threshold": 0.5, "tof_tolerance_ns": None}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch, untyped):
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    """Exit code, stdout and lines of stderr of a command."""
    code = app.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err.splitlines()


def places(tree, path=()):
    """Yield the path of every value of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(tree, path, value):
    """A copy of a tree with another value at a path; `del` takes the value away."""
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if value is del_:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return tree


del_ = object()


def some_changes(tree, n, seed):
    """Trees that differ from this one in a random value."""
    rng = random.Random(seed)
    paths = list(places(tree))
    for _ in range(n):
        path, value = rng.choice(paths), rng.choice((*NONSENSE, del_))
        yield path, value, changed(tree, path, value)


def refused_or_read(read, path, what):
    """Read a file, which must work, or raise one line that names it."""
    try:
        return read()
    except ValueError as error:
        assert str(path) in str(error), what
        assert "\n" not in str(error), what
        return None


@pytest.mark.parametrize(("seed", "n"), [(0, 8), pytest.param(1, 200, marks=pytest.mark.slow)])
def test_run_record_nonsense_in_any_place_is_named_or_told(capsys, tmp_path, seed, n):
    paths = make_run(tmp_path / "runs/a", with_plots=False)
    tree = json.loads(paths.record.read_text())
    tree["results"]["operating_point"] = POINT
    for path, value, other in some_changes(tree, n, seed):
        try:
            reseal(paths.record, other)
        except TypeError:  # a number of more than 64 bits has no checksum
            paths.record.write_text(json.dumps(other))
        what = (path, value)
        known = refused_or_read(lambda: read_record(paths.folder), paths.record, what)
        code, _, lines = run(capsys, "report", paths.folder, "--plots", "none", "--overwrite")
        assert (code, len(lines)) in ((0, 0), (2, 1)) or (known and code == 0), (what, lines)
        assert (code == 0) == (known is not None), (what, lines)
        code, _, lines = run(capsys, "lineage", paths.folder)
        assert code == 0 or (code == 2 and len(lines) == 1), (what, lines)


@pytest.mark.parametrize("content", FILES)
def test_any_document_of_nonsense_is_one_line(capsys, tmp_path, content, monkeypatch):
    paths = make_run(tmp_path / "runs/a", with_plots=False)
    simulated_dataset(tmp_path / "d", detector=Detector(n_x=8, n_y=8, n_t=10), weights={"v": 1}, n_events=4, seed=1)
    shutil.copytree(packaged_model.FOLDER / "lhcb_torch", tmp_path / "models/lhcb_torch")
    monkeypatch.setattr(packaged_model, "FOLDER", tmp_path / "models")
    for file, words in (
        (paths.record, ["lineage", paths.folder]),
        (paths.record, ["evaluate", paths.folder]),
        (tmp_path / "d/dataset.json", ["inspect", "d", "--plots", "none"]),
        (tmp_path / "models/lhcb_torch/model.json", ["evaluate", "--model", "lhcb_torch", "--data", "d"]),
        (tmp_path / "r.toml", ["train", "--config", tmp_path / "r.toml"]),
    ):
        if file.suffix == ".toml" and content in (b"", b"[1]"):
            continue  # no settings, a table of the name 1
        file.write_bytes(content)
        code, out, lines = run(capsys, *words)
        assert (code, out, len(lines)) == (2, "", 1), (words, lines)
        assert file.name in lines[0], lines


@pytest.mark.parametrize("version", [0, -5, True, 99, None, "1", 1.0, 10**30])
@pytest.mark.parametrize("file", ["runs/a/run.json", "d/dataset.json", "runs/a/timeline.json"])
def test_schema_version_nonsense_is_named(capsys, tmp_path, file, version):
    make_run(tmp_path / "runs/a")
    simulated_dataset(tmp_path / "d", detector=Detector(n_x=8, n_y=8, n_t=10), weights={"v": 1}, n_events=4, seed=1)
    tree = json.loads((tmp_path / file).read_text()) | {"schema_version": version}
    if version == 10**30:
        (tmp_path / file).write_text(json.dumps(tree))
    else:
        reseal(tmp_path / file, tree)
    words = ["inspect", "d", "--plots", "none"] if file.startswith("d") else ["report", "runs/a", "--plots", "none"]
    code, _, lines = run(capsys, *words)
    assert code == (0 if "timeline" in file else 2)
    assert any(file in line for line in lines), lines


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"score_threshold": 5, "tof_tolerance_ns": None}, "score_threshold"),
        ({"score_threshold": "high", "tof_tolerance_ns": None}, "score_threshold"),
        ({"score_threshold": 0.5}, "tof_tolerance_ns"),
        ([], "operating_point"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "lineage", "report"])
def test_operating_point_nonsense_is_named(capsys, tmp_path, value, part, command):
    paths = make_run(tmp_path / "runs/a", with_plots=False)
    tree = json.loads(paths.record.read_text())
    tree["results"]["operating_point"] = value
    reseal(paths.record, tree)
    code, _, lines = run(capsys, command, paths.folder)
    assert code == 2 and len(lines) == 1
    assert str(paths.record) in lines[0] and part in lines[0]


def test_neighbours_that_cannot_be_read_are_left_out_and_named(capsys, tmp_path):
    make_run(tmp_path / "runs/good", with_plots=False)
    bad = make_run(tmp_path / "runs/bad", with_plots=False)
    bad.record.write_bytes(DEEP)
    code, out, lines = run(capsys, "lineage", "runs")
    assert code == 0 and "good" in out and "bad" not in out
    assert len(lines) == 1 and str(bad.record) in lines[0] and lines[0].endswith("left out")
    code, _, lines = run(capsys, "report", "runs", "--plots", "none", "--out", "all.html")
    assert code == 0 and (tmp_path / "all.html").is_file()
    code, _, lines = run(capsys, "lineage", "runs/bad")
    assert code == 2 and len(lines) == 1
    shutil.rmtree(tmp_path / "runs/good")
    code, _, lines = run(capsys, "lineage", "runs")
    assert code == 2 and len(lines) == 1


def test_history_nonsense_in_any_place_is_named_or_told(capsys, tmp_path):
    paths = make_run(tmp_path / "runs/a", with_plots=False)
    tree = epoch_record(1)
    for path, value, other in some_changes(tree, 25, 0):
        try:
            paths.metrics.write_text(encoded_epoch(other))
        except TypeError:
            paths.metrics.write_text(json.dumps(other) + "\n")
        refused_or_read(lambda: read_history(paths.metrics), paths.metrics, (path, value))
        code, _, _ = run(capsys, "report", paths.folder, "--plots", "none", "--overwrite")
        assert code == 0, (path, value)


def test_dataset_nonsense_in_any_place_is_named_or_used(tmp_path):
    file = tmp_path / "d/dataset.json"
    simulated_dataset(file.parent, detector=Detector(n_x=8, n_y=8, n_t=10), weights={"v": 1}, n_events=4, seed=1)
    found = []
    for path, value, other in some_changes(json.loads(file.read_text()), 80, 0):
        try:
            reseal(file, other)
        except TypeError:
            file.write_text(json.dumps(other))
        found.append(refused_or_read(lambda: Dataset(file.parent), file.parent, (path, value)))
    assert found.count(None) > 20  # what the types and counts do not allow


def test_packaged_model_nonsense_in_any_place_is_named(tmp_path, monkeypatch):
    shutil.copytree(packaged_model.FOLDER / "lhcb_torch", tmp_path / "lhcb_torch")
    monkeypatch.setattr(packaged_model, "FOLDER", tmp_path)

    class BuiltError(Exception):
        pass

    def build(config):
        raise BuiltError  # the settings are allowed: no need to go on

    monkeypatch.setattr(packaged_model, "build_run", build)
    file = tmp_path / "lhcb_torch/model.json"
    n_named = 0
    for path, value, other in some_changes(json.loads(file.read_text()), 80, 0):
        file.write_text(json.dumps(other))
        with contextlib.suppress(BuiltError):
            n_named += refused_or_read(lambda: packaged_model.load_packaged("lhcb_torch"), file, (path, value)) is None
    assert n_named > 20  # what the types do not allow


def test_recipe_nonsense_in_any_place_is_named(tmp_path):
    file = tmp_path / "r.toml"
    for value in (
        "10000000000000000000000",
        "[[[[]]]]",
        "true",
        '"x"',
        "-5",
        "1e400",
        "nan",
        '"\\u0000"',
        "{a = 1}",
        "1979-05-27",
    ):
        for key in (
            "seed",
            "train.epochs",
            "train",
            "data.path",
            "plugins",
            "schedules",
            '"\\u001b[31m"',
            "detector.n_x",
        ):
            file.write_text(f"{key} = {value}\n")
            try:
                read_toml(file, Config)
            except ConfigError as error:
                assert str(file) in str(error)
                assert "\n" not in str(error)
