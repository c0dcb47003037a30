"""The predecessor's checkpoints as runs: the same numbers, every array, nothing executed, nothing half made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from places import REFERENCE, ROOT
from predecessor_files import (
    SCRIPT,
    SMALL,
    Called,
    Tensor,
    checkpoint_tree,
    small_tree,
    small_weights,
    with_array,
    without,
    write_pth,
)

from tofae_jax.cli import app
from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.files.predecessor_checkpoint import read_predecessor_checkpoint
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.data.storage import atomic
from tofae_jax.data.storage.checksum import file_checksum
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.import_predecessor import predecessor_run
from tofae_jax.engine.load import load_run
from tofae_jax.models.predecessor_weights import predecessor_shapes, variables_from_predecessor
from tofae_jax.runs import environment as environment_module
from tofae_jax.runs import folder as folder_module
from tofae_jax.runs import record as runs
from tofae_jax.runs.folder import RunError, RunPaths
from tofae_jax.runs.record import read_record

pytestmark = pytest.mark.slow

ON_SMALL = ["--detector.n-x", "8", "--detector.n-y", "16", "--detector.n-t", "40"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `small.pth`, its run `small`, made by command, and a dataset `d`."""
    path = tmp_path_factory.mktemp("predecessor")
    write_pth(path / "small_epoch_3.pth", small_tree())
    simulated_dataset(path / "d", detector=SMALL, weights={"v": 1}, n_events=40, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert app.main(["convert", "small_epoch_3.pth", "small", *ON_SMALL]) == 0
    return path


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def refused(capsys, *words):
    """The one line that a bad command gives; nothing is left behind."""
    before = sorted(Path().rglob("*"))
    assert app.main(["convert", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sorted(Path().rglob("*")) == before
    (line,) = said.err.strip().splitlines()
    return line


def assert_same_arrays(found, expected):
    """Every array bit for bit, by the same names."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def reference_run(tmp_path_factory):
    """The run of a checkpoint with the reference weights, of the reference's own threshold 0.25."""
    data = np.load(REFERENCE / "autoencoder.npz")
    weights = {key.removeprefix("weight|"): data[key] for key in data if key.startswith("weight|")}
    weights = {name: array for name, array in weights.items() if "num_batches_tracked" not in name}
    path = tmp_path_factory.mktemp("reference")
    file = write_pth(path / "c.pth", checkpoint_tree(weights, latent=8, fc=16, reconstruction_threshold=0.25))
    checkpoint = read_predecessor_checkpoint(file)
    assert checkpoint is not None
    predecessor_run(checkpoint, path / "run", detector=Detector())
    return data, weights, load_run(path / "run")


def reference_hits(data):
    """The hits of the reference's input, and its output, per event."""
    found = []
    for image, output in zip(data["input"][:, 0].astype(float), data["output_eval"][:, 0], strict=True):
        y, x = np.nonzero(image)
        t = (image[y, x] - 0.25) / 0.75 * 1000
        np.testing.assert_allclose(t, np.round(t), atol=1e-3)
        found.append((np.stack([x, y, np.round(t)], axis=1).astype(np.int16), output[y, x]))
    return found


def as_events(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return Events(np.concatenate(lists), offsets, {}, {"event": np.arange(len(lists))})


def test_the_shapes_are_those_of_the_predecessors_own_arrays(reference_run):
    _, weights, _ = reference_run
    shapes = predecessor_shapes(n_y=128, n_x=88, latent=8, fc=16)
    assert {name: array.shape for name, array in weights.items()} == shapes


@pytest.mark.slow
def test_every_array_and_every_output_is_that_of_the_predecessor(reference_run):
    """The sample checkpoint, too large to be kept here, holds these very arrays, bit for bit; ours is written anew."""
    data, weights, run = reference_run
    assert_same_arrays(run.variables, variables_from_predecessor(weights, n_y=128, n_x=88))
    output = jax.jit(run.setup.model.apply)(run.variables, jnp.asarray(data["input"][:, 0])).image
    np.testing.assert_allclose(output, data["output_eval"][:, 0], atol=1e-6)
    params = dict(run.variables["params"])  # the negative control
    params["decode_2"] = params["decode_2"] | {"kernel": params["decode_2"]["kernel"][:, ::-1]}
    other = jax.jit(run.setup.model.apply)(run.variables | {"params": params}, jnp.asarray(data["input"][:, 0])).image
    assert np.max(np.abs(other - data["output_eval"][:, 0])) > 1e-4


@pytest.mark.slow
def test_denoise_gives_the_predecessors_output_at_every_hit(reference_run, tmp_path, capsys):
    data, _, run = reference_run
    hits, outputs = zip(*reference_hits(data), strict=True)
    write_dataset(tmp_path / "d", [as_events(hits)], detector=Detector(), provenance={})
    words = [str(run.paths.folder), str(tmp_path / "d"), str(tmp_path / "out.npz")]
    assert app.main(["denoise", *words, "--all-hits"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["run"], report["epoch"], report["events"]) == ("run", 0, 6)
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(found["score"], np.concatenate(outputs), atol=1e-6)
    assert np.all(found["kept"])  # all outputs lie about 0.48, above the threshold


@pytest.mark.slow
def test_evaluate_gives_the_predecessors_output_at_every_hit(reference_run, tmp_path, capsys):
    data, _, run = reference_run
    # a pattern may have as many hits as data.max_hits
    hits, outputs = zip(*[pair for pair in reference_hits(data) if len(pair[0]) <= 512], strict=True)
    write_dataset(tmp_path / "d", [as_events(hits)], detector=Detector(), provenance={})
    words = ["--data", str(tmp_path / "d"), "--signal", "512", "--noise", "0", "--save-hits", str(tmp_path / "h.npz")]
    assert app.main(["evaluate", str(run.paths.folder), *words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["epoch"], result["split"]) == ("run", 0, "all")
    assert np.isfinite(result["loss"])
    found = np.load(tmp_path / "h.npz")
    expected = {}
    for event, (of_event, scores) in enumerate(zip(hits, outputs, strict=True)):
        expected |= {(event, x, y): score for (x, y, _), score in zip(of_event.tolist(), scores, strict=True)}
    keys = list(zip(*(found[name].tolist() for name in ("event", "x", "y")), strict=True))
    assert sorted(keys) == sorted(expected)
    np.testing.assert_allclose(found["score"], [expected[key] for key in keys], atol=1e-6)


@pytest.mark.backlog("B20", "B21", "B31")
def test_the_run_says_what_it_is_and_where_it_comes_from():
    checksum = file_checksum(Path("small_epoch_3.pth"))
    paths, record = read_record("small")
    assert (record.status, record.run_id, record.parent_run_id) == ("finished", "small", None)
    assert record.reason == f"converted from small_epoch_3.pth, SHA-256 {checksum}"
    provenance = record.data["provenance"]
    assert (provenance["converted_from"], provenance["sha256"]) == ("small_epoch_3.pth", checksum)
    assert provenance["left_out"] == ["optimizer_state_dict", "autoencoder_py_file_script"]
    assert record.versions == environment_module.versions()
    config = runs.settings_of("small")
    assert config.detector == SMALL
    assert (config.model.name, config.model.autoencoder.latent, config.model.autoencoder.fc) == ("autoencoder", 2, 4)
    assert (config.normalisation.name, config.normalisation.threshold) == ("gapped", 0.5)
    assert config.precision.policy == "float32"
    with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
        (number,) = checkpoints.numbers()
        meta = checkpoints.read_meta(number)
    assert (meta.run_id, meta.epoch, meta.step, meta.model_name) == ("small", 3, 0, "autoencoder")
    assert meta.config == record.config
    run = load_run("small")
    assert run.epoch == 3
    assert_same_arrays(run.variables, variables_from_predecessor(small_weights(), n_y=SMALL.n_y, n_x=SMALL.n_x))


@pytest.mark.backlog("B21")
def test_the_program_in_the_file_is_nowhere_in_the_run():
    assert SCRIPT.encode() in Path("small_epoch_3.pth").read_bytes()
    files = [path for path in Path("small").rglob("*") if path.is_file()]
    assert Path("small/run.json") in files
    for path in files:
        assert SCRIPT.encode() not in path.read_bytes(), path
        assert b"was run" not in path.read_bytes(), path


@pytest.mark.backlog("B21")
@pytest.mark.parametrize("name", ["hostile.pth", "hostile.pt", "hostile"])
def test_a_file_that_asks_to_run_something_is_refused(capsys, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    write_pth(Path(name), small_tree() | {"epoch": Called("os", "system", "touch canary")})
    line = refused(capsys, name, "out", *ON_SMALL)
    assert f"{name}: holds an object of a program ('os.system'), which is not run" in line


def test_evaluate_asks_for_data_as_the_run_has_none(capsys):
    assert app.main(["evaluate", "small"]) == 2
    assert "name one with --data" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.backlog("B41")
def test_another_run_starts_from_it_and_lineage_shows_both(capsys, tmp_path):
    words = ["--data.path", "d", "--train.epochs", "1", "--train.batch", "16", "--train.plots", "none"]
    words += ["--degradation.n-signal", "3", "--degradation.n-noise", "4", "--data.max-hits", "16"]
    words += ["--optimiser.learning-rate", "1e-9", "--tracking.no-tensorboard", "--runs.folder", str(tmp_path)]
    words += ["--data.validation-share", "0", "--data.test-share", "0"]
    assert app.main(["train", "--from", "small", *words]) == 0
    child = capsys.readouterr().out.strip().splitlines()[-1]
    assert read_record(child)[1].parent_run_id == "small"
    for name, array in load_run("small").variables["params"]["latent"].items():
        np.testing.assert_allclose(load_run(child).variables["params"]["latent"][name], array, atol=1e-6)
    assert app.main(["lineage", "small", child]) == 0
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("small: finished; 3 epochs, best 3; 0 s")
    assert second.strip(" └─").startswith(Path(child).name)


def test_training_it_on_without_its_data_is_refused(capsys):
    assert app.main(["train", "--resume", "small", "--data.path", "d", "--train.epochs", "20"]) == 2
    assert "not the dataset that run small was trained on" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "dtype"), [(16, np.float16), (32, np.float32)])
def test_the_precision_is_that_of_the_file(tmp_path, bits, dtype):
    path = write_pth(tmp_path / "c.pth", small_tree(dtype, precision=bits))
    checkpoint = read_predecessor_checkpoint(path)
    assert checkpoint is not None
    predecessor_run(checkpoint, tmp_path / "run", detector=SMALL)
    run = load_run(tmp_path / "run")
    assert run.setup.policy.name == np.dtype(dtype).name
    expected = variables_from_predecessor(small_weights(dtype), n_y=SMALL.n_y, n_x=SMALL.n_x)
    expected["batch_stats"] = jax.tree.map(lambda leaf: leaf.astype(np.float32), expected["batch_stats"])
    assert_same_arrays(run.variables, expected)


@pytest.mark.slow
def test_float64_from_the_command_line(tmp_path):
    """In a process of its own: 64-bit numbers are switched on for good."""
    write_pth(tmp_path / "c.pth", small_tree(np.float64, precision=64))
    command = [sys.executable, "-m", "tofae_jax", "convert", "c.pth", "run", *ON_SMALL]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        meta = checkpoints.read_meta(0)
    assert meta.precision == "float64"
    kinds = {kind.partition("[")[0] for name, kind in meta.checksums.items() if name.startswith("['model']")}
    assert kinds == {"float64"}


BAD = {
    **{
        f"no {name}": (lambda tree, name=name: without(tree, name), [f"lacks {name};"])
        for name in ("encoder_state_dict", "decoder_state_dict", "latent_dim", "fc_input_dim", "precision")
    },
    "no array": (
        lambda tree: without(tree, "decoder_state_dict", "decoder_lin.3.bias"),
        ["lacks array 'decoder_lin.3.bias'"],
    ),
    "another shape": (
        lambda tree: with_array(tree, "encoder_state_dict", "encoder_lin.6.weight", Tensor(np.ones((4, 2), "f4"))),
        ["'encoder_lin.6.weight' has shape [4, 2]", "[2, 4] needed"],
    ),
    "another layer": (
        lambda tree: with_array(tree, "encoder_state_dict", "encoder_lin.9.weight", Tensor(np.ones(2, "f4"))),
        ["array 'encoder_lin.9.weight' is not one of the autoencoder's"],
    ),
    "text": (
        lambda tree: with_array(tree, "encoder_state_dict", "encoder_lin.6.bias", SCRIPT),
        ["'encoder_lin.6.bias' of encoder_state_dict is of type str"],
    ),
    "whole numbers": (
        lambda tree: with_array(tree, "encoder_state_dict", "encoder_lin.6.bias", Tensor(np.ones(2, "i8"))),
        ["'encoder_lin.6.bias' of encoder_state_dict is of int64"],
    ),
    "not finite": (
        lambda tree: with_array(tree, "decoder_state_dict", "decoder_cnn.6.bias", Tensor(np.full(1, np.nan, "f4"))),
        ["'decoder_cnn.6.bias' of decoder_state_dict has numbers that are not finite"],
    ),
    "too large": (
        lambda tree: with_array(
            tree | {"precision": 16}, "decoder_state_dict", "decoder_cnn.6.bias", Tensor(np.full(1, 1e6, "f4"))
        ),
        ["['params']['up_2']['bias'] has numbers too large for float16"],
    ),
    "numbered arrays": (
        lambda tree: tree | {"encoder_state_dict": {3: 4}},
        ["has a key of type int"],
    ),
    "list": (lambda tree: tree | {"encoder_state_dict": []}, ["encoder_state_dict is of type list"]),
    "other bits": (lambda tree: tree | {"precision": 8}, ["precision is 8; known are 16, 32, 64"]),
    "bits in words": (lambda tree: tree | {"precision": "float32"}, ["precision is of type str"]),
    "no latent": (lambda tree: tree | {"latent_dim": 0}, ["latent_dim is 0;", "from 1 to"]),
    "huge latent": (lambda tree: tree | {"latent_dim": 2**30}, ["latent = 1073741824: Expected `int` <= 65536"]),
    "endless fc": (lambda tree: tree | {"fc_input_dim": 10**5000}, ["fc_input_dim is of type int"]),
    "half fc": (lambda tree: tree | {"fc_input_dim": 4.5}, ["fc_input_dim is 4.5;"]),
    "epoch": (lambda tree: tree | {"epoch": -1}, ["epoch is -1;"]),
    "threshold": (lambda tree: tree | {"reconstruction_threshold": 1.0}, ["reconstruction_threshold is 1.0;"]),
}


@pytest.mark.backlog("B21")
@pytest.mark.parametrize(("change", "parts"), BAD.values(), ids=BAD)
def test_a_bad_checkpoint_is_refused_by_name(capsys, monkeypatch, tmp_path, change, parts):
    monkeypatch.chdir(tmp_path)
    write_pth(Path("bad.pth"), change(small_tree()))
    line = refused(capsys, "bad.pth", "out", *ON_SMALL)
    for part in ["bad.pth: ", *parts]:
        assert part in line
    assert "Traceback" not in line


def test_a_detector_that_does_not_fit_is_refused(capsys):
    line = refused(capsys, "small_epoch_3.pth", "out")
    assert "small_epoch_3.pth: array 'encoder_lin.0.weight' has shape [4, 64]; [4, 5632] needed" in line
    assert "n_y = 128, n_x = 88" in line
    assert "--detector.n-x" in line


def test_a_pth_file_has_to_be_a_checkpoint(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(REFERENCE / "small_bundle.pt", "bundle.pth")
    assert "bundle.pth: is no checkpoint of the predecessor: it lacks encoder_state_dict" in refused(
        capsys, "bundle.pth", "out"
    )
    assert "missing.pth: does not exist" in refused(capsys, "missing.pth", "out")
    Path("cut.pth").write_bytes(write_pth(Path("whole.pth"), small_tree()).read_bytes()[:3000])
    assert "cut.pth: cut or damaged" in refused(capsys, "cut.pth", "out")
    assert "has no named arrays" in refused(capsys, "whole.pth", "out", "--array", "x")


def test_a_bundle_still_becomes_a_dataset(capsys, tmp_path):
    shutil.copy(REFERENCE / "small_bundle.pt", tmp_path / "bundle.pt")
    assert app.main(["convert", str(tmp_path / "bundle.pt"), str(tmp_path / "out")]) == 0
    assert " events, " in capsys.readouterr().out
    assert (tmp_path / "out" / "dataset.json").is_file()


@pytest.mark.slow
def test_only_a_run_is_replaced_and_only_by_a_complete_one(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_pth(Path("first_epoch_1.pth"), small_tree())
    write_pth(Path("second_epoch_2.pth"), small_tree())
    assert app.main(["convert", "first_epoch_1.pth", "run", *ON_SMALL]) == 0
    capsys.readouterr()
    assert "run: exists already; give another name, or --overwrite" in refused(
        capsys, "second_epoch_2.pth", "run", *ON_SMALL
    )
    Path("mine").mkdir()
    assert refused(capsys, "second_epoch_2.pth", "mine", "--overwrite", *ON_SMALL).endswith("give another name")
    shutil.copy("second_epoch_2.pth", "run")
    assert "holds second_epoch_2.pth" in refused(capsys, "run/second_epoch_2.pth", "run", "--overwrite", *ON_SMALL)
    os.remove("run/second_epoch_2.pth")

    def fail(*_):
        raise OSError("the disk is full")

    checkpoint = read_predecessor_checkpoint(Path("second_epoch_2.pth"))
    assert checkpoint is not None
    before = sorted(Path().rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(runs, "write_record", fail)
        with pytest.raises(OSError, match="disk is full"):
            predecessor_run(checkpoint, "run", detector=SMALL, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "exchange", fail)
        with pytest.raises(RunError, match="run: cannot be written: the disk is full"):
            predecessor_run(checkpoint, "run", detector=SMALL, overwrite=True)
    assert [path for path in sorted(Path().rglob("*")) if path.name != ".lock"] == before
    assert load_run("run").epoch == 1
    with folder_module.locked(RunPaths("run")), pytest.raises(RunError, match="another process works on this run"):
        predecessor_run(checkpoint, "run", detector=SMALL, overwrite=True)
    assert app.main(["convert", "second_epoch_2.pth", "run", "--overwrite", *ON_SMALL]) == 0
    assert load_run("run").epoch == 2
    assert {path.name for path in Path().iterdir()} == {"first_epoch_1.pth", "second_epoch_2.pth", "mine", "run"}


def test_help_says_what_comes_out(capsys):
    with pytest.raises(SystemExit):
        app.main(["convert", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "of a checkpoint: run folder" in words
