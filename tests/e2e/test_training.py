"""One small run through everything, and what must be true of steps and loops."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from places import ROOT
from sealing import reseal
from small_training import DETECTOR, config

from tofae_jax.cli import app
from tofae_jax.config import Config, from_tree, to_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import EvaluationSource, TrainSource
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import Events
from tofae_jax.data.files.read import read_events
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run
from tofae_jax.engine.checksums import checksums
from tofae_jax.engine.class_weights import resolved_losses
from tofae_jax.engine.evaluator import evaluation_key, run_evaluator
from tofae_jax.engine.events import splits_of
from tofae_jax.engine.load import load_run
from tofae_jax.engine.training import loop, train
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("training")
    simulated_dataset(path / "d", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=400, seed=1)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """A run folder that a real training left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths, record = train.train(config(), command=["test"])
    return paths, record


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def source(c, n=300):
    return TrainSource(Dataset("d"), np.arange(n), batch=c.train.batch, max_hits=c.data.max_hits, seed=c.seed)


def steps(c, n):
    """State and losses after `n` steps."""
    setup = build_run(c)
    state, step, batches = setup.fresh_state(), loop.compiled_train_step(setup), source(c)
    losses = []
    for i in range(n):
        state, metrics = step(state, jax.device_put(batches[i]), build_run(c).step_settings())
        losses.append(float(metrics.loss))
    return state, losses


@pytest.mark.slow
@pytest.mark.backlog("B63")
def test_the_same_seed_gives_the_same_run_and_another_does_not():
    first, losses = steps(config(), 6)
    again, losses_again = steps(config(), 6)
    assert losses == losses_again
    assert checksums({"s": first}) == checksums({"s": again})
    _, other = steps(config(seed=1), 6)
    assert other != losses


@pytest.mark.slow
@pytest.mark.backlog("B63")
def test_a_whole_run_repeats_itself():
    histories = []
    for threads in (1, 0):
        c = config(data={"threads": threads}, train={"epochs": 2, "plots": "none"})
        paths, _ = train.train(c)
        history = read_history(paths.metrics)
        histories.append([{k: v for k, v in epoch.items() if k != "time"} for epoch in history])
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_the_loss_falls():
    _, losses = steps(config(), 150)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


@pytest.mark.slow
def test_without_learning_it_does_not():
    """The negative control of the test above."""
    _, losses = steps(config(optimiser={"learning_rate": 1e-12}), 60)
    assert np.mean(losses[-10:]) > 0.9 * np.mean(losses[:10])


@pytest.mark.slow
def test_a_step_compiles_once_whatever_the_numbers():
    c = config()
    setup = build_run(c)
    step, batches, state = loop.compiled_train_step(setup), source(c), setup.fresh_state()
    for i in range(4):
        other = config(
            degradation={"n_signal": [i, 8], "n_noise": [i, 20], "smear_x_mm": float(i), "smear_t_ns": 0.1 * i},
            optimiser={"learning_rate": 10.0**-i},
            normalisation={"threshold": 0.1 * i},
            loss={"acb_mse": {"hit_weight": float(i)}},
        )
        state, _ = step(state, jax.device_put(batches[i]), build_run(other).step_settings())
    assert step._cache_size() == 1
    assert int(state.step) == 4


@pytest.mark.slow
def test_a_step_changes_no_shape_or_type():
    c = config()
    setup = build_run(c)
    before = setup.fresh_state()
    described = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), getattr(leaf, "weak_type", False)), before)
    after, _ = loop.compiled_train_step(setup)(before, jax.device_put(source(c)[0]), build_run(c).step_settings())
    assert (
        jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), getattr(leaf, "weak_type", False)), after) == described
    )


CHOICES = [
    ("gapped", "acb_mse", "signal"),
    ("binary", "bce", "pattern"),
    ("none", "mae", "pattern"),
    ("gapped", "mse", "pattern"),
    ("gapped", "split", "pattern"),
    ("gapped", "acb_mse_3d", "signal"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("normalisation", "loss", "target"), CHOICES)
def test_every_choice_takes_a_step(normalisation, loss, target):
    c = config(normalisation={"name": normalisation}, loss={"name": loss}, train={"target": target})
    state, losses = steps(c, 2)
    assert np.all(np.isfinite(losses))
    setup = build_run(c)
    evaluator = run_evaluator(setup)
    evaluation = EvaluationSource(Dataset("d"), np.arange(40), batch=16, max_hits=24)
    result = evaluator.result(state.variables, evaluation, evaluation_key(0), build_run(c).step_settings())
    assert result["events"] == 40
    assert (result["direct"]["mse"] is None) == (normalisation == "binary")


def test_evaluation_draws_apart_from_training():
    """An epoch's number is folded into the same key: it must not be the one of the evaluation."""
    key = jax.random.key(0)
    epochs = {tuple(jax.random.key_data(jax.random.fold_in(key, epoch)).tolist()) for epoch in range(100)}
    assert tuple(jax.random.key_data(evaluation_key(0)).tolist()) not in epochs
    assert len(epochs) == 100


@pytest.mark.slow
@pytest.mark.backlog("B01", "B07")
def test_evaluation_does_not_depend_on_the_batch_size():
    c = config()
    variables = build_run(c).fresh_state().variables
    results = []
    for batch in (1, 7, 32, 64):
        evaluator = run_evaluator(build_run(c))
        evaluation = EvaluationSource(Dataset("d"), np.arange(50), batch=batch, max_hits=24)
        results.append(evaluator.result(variables, evaluation, evaluation_key(3), build_run(c).step_settings()))
    for result in results[1:]:
        assert result["counts"] == results[0]["counts"]
        for output in ("input", "direct", "masked"):
            for key, value in results[0][output].items():
                nearly_0 = 1e-5 if key.endswith("_db") else 1e-12  # a ratio of 1 is 0 dB: no relative accuracy there
                assert result[output][key] == pytest.approx(value, rel=1e-4, abs=nearly_0), (output, key)


def test_the_untouched_input_keeps_all_visible_hits_and_all_noise(trained):
    _, record = trained
    test = record.results["test"]
    assert test["input"]["efficiency"] == pytest.approx(
        test["counts"]["visible_signal_hits"] / test["counts"]["signal_hits"]
    )
    assert test["input"]["noise_rejection"] < 0.15
    assert test["counts"]["occluded_hits"] > 0


@pytest.mark.backlog("B54", "B55", "B19")
def test_a_run_leaves_what_it_says(trained):
    paths, record = trained
    assert record.status == "finished"
    assert msgspec.to_builtins(read_record(paths.folder)[1]) == json.loads(msgspec.json.encode(record))
    history = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert all(epoch["time"]["epoch_s"] > 0 for epoch in history)
    assert [epoch["step"] for epoch in history] == [17, 34, 51]
    names = {path.name for path in paths.plots.iterdir()}
    assert {"curves.png", "outputs.png", "event_1_stages.png", "event_1_3d.png", "data.npz"} <= names
    assert list(paths.tensorboard.iterdir())
    summary = paths.summary.read_text()
    assert "loss.name = acb_mse" in summary
    assert "loss.acb_mse.zero_weight = 1.0" in summary
    assert "bce" not in summary
    assert "masked" in summary
    assert "purity" in summary
    assert record.data["provenance"]["pattern"] == {"v": 1}


@pytest.mark.slow
@pytest.mark.backlog("B04", "B62")
def test_the_summary_records_the_chosen_loss_alone(folder):
    paths, _ = train.train(config(loss={"name": "bce"}, train={"epochs": 1, "plots": "none"}))
    summary = paths.summary.read_text()
    assert "loss.name = bce" in summary
    assert "loss.bce.epsilon = 1e-06" in summary
    assert "acb_mse" not in summary
    assert {path.name for path in paths.plots.iterdir()} == {"data.npz", "events.npz", "latents.npz"}  # no figures


@pytest.mark.slow
@pytest.mark.backlog("B04", "B57", "B58")
def test_the_summary_records_split_with_its_components_and_the_evaluation_loss():
    split = {"zero_loss": "mse", "hit_loss": "mae", "hit_weight": 0.4}
    c = config(
        loss={"name": "split", "split": split},
        evaluation_loss={"name": "ff_acb_mse", "ff_acb_mse": {"full_weight": 1.5}},
        train={"epochs": 1, "plots": "none"},
    )
    paths, _ = train.train(c)
    lines = [line.strip() for line in paths.summary.read_text().splitlines()]
    assert sorted(line for line in lines if line.startswith(("loss.", "evaluation_loss."))) == [
        "evaluation_loss.ff_acb_mse.full_weight = 1.5",
        "evaluation_loss.ff_acb_mse.hit_weight = 1.0",
        "evaluation_loss.ff_acb_mse.zero_weight = 1.0",
        "evaluation_loss.name = ff_acb_mse",
        "loss.name = split",
        "loss.split.hit_loss = mae",
        "loss.split.hit_weight = 0.4",
        "loss.split.zero_loss = mse",
        "loss.split.zero_weight = 1.0",
    ]


@pytest.mark.slow
@pytest.mark.backlog("B57")
def test_the_evaluation_loss_may_be_another_than_the_training_loss():
    variables = build_run(config()).fresh_state().variables
    evaluation = EvaluationSource(Dataset("d"), np.arange(40), batch=16, max_hits=24)

    def evaluated(c):
        evaluator = run_evaluator(build_run(c))
        return evaluator.result(variables, evaluation, evaluation_key(0), build_run(c).step_settings())["loss"]

    other = {"name": "split", "split": {"hit_loss": "bce", "hit_weight": 2.0}}
    trained_otherwise = config(evaluation_loss=other)
    assert evaluated(trained_otherwise) == evaluated(config(loss=other))
    assert evaluated(trained_otherwise) != evaluated(config())
    assert steps(trained_otherwise, 2)[1] == steps(config(), 2)[1]


@pytest.mark.slow
@pytest.mark.backlog("B63")
def test_automatic_weights_are_the_class_ratio_of_the_training_data():
    c = config(loss={"acb_mse": {"hit_weight": "auto"}}, train={"epochs": 1, "plots": "none"})
    with pytest.raises(ValueError, match=r"acb_mse\.hit_weight is auto"):
        build_run(c).step_settings()
    paths, record = train.train(c)
    dataset = Dataset("d")
    events = splits_of(dataset, c.data).train
    lit = sum(
        len({(x, y) for x, y, _ in next(dataset.per_event_hits(np.array([event])))[0].tolist()}) for event in events
    )
    ratio = (len(events) * 12 * 16 - lit) / lit
    assert record.config["loss"]["acb_mse"]["hit_weight"] == pytest.approx(ratio)
    assert record.data["automatic_weights"] == {"loss.acb_mse.hit_weight": pytest.approx(ratio)}
    assert f"loss.acb_mse.hit_weight = {ratio}"[:32] in paths.summary.read_text()
    Path("d").rename("away")  # the stored run knows its numbers: nothing is counted again
    try:
        weights = load_run(paths.folder).setup.step_settings().loss_weights
        assert weights["hit_weight"] == pytest.approx(ratio)
    finally:
        Path("away").rename("d")


def test_automatic_weights_follow_the_target_and_the_class():
    dataset, events = Dataset("d"), np.arange(300)
    counts = np.array([len(hits) for hits, _ in dataset.per_event_hits(np.arange(300))])
    signal = np.mean([np.minimum(counts, n).mean() for n in (3, 4, 5)])
    degradation = {"n_signal": [3, 5], "n_noise": [10, 20]}
    auto = {"name": "class_mse", "class_mse": dict.fromkeys(("true_negative_weight", "true_positive_weight"), "auto")}
    c = config(degradation=degradation, train={"target": "signal"}, evaluation_loss=auto)
    _, found = resolved_losses(c, dataset, events)
    ratio = (12 * 16 - signal) / signal
    key = "evaluation_loss.class_mse.true_"
    assert found == {
        f"{key}negative_weight": pytest.approx(1 / ratio),
        f"{key}positive_weight": pytest.approx(ratio),
    }
    hits = config(degradation=degradation, loss={"name": "hit_bce", "hit_bce": {"signal_weight": "auto"}})
    assert resolved_losses(hits, dataset, events)[1] == {"loss.hit_bce.signal_weight": pytest.approx(15 / signal)}
    none = config(degradation={"n_noise": 0}, loss={"name": "hit_bce", "hit_bce": {"signal_weight": "auto"}})
    with pytest.raises(ValueError, match="there is no noise"):
        resolved_losses(none, dataset, events)
    assert resolved_losses(config(), dataset, events) == (config(), {})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"loss": {"name": "hit_bce"}}, r"^loss\.name: loss 'hit_bce' takes hits, but the model gives image"),
        ({"evaluation_loss": {"name": "hit_focal"}}, r"^evaluation_loss\.name: .* losses that fit: acb_mse, mse"),
        (
            {"loss": {"name": "acb_mse_3d"}, "normalisation": {"name": "binary"}},
            r"'acb_mse_3d' reads times, which need normalisation\.name gapped, got binary",
        ),
    ],
)
def test_a_loss_that_does_not_fit_makes_no_run(sections, message):
    before = set(Path("runs").iterdir()) if Path("runs").exists() else set()
    with pytest.raises(ValueError, match=message):
        train.train(config(**sections))
    assert (set(Path("runs").iterdir()) if Path("runs").exists() else set()) == before


def evaluate(capsys, *words):
    assert app.main(["evaluate", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_evaluate_prints_json_and_saves_hits_that_agree(trained, capsys, folder):
    paths, record = trained
    result = evaluate(capsys, str(paths.folder), "--save-hits", "hits.npz", "--overwrite")
    for key, value in record.results["test"]["masked"].items():
        assert result["masked"][key] == pytest.approx(value, rel=1e-5)
    assert result["split"] == "test"
    assert result["events"] == record.data["splits"]["test"]
    hits = np.load("hits.npz")
    kept, signal = hits["kept"].astype(bool), hits["is_signal"].astype(bool)
    assert np.sum(kept & signal) == result["masked"]["true_positives"]
    assert np.sum(kept & ~signal) == result["masked"]["false_positives"]
    assert np.sum(~kept & signal) == result["masked"]["false_negatives"]
    assert len(kept) == result["counts"]["signal_hits"] + result["counts"]["noise_hits"]
    assert len(np.unique(hits["event"])) == result["events"]


@pytest.mark.slow
def test_evaluate_takes_other_data_counts_and_seeds(trained, capsys):
    paths, _ = trained
    run = str(paths.folder)
    if not Path("other").exists():
        simulated_dataset("other", detector=Detector(**DETECTOR), weights={"line": 1}, n_events=45, seed=9)
    result = evaluate(capsys, run, "--data", "other", "--signal", "4", "--noise", "0")
    assert (result["events"], result["split"]) == (45, "all")
    assert result["counts"]["noise_hits"] == 0
    assert result["input"]["purity"] == 1
    nothing = evaluate(capsys, run, "--data", "other", "--signal", "0", "--noise", "0")
    assert nothing["counts"]["signal_hits"] == nothing["counts"]["noise_hits"] == 0
    assert nothing["masked"]["f1"] == 1
    again = evaluate(capsys, run, "--data", "other", "--signal", "2", "5", "--noise", "7")
    assert again["counts"]["noise_hits"] == 45 * 7
    assert evaluate(capsys, run, "--seed", "1")["masked"] != evaluate(capsys, run, "--seed", "2")["masked"]
    assert evaluate(capsys, run, "--seed", "1") == evaluate(capsys, run, "--seed", "1")
    assert evaluate(capsys, run, "--split", "train")["events"] == 280


@pytest.mark.slow
def test_hits_beyond_the_slots_are_counted(trained, capsys, tmp_path):
    hits = np.stack([np.arange(192) % 12, np.arange(192) // 12, np.full(192, 5)], axis=-1).astype(np.int16)
    write_dataset(tmp_path / "big", [Events(hits, np.array([0, 192]))], detector=Detector(**DETECTOR), provenance={})
    result = evaluate(capsys, str(trained[0].folder), "--data", str(tmp_path / "big"))
    assert result["counts"]["pattern_hits"] == 24
    assert result["counts"]["dropped_hits"] == 192 - 24


@pytest.mark.slow
def test_a_run_can_be_evaluated_from_elsewhere(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate(capsys, str(trained[0].folder))["events"] > 0
    gone = json.loads(trained[0].record.read_text())
    gone["config"]["data"]["path"] = gone["data"]["path"] = "nowhere"
    copy = tmp_path / "run"
    shutil.copytree(trained[0].folder, copy)
    reseal(copy / "run.json", gone)
    assert app.main(["evaluate", str(copy)]) == 2
    assert "name one with --data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_user_sees_one_line_and_no_warnings(trained, tmp_path):
    """As a program: what libraries log counts too."""
    command = [sys.executable, "-m", "tofae_jax", "denoise", str(trained[0].folder), "none.csv", "out.csv"]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.splitlines() == ["tofae_jax: none.csv: does not exist"]


def denoise(capsys, *words):
    assert app.main(["denoise", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_denoise_agrees_with_evaluation(trained, capsys):
    """The degraded events that an evaluation saved, read back as measured data, keep the same hits."""
    run = str(trained[0].folder)
    evaluate(capsys, run, "--save-hits", "seen.csv", "--overwrite")
    seen = columns("seen.csv")
    report = denoise(capsys, run, "seen.csv", "out.npz", "--all-hits", "--overwrite")
    out = np.load("out.npz")
    for name in ("event", "x", "y", "t", "kept", "score"):  # what the input knew goes along
        np.testing.assert_array_equal(out[name].astype(seen[name].dtype), seen[name])
    np.testing.assert_array_equal(out["kept_found"], seen["kept"])
    np.testing.assert_allclose(out["score_found"], seen["score"], atol=1e-5)
    assert report["hits"] == len(out["x"])
    assert report["hits_kept"] == int(out["kept_found"].sum())
    kept = denoise(capsys, run, "seen.csv", "kept.csv", "--overwrite")
    assert kept["hits_kept"] == report["hits_kept"]
    assert len(columns("kept.csv")["x"]) == report["hits_kept"]
    assert list(columns("kept.csv")) == ["event", "x", "y", "t", "is_signal", "score", "kept", "score_found"]


def columns(path):
    (events,) = read_events(Path(path), detector=Detector(**DETECTOR))
    numbers = np.repeat(events.event_columns["event"], events.counts)
    return {"event": numbers, **dict(zip("xyt", events.hits.T, strict=True)), **events.hit_columns}


@pytest.mark.slow
def test_denoise_takes_datasets_and_events_of_any_size(trained, capsys, tmp_path):
    run = str(trained[0].folder)
    rng = np.random.default_rng(0)
    rows = [(5, 3, 4, 7)] + [(8, *hit) for hit in rng.integers(1, 12, (700, 3))] + [(9, 0, 0, 1)]
    lines = ["event,x,y,t", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    report = denoise(capsys, run, str(tmp_path / "in.csv"), str(tmp_path / "out.npz"), "--all-hits")
    assert (report["events"], report["hits"]) == (3, 702)
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(np.stack([out[n] for n in ("event", "x", "y", "t")], -1), rows)
    assert report["hits_occluded"] > 0
    report = denoise(capsys, run, "d", str(tmp_path / "all.npz"))
    assert report["events"] == 400
    code = app.main(["denoise", run, "d", str(tmp_path / "all.npz")])
    assert code == 2
    assert "all.npz" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tolerance_keeps_fewer_hits(trained, capsys, tmp_path):
    run = str(trained[0].folder)
    kept = [
        denoise(capsys, run, "d", str(tmp_path / f"{i}.npz"), *words)["hits_kept"]
        for i, words in enumerate([[], ["--tof-tolerance-ns", "10"], ["--tof-tolerance-ns", "0"]])
    ]
    assert kept[0] > kept[1] > kept[2]


def test_a_bad_input_to_denoise_leaves_nothing(trained, capsys, tmp_path):
    (tmp_path / "bad.csv").write_text("event,x,y,t\n0,1,1,1\n0,99,1,1\n")
    assert app.main(["denoise", str(trained[0].folder), str(tmp_path / "bad.csv"), str(tmp_path / "out.csv")]) == 2
    assert "x=99" in capsys.readouterr().err.replace("x = 99", "x=99").replace("x 99", "x=99")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_naming_the_step(monkeypatch):
    real = loop.compiled_train_step

    def spoilt(setup):
        step = real(setup)

        def run(state, batch, settings):
            state, metrics = step(state, batch, settings)
            bad = jnp.where(state.step == 6, jnp.nan, metrics.loss)
            return state, metrics._replace(loss=bad)

        return run

    monkeypatch.setattr(loop, "compiled_train_step", spoilt)
    with pytest.raises(train.TrainingError, match=r"epoch 1, step 6 \(step 6 of the run\): loss nan"):
        train.train(config(runs={"name": "spoilt"}))
    (folder,) = Path("runs").glob("spoilt-*")
    record = read_record(folder)[1]
    assert record.status == "failed"
    assert "step 6" in record.reason


def test_an_unfit_dataset_makes_no_run():
    before = set(Path("runs").iterdir()) if Path("runs").exists() else set()
    with pytest.raises(ValueError, match="do not fill a batch"):
        train.train(config(train={"batch": 5000}))
    assert (set(Path("runs").iterdir()) if Path("runs").exists() else set()) == before


@pytest.mark.backlog("B25")
@pytest.mark.parametrize("jit", [True, False])
def test_compilation_can_be_switched_off(monkeypatch, jit):
    seen = []

    def look(*_):
        seen.append(jax.config.jax_disable_jit)
        return "", {"test": None}

    monkeypatch.setattr(train, "_train_and_finish", look)
    train.train(config(train={"jit": jit}))
    assert seen == [not jit]
    assert not jax.config.jax_disable_jit


def test_settings_in_mm_and_ns_become_pixels_and_bins():
    detector = Detector(n_x=10, n_y=20, n_t=50, width_mm=100.0, height_mm=40.0, window_ns=25.0)
    c = config(degradation={"smear_x_mm": 5.0, "smear_y_mm": 4.0, "smear_t_ns": 1.0}, mask={"tof_tolerance_ns": 2.0})
    c = msgspec.structs.replace(c, detector=detector)
    s = build_run(c).step_settings()
    assert (s.degradation.sigma_x_pixels, s.degradation.sigma_y_pixels) == (0.5, 2.0)
    assert (s.degradation.sigma_t_bins, s.tof_tolerance_bins) == (2.0, 4.0)


@pytest.mark.slow
@pytest.mark.backlog("B06")
def test_a_run_says_what_it_computes_on(trained, capfd, messages):
    train.train(config(train={"epochs": 1, "plots": "none"}))
    assert re.search(r"device: .*\(cpu\)", capfd.readouterr().err)


def test_config_survives_its_tree():
    c = config()
    assert from_tree(to_tree(c), Config, "x") == c
    assert not dataclasses.is_dataclass(c)  # msgspec's structs
