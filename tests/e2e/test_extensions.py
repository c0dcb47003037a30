"""One extension of each kind: a new file and a line in a registry, in a copy of the package, used from end to end."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT
from small_run import config, folder, inside, programs  # noqa: F401 (fixtures)

from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.checkpoint_policy import CheckpointPolicy
from tofae_jax.engine.checkpoints import Checkpoints
from tofae_jax.engine.training.train import resume, train
from tofae_jax.runs.folder import RunError

LOSS = '''
"""A hinge loss."""
import jax
import jax.numpy as jnp
from tofae_jax.losses.reductions import mean


def toy_hinge(scores, is_signal, is_hit, *, signal_weight=1.0, margin=1.0, reduce="batch", event_axes=1):
    """Weighted hinge loss of hits."""
    z = jnp.where(is_hit, jnp.where(is_signal, scores, -scores), 0)
    loss = jnp.where(is_signal, signal_weight, 1.0) * jax.nn.relu(margin - z)
    return mean(loss, reduce, is_hit, event_axes=event_axes)
'''
LOSS_SECTION = '''
class ToyHingeConfig(Section, frozen=True):
    """settings of toy_hinge"""

    signal_weight: AutoWeight = 1.0
    """of signal hits"""
    margin: NonNegative = 1.0
    """scores beyond it cost nothing"""


'''
MODEL = '''
"""A network that scores each hit by itself."""
import flax.linen as nn
import jax.numpy as jnp
from tofae_jax.models.interface import Output


class ToyModel(nn.Module, kw_only=True):
    hidden: int

    @nn.compact
    def __call__(self, x, train=False):
        y = nn.relu(nn.Dense(self.hidden)(x.hits.astype(jnp.float32) / 16))
        return Output(hit_logits=nn.Dense(1)(y)[..., 0])
'''
MODEL_SECTION = '''
class ToyModelConfig(Section, frozen=True):
    """sizes of toy_model"""

    hidden: PositiveCount = 8
    """hidden features per hit"""


'''
PROFILE = '''

def toy_diagonal(draws, sites, shape_xyt, settings):
    """Place hits along the diagonal of the detector."""
    return jnp.stack([_uniform_cell(draws.x, n) for n in shape_xyt], -1)
'''
FORMAT = '''
"""A line of text per hit: event x y t."""
import numpy as np
from tofae_jax.data.events import Events, offsets_from_counts
from tofae_jax.data.files.format import Format, FormatWriter


def _read(request):
    rows = np.loadtxt(request.path, np.int64, ndmin=2)
    number, counts = np.unique(rows[:, 0], return_counts=True)
    yield Events(rows[:, 1:].astype(np.int16), offsets_from_counts(counts), {}, {"event": number})


class _Writer(FormatWriter):
    def write(self, rows):
        with self.path.open("a") as file:
            np.savetxt(file, np.column_stack([rows.hit[name] for name in ("event", *"xyt")]), "%d")


FORMAT = Format(
    (".toy",), "toy", read=_read, writer=_Writer, arrangements=("rows",), is_lossless=False
)
'''
COMMAND = '''
"""The command `count`."""
from typing import Annotated
from tyro.conf import Positional, arg
from tofae_jax.cli.options import parse
from tofae_jax.config.types import Section


class Options(Section, frozen=True):
    """count the events of a dataset"""

    dataset: Annotated[Positional[str], arg(metavar="DATASET")]
    """dataset folder"""


def run(argv):
    """Print the number of events."""
    from tofae_jax.data.dataset import Dataset
    print(len(Dataset(parse(Options, argv, command="count").dataset)))
'''


def insert(file, before, text):
    """Put text before the only place where `before` stands."""
    content = file.read_text()
    assert content.count(before) == 1, (file, before)
    file.write_text(content.replace(before, text + before))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A folder with a copy of the package that has one extension of each kind, and a dataset."""
    place = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "tofae_jax", place / "tofae_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", place / "configs")
    package = place / "tofae_jax"
    (package / "losses" / "toy.py").write_text(LOSS)
    insert(
        package / "losses" / "registry.py", "from tofae_jax.losses.projections", "from tofae_jax.losses.toy import *\n"
    )
    auto = '{"signal_weight": ("noise", "signal")}'
    line = f'LOSSES["toy_hinge"] = Loss(toy_hinge, ("signal_weight", "margin"), takes="hits", auto={auto})\n'
    insert(package / "losses" / "registry.py", "def loss_by_name(", line)
    insert(package / "config" / "losses.py", "class LossSections(", LOSS_SECTION)
    insert(package / "config" / "losses.py", "\n\nLOSS_NAMES =", "    toy_hinge: ToyHingeConfig = ToyHingeConfig()\n")
    (package / "models" / "toy.py").write_text(MODEL)
    insert(package / "models" / "registry.py", "from tofae_jax.models.unet", "from tofae_jax.models.toy import *\n")
    line = 'MODELS["toy_model"] = ModelKind(ToyModel, inputs="hits", outputs=("hits",))\n\n\n'
    insert(package / "models" / "registry.py", "def build_model(", line)
    insert(package / "config" / "models.py", "class ModelSections(", MODEL_SECTION)
    insert(package / "config" / "models.py", "\n\nMODEL_NAMES =", "    toy_model: ToyModelConfig = ToyModelConfig()\n")
    insert(package / "core" / "noise.py", '\n\nBACKGROUND = "data"', PROFILE)
    insert(package / "core" / "noise.py", '}\n"""every noise profile', '    "toy_diagonal": toy_diagonal,\n')
    field = '    toy_diagonal: NonNegative = 0.0\n    """share of noise along the diagonal"""\n'
    insert(package / "config" / "degradation.py", "\n    @property\n    def shares", field)
    (package / "data" / "files" / "format_toy.py").write_text(FORMAT)
    insert(package / "data" / "files" / "registry.py", '    "format_npz",', '    "format_toy",\n')
    (package / "cli" / "count.py").write_text(COMMAND)
    insert(package / "cli" / "app.py", '    "convert",', '    "count",\n')
    detector = Detector(n_x=12, n_y=16, n_t=40)
    simulated_dataset(place / "d", detector=detector, weights={"v": 1}, n_events=60, seed=1)
    return place


def run(place, *words):
    """Run `python -m tofae_jax` of the copy; returns what it printed on stdout."""
    environment = os.environ | {"PYTHONPATH": str(place), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "tofae_jax", *words]
    answer = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


SMALL = ["--detector.n-x", "12", "--detector.n-y", "16", "--detector.n-t", "40"]


@pytest.fixture(scope="module")
def trained(extended):
    """The record of a training with the new loss, model and noise profile."""
    words = ["--data.path", "d", "--model.name", "toy_model", "--loss.name", "toy_hinge", "--train.plots", "none"]
    words += ["--loss.toy-hinge.signal-weight", "auto", "--degradation.noise.toy-diagonal", "1"]
    words += ["--train.epochs", "1", "--train.batch", "8", "--degradation.noise.uniform", "0", *SMALL]
    last = run(extended, "train", *words, "--degradation.n-noise", "20").strip().splitlines()[-1]
    return json.loads((extended / last / "run.json").read_text())


@pytest.mark.slow
def test_new_loss_trains_with_automatic_weights(trained):
    assert trained["config"]["loss"]["name"] == "toy_hinge"
    (weight,) = trained["data"]["automatic_weights"].values()
    assert trained["config"]["loss"]["toy_hinge"]["signal_weight"] == weight > 0
    assert np.isfinite(trained["results"]["test"]["loss"])


@pytest.mark.slow
def test_new_model_trains_with_the_sizes_of_its_section(trained):
    assert trained["config"]["model"]["toy_model"] == {"hidden": 8}
    assert trained["results"]["parameters"] == 3 * 8 + 8 + 8 + 1


@pytest.mark.slow
def test_new_noise_profile_makes_the_noise_of_a_run(trained, extended):
    (name,) = [path.name for path in (extended / "runs").iterdir()]
    run(extended, "evaluate", f"runs/{name}", "--save-hits", "hits.csv", "--overwrite")
    names, *rows = [line.split(",") for line in (extended / "hits.csv").read_text().splitlines()]
    columns = dict(zip(names, np.array(rows).T, strict=True))
    noise = columns["is_signal"].astype(float) == 0
    x, y, t = (columns[axis][noise].astype(int) for axis in "xyt")
    assert len(x) > 100
    np.testing.assert_allclose((x + 0.5) / 12, (y + 0.5) / 16, atol=0.1)
    np.testing.assert_allclose((x + 0.5) / 12, (t - 0.5) / 40, atol=0.1)


def test_new_format_is_written_read_and_named(extended):
    run(extended, "convert", "d", "hits.toy")
    run(extended, "convert", "hits.toy", "e", *SMALL)
    for name in ("d", "e"):
        run(extended, "convert", name, f"{name}.csv")
    columns = [[line.split(",")[:4] for line in (extended / f"{name}.csv").read_text().splitlines()] for name in "de"]
    assert columns[0] == columns[1]
    assert ".toy" in run(extended, "convert", "--help")


def test_new_command_is_listed_and_runs(extended):
    assert "count the events of a dataset" in run(extended, "--help")
    assert run(extended, "count", "d").strip() == "60"


class EverySecondEpoch(CheckpointPolicy):
    """Save every second epoch; a lower loss is better."""

    def is_due(self, epoch, seconds):
        return epoch is not None and epoch % 2 == 0

    def score(self, record):
        return -record["validation"]["loss"]


@pytest.mark.slow
def test_new_checkpoint_policy_decides_what_is_saved():
    settings = config(train={"epochs": 5}, runs={"name": "policy"})
    paths, record = train(settings, checkpoints=EverySecondEpoch(keep=2, keep_best=1))
    with Checkpoints(paths.checkpoints, read_only=True) as checkpoints:
        epochs = {checkpoints.read_meta(number).epoch for number in checkpoints.numbers()}
    history = [json.loads(line)["validation"]["loss"] for line in paths.metrics.read_text().splitlines()]
    saved = [2, 4, 5]  # the last epoch is always saved
    best = min(saved, key=lambda epoch: history[epoch - 1])
    assert epochs == {4, 5, best}
    assert record.results["best_epoch"] == best
    assert json.loads(paths.record.read_text())["checkpoint_policy"].endswith("EverySecondEpoch")
    longer = config(train={"epochs": 6}, runs={"name": "policy"})
    with pytest.raises(RunError, match=r"saved by the checkpoint policy .*EverySecondEpoch; resume it with that"):
        resume(str(paths.folder), longer)
    _, record = resume(str(paths.folder), longer, checkpoints=EverySecondEpoch(keep=2, keep_best=1))
    assert record.results["epochs"] == 6
