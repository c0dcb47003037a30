"""Where runs cut on their scores: chosen on validation events, kept with the run, chosen anew by command."""

import json

import numpy as np
import pytest
from tiny import settings_from

from tofae_jax.cli import app
from tofae_jax.config import Config, from_tree
from tofae_jax.data.events import DataError
from tofae_jax.data.files.read import read_events
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.checkpoint_policy import checkpoint_policy
from tofae_jax.engine.checks import check_losses, check_run
from tofae_jax.engine.load import load_run
from tofae_jax.engine.operating_point import ThresholdChoice, with_thresholds
from tofae_jax.engine.training import train
from tofae_jax.metrics import ScoreSums, choose_operating_point, kept_counts
from tofae_jax.models import MODELS
from tofae_jax.runs.arrays import load_arrays
from tofae_jax.runs.folder import RunError
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

pytestmark = pytest.mark.slow

SIZES = {"width": 16, "hidden": 24, "layers": 2, "queries": 8, "value_width": 8, "event_width": 32, "frequencies": 12}
TREE = {
    "detector": {"n_x": 12, "n_y": 16, "n_t": 40},
    "data": {"path": "d", "max_hits": 24, "train_share": 0.7, "validation_share": 0.15, "test_share": 0.15},
    "degradation": {"n_signal": 8, "n_noise": [10, 20]},
    "optimiser": {"learning_rate": 3e-3},
    "train": {"epochs": 2, "batch": 16, "plots": "none"},
    "tracking": {"tensorboard": False},
}
OF_HITS = {"model": {"name": "hit_transformer", "hit_transformer": SIZES}, "loss": {"name": "hit_bce"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders by model: one that scores hits, and the autoencoder, both with a cut for the best F1."""
    folder = tmp_path_factory.mktemp("operating")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = settings_from(TREE)
        simulated_dataset(folder / "d", detector=config.detector, weights={"v": 1}, n_events=400, seed=1)
        found = {}
        for name, sections in {"hits": OF_HITS, "image": {"model": {"autoencoder": {"latent": 4, "fc": 16}}}}.items():
            paths, _ = train.train(settings_from(TREE | sections, mask={"choose": "f1"}))
            found[name] = paths.folder
        yield found


@pytest.fixture
def command(capsys):
    def run(*words, code=0):
        assert app.main(list(map(str, words))) == code
        said = capsys.readouterr()
        return said.out if code == 0 else said.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hits", "image"])
def test_the_cut_is_chosen_on_validation_events_and_used_from_then_on(runs, command, name):
    paths, record = read_record(runs[name])
    point = record.results["operating_point"]
    assert point["reached"]
    scores = load_arrays(paths.scores)
    assert scores["n_signal"] > 0
    config = load_run(runs[name]).setup.config
    assert config.mask.score_threshold == point["score_threshold"]
    assert config.mask.tof_tolerance_ns == point["tof_tolerance_ns"]
    result = json.loads(command("evaluate", runs[name]))
    assert result["masked"] == record.results["test"]["masked"]
    assert result["scores"] == record.results["test"]["scores"]
    assert result["outputs"] == record.results["test"]["outputs"]
    if name == "hits":
        assert result["outputs"]["threshold"] == pytest.approx(point["score_threshold"])
    validation = json.loads(command("evaluate", runs[name], "--score-threshold", 0.999))
    assert validation["masked"] != result["masked"]


def test_a_model_of_hits_sees_every_hit_and_shows_what_it_keeps(runs):
    _, record = read_record(runs["hits"])
    test = record.results["test"]
    assert test["input"]["efficiency"] == 1
    assert test["counts"]["occluded_hits"] > 0
    counted = test["outputs"]["above"] + test["outputs"]["below"]
    assert counted == test["counts"]["signal_hits"] + test["counts"]["noise_hits"]
    assert test["direct"]["f1"] == pytest.approx(test["masked"]["f1"], abs=0.05)  # both against the signal
    assert test["outputs"]["not_finite"] == 0


def test_training_tells_signal_from_noise(runs):
    _, record = read_record(runs["hits"])
    test = record.results["test"]
    share = test["counts"]["signal_hits"] / (test["counts"]["signal_hits"] + test["counts"]["noise_hits"])
    assert test["scores"]["average_precision"] > share + 0.05
    assert test["masked"]["f1"] > test["input"]["f1"]


@pytest.mark.slow
@pytest.mark.parametrize("aim", ["efficiency", "purity"])
def test_another_cut_is_chosen_by_command(runs, command, tmp_path, aim):
    out = tmp_path / "kept.npz"
    command("denoise", runs["hits"], runs["hits"].parent.parent / "d", out, "--keep", aim, "--wanted", 0.6)
    run = load_run(runs["hits"])
    config = with_thresholds(run.setup, run.paths.scores, ThresholdChoice(keep=aim, minimum=0.6), warn=[].append)
    scores = np.concatenate([part.hit_columns["score"] for part in read_events(out, detector=config.detector)])
    assert scores.min() > config.mask.score_threshold
    result = json.loads(command("evaluate", runs["hits"], "--keep", aim, "--wanted", 0.6, "--split", "validation"))
    # the same events with the same draws: what was counted is what is kept
    arrays = load_arrays(run.paths.scores)
    point = choose_operating_point(ScoreSums(*(arrays[name] for name in ScoreSums._fields)), aim=aim, minimum=0.6)
    for name in ("efficiency", "purity"):
        assert result["masked"][name] == pytest.approx(getattr(point, name), abs=1e-3)


@pytest.mark.slow
def test_the_kept_scores_are_those_of_the_validation_events(runs, command):
    run = load_run(runs["hits"])
    arrays = load_arrays(run.paths.scores)
    signal, _ = kept_counts(ScoreSums(*(arrays[name] for name in ScoreSums._fields)))
    result = json.loads(command("evaluate", runs["hits"], "--split", "validation", "--score-threshold", 0))
    assert result["masked"]["true_positives"] == arrays["signal"].sum() == arrays["n_signal"]
    assert signal.max() <= arrays["n_signal"]


@pytest.mark.slow
def test_impossible_wishes_are_named(runs, command, tmp_path):
    out = tmp_path / "x.npz"
    data = runs["hits"].parent.parent / "d"
    assert "wanted must be above 0" in command("denoise", runs["hits"], data, out, "--keep", "purity", code=2)
    assert "--wanted needs --keep" in command("denoise", runs["hits"], data, out, "--wanted", 0.5, code=2)
    assert "gives none" in command("denoise", runs["hits"], data, out, "--tof-tolerance-ns", 0.5, code=2)
    assert "score-threshold" in command("evaluate", runs["hits"], "--score-threshold", 1.5, code=2).replace("_", "-")
    for given in (("--score-threshold", 0.3), ("--tof-tolerance-ns", 1)):
        said = command("denoise", runs["image"], data, out, "--keep", "f1", *given, code=2)
        assert f"--keep chooses the cut, and {given[0]} gives it: leave one out" in said
    assert not out.exists()
    run = load_run(runs["hits"])
    paths = type(run.paths)(tmp_path)
    with pytest.raises(RunError, match=r"no scores\.npz to choose a cut by"):
        with_thresholds(run.setup, paths.scores, ThresholdChoice(keep="f1"), warn=[].append)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"choose": "purity"}, "wanted must be above 0 where choose is purity"),
        ({"choose": "f1", "wanted": 0.5}, "it means nothing there"),
        ({"choose": "nonsense"}, "allowed: none, f1, efficiency, purity"),
        ({"score_threshold": 2}, "<= 1"),
        ({"choose": "f1", "score_threshold": 0.9}, "mask.score_threshold is given, but mask.choose = 'f1' chooses it"),
        ({"choose": "f1", "tof_tolerance_ns": 1.0}, "mask.tof_tolerance_ns is given, but"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        check_run(from_tree(TREE | {"mask": mask}, Config, "test"))


def test_a_cut_cannot_be_chosen_without_validation_events(runs, command, monkeypatch):
    monkeypatch.chdir(runs["hits"].parent.parent)
    before = set(runs["hits"].parent.iterdir())
    shares = {"validation_share": 0.0, "train_share": 0.7, "test_share": 0.15}
    with pytest.raises(DataError, match=r"leave none for validation; mask\.choose = 'f1' needs some"):
        train.train(settings_from(TREE | OF_HITS | {"data": TREE["data"] | shares}, mask={"choose": "f1"}))
    assert set(runs["hits"].parent.iterdir()) == before


def test_the_best_epoch_is_judged_by_the_cut_that_it_could_have(runs):
    """Not by the cut at an even chance, which the run does not use in the end."""
    paths, record = read_record(runs["hits"])
    history = read_history(paths.metrics)
    assert checkpoint_policy(from_tree(record.config, Config, "run")).metric == "scores.best_f1"
    best = [epoch["validation"]["scores"]["best_f1"] for epoch in history]
    assert record.results["best_epoch"] == 1 + int(np.argmax(best))
    point = record.results["operating_point"]
    assert max(best) == pytest.approx(point["validation"]["f1"])
    assert checkpoint_policy(settings_from(TREE)).metric == "masked.f1"
    own = settings_from(TREE, mask={"choose": "f1"}, checkpoints={"metric": "loss"})
    assert checkpoint_policy(own).metric == "loss"


@pytest.mark.slow
def test_a_wish_that_no_cut_reaches_is_said(runs, capsys, tmp_path):
    """Signal that other hits occlude is lost whatever the cut."""
    data = runs["image"].parent.parent / "d"
    for words in (("evaluate", runs["image"]), ("denoise", runs["image"], data, tmp_path / "x.npz")):
        assert app.main([*map(str, words), "--keep", "efficiency", "--wanted", "1"]) == 0
        said = capsys.readouterr()
        assert "no cut reaches the wanted efficiency of 1.0: the nearest is taken" in said.err
        assert 0 <= json.loads(said.out)["score_threshold"] < 0.6


@pytest.mark.slow
def test_times_may_be_smeared_otherwise(runs, command):
    as_trained, smeared = (
        json.loads(command("evaluate", runs["hits"], *words)) for words in ((), ("--smear-t-ns", "0", "9"))
    )
    assert as_trained["smear_t_ns"] == 0 and smeared["smear_t_ns"] == [0, 9]
    assert smeared["counts"]["signal_hits"] < as_trained["counts"]["signal_hits"]  # some leave the window
    assert "smear_t_ns must be" in command("evaluate", runs["hits"], "--smear-t-ns", "2", "1", code=2)


@pytest.mark.slow
def test_a_loss_that_does_not_fit_lists_those_that_do(runs, command):
    said = command("train", "--model.name", "hit_transformer", "--loss.name", "acb_mse", code=2)
    assert "loss 'acb_mse' takes image, but the model gives hits; losses that fit: hit_bce, hit_focal" in said
    said = command("train", "--model.name", "autoencoder", "--loss.name", "hit_bce", code=2)
    assert "takes hits, but the model gives image" in said
    words = (
        "--model.name",
        "hit_transformer",
        "--loss.name",
        "hit_bce",
        "--mask.tof-tolerance-ns",
        "1",
        "--mask.choose",
        "none",
    )
    assert "mask.tof_tolerance_ns compares times" in command("train", *words, code=2)


def test_the_unet_is_not_given_times_that_it_cannot_read():
    config = settings_from(TREE, model={"name": "unet"}, loss={"name": "hit_bce"}, normalisation={"name": "none"})
    with pytest.raises(ValueError, match="unet reads times as fractions of the window"):
        check_losses(config)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_the_losses_of_what_it_gives_alone(name):
    for loss, takes in (("acb_mse", "image"), ("hit_bce", "hits")):
        config = settings_from(TREE, model={"name": name}, loss={"name": loss})
        if takes in MODELS[name].outputs:
            check_losses(config)
        else:
            with pytest.raises(ValueError, match=f"loss '{loss}' takes {takes}, but the model gives"):
                check_losses(config)
