"""Models and losses of another package, by the command line: `--plugin`, recipes and entry points."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from places import ROOT

from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset

PLUGIN = """
import flax.linen as nn
import jax.numpy as jnp
import tofae_jax


class OwnNet(nn.Module):
    width: int = 4
    kernel: tuple[int, int] = (3, 3)

    @nn.compact
    def __call__(self, image):
        x = nn.relu(nn.Conv(self.width, self.kernel)(image[..., None]))
        return nn.sigmoid(nn.Conv(1, self.kernel)(x)[..., 0])


def own_loss(output, target, *, hit_weight=2.0, power=2):
    weight = jnp.where(target > 0, hit_weight, 1.0)
    return jnp.mean(weight * jnp.abs(output - target) ** power)


tofae_jax.register_model("own_net", OwnNet)
tofae_jax.register_loss("own_loss", own_loss, auto={"hit_weight": ("zero", "hit")})
"""
SIZE = ("--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "40")
TRAIN = ("--data.path", "d", "--train.epochs", "1", "--train.batch", "8", "--train.plots", "none", *SIZE)
TRAIN += (
    "--optimiser.schedule",
    "constant",
    "--degradation.n-noise",
    "20",
    "--model.name",
    "own_net",
    "--loss.name",
    "own_loss",
)


def run(place, *words, path=(), code=0):
    """Run the command line; returns stdout, or stderr where it fails."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path))),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    answer = subprocess.run(
        [sys.executable, "-m", "tofae_jax", *words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == code, answer.stderr
    return answer.stderr if code else answer.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, and beside it one with the plugin."""
    path = tmp_path_factory.mktemp("plugins")
    (path / "lib" / "own_package").mkdir(parents=True)
    (path / "lib" / "own_package" / "__init__.py").write_text("")
    (path / "lib" / "own_package" / "parts.py").write_text(PLUGIN)
    (path / "work").mkdir()
    simulated_dataset(
        path / "work" / "d", detector=Detector(n_x=12, n_y=16, n_t=40), weights={"v": 1}, n_events=60, seed=1
    )
    return path


@pytest.fixture(scope="module")
def trained(place):
    """The last line of a training with the plugin: its run folder."""
    words = (*TRAIN, "--model.plugin", "width", "6", "--loss.plugin", "hit_weight", "auto")
    out = run(place / "work", "train", "--plugin", "own_package.parts", *words, path=[place / "lib"])
    return out.strip().splitlines()[-1]


@pytest.mark.slow
def test_plugin_is_named_by_the_run_with_all_its_settings(place, trained):
    config = json.loads((place / "work" / trained / "run.json").read_text())["config"]
    assert config["plugins"] == ["own_package.parts"]
    assert config["model"]["plugin"] == {"width": 6, "kernel": [3, 3]}
    assert config["loss"]["plugin"]["power"] == 2
    assert config["loss"]["plugin"]["hit_weight"] > 2  # automatic: zero pixels per hit pixel
    summary = (place / "work" / trained / "summary.txt").read_text()
    assert "own_net" in summary and "width" in summary


@pytest.mark.slow
def test_run_of_a_plugin_is_evaluated_resumed_and_denoises(place, trained):
    lib = [place / "lib"]
    result = json.loads(run(place / "work", "evaluate", trained, path=lib))
    assert 0 <= result["masked"]["f1"] <= 1
    counts = json.loads(run(place / "work", "denoise", trained, "d", "kept.csv", path=lib))
    assert counts["events"] == 60
    out = run(place / "work", "train", "--resume", trained, "--train.epochs", "2", path=lib)
    assert trained in out


@pytest.mark.slow
def test_run_asks_for_its_missing_plugin_by_name(place, trained):
    for words in (("evaluate", trained), ("denoise", trained, "d", "x.csv"), ("train", "--resume", trained)):
        error = run(place / "work", *words, code=2)
        assert "plugin 'own_package.parts' cannot be imported" in error
        assert "install it, or add its folder to PYTHONPATH" in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_entry_point_makes_a_name_known_without_plugin(place, tmp_path):
    lib = shutil.copytree(place / "lib", tmp_path / "lib")
    info = lib / "own_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
    points = "[tofae_jax.models]\nown_net = own_package.parts\n[tofae_jax.losses]\nown_loss = own_package.parts\n"
    (info / "entry_points.txt").write_text(points)
    name = run(place / "work", "train", *TRAIN, path=[lib]).strip().splitlines()[-1]
    assert json.loads((place / "work" / name / "run.json").read_text())["config"]["plugins"] == ["own_package.parts"]
    (lib / "own_package" / "parts.py").write_text("")
    error = run(place / "work", "train", *TRAIN, path=[lib], code=2)
    assert "plugin 'own_package.parts' announces model 'own_net', but does not register it" in error


@pytest.mark.slow
def test_recipe_lists_plugins_and_their_settings(place, tmp_path):
    (tmp_path / "own.toml").write_text(
        'plugins = ["own_package.parts"]\n[model]\nname = "own_net"\nplugin = {kernel = [5, 3]}\n'
        '[loss]\nname = "own_loss"\n[schedules."loss.plugin.hit_weight"]\nkind = "linear"\nstart = 1.0\nend = 3.0\n'
    )
    words = [word for word in TRAIN if word not in ("--model.name", "own_net", "--loss.name", "own_loss")]
    out = run(place / "work", "train", "--config", str(tmp_path / "own.toml"), *words, path=[place / "lib"])
    config = json.loads((place / "work" / out.strip().splitlines()[-1] / "run.json").read_text())["config"]
    assert config["model"]["plugin"] == {"width": 4, "kernel": [5, 3]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("--plugin", "no_such_package"),
            "plugin 'no_such_package' cannot be imported (ModuleNotFoundError: ",
        ),
        (("--plugin",), "train: --plugin needs a value"),
        (("--model.name", "own_nett"), "model.name = 'own_nett': allowed: autoencoder, hit_transformer"),
        (("--model.plugin", "width", "3"), "model.plugin: hit_transformer is no model of a plugin; its settings are"),
    ],
)
def test_train_mistakes_with_plugins_are_one_line(place, words, expected):
    error = run(place / "work", "train", *words, code=2)
    assert expected in error
    assert len(error.strip().splitlines()) == 1


def test_plugin_unknown_and_missing_settings_are_named(place):
    for words, expected in (
        (
            ("--model.name", "own_net", "--model.plugin", "depth", "3"),
            "own_net has no setting depth (known here: width",
        ),
        (
            ("--loss.name", "own_loss", "--loss.plugin", "x", "3"),
            "own_loss has no setting x (known here: hit_weight, power)",
        ),
    ):
        error = run(place / "work", "train", "--plugin", "own_package.parts", *words, path=[place / "lib"], code=2)
        assert expected in error
