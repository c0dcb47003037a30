"""Trainings whose settings change from epoch to epoch."""

import jax
import numpy as np
import pytest
from msgspec.structs import replace
from small_run import DETECTOR, config

from tofae_jax.cli import app
from tofae_jax.config import Config, at_epoch, read_toml, to_tree
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run, learning_rate_at
from tofae_jax.engine.evaluator import Evaluator
from tofae_jax.engine.training import loop, train
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record, settings_of

NOISE, RATE = "degradation.n_noise", "optimiser.learning_rate"


LINEAR = {"kind": "linear", "start": 10, "end": 50}


RECIPE = f"""
[train]
epochs = 3
[schedules."{NOISE}"]
kind = "linear"
start = 5
end = [10, 20]
[schedules."{RATE}"]
kind = "steps"
value = 1e-2
factor = 0.1
every = 2
[schedules."loss.acb_mse.hit_weight"]
kind = "table"
points = [[1, 1.0], [3, 2.0]]
hold = true
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A scheduled training, with the settings each of its steps and evaluations was given, and its compilations."""
    folder, seen = tmp_path_factory.mktemp("schedules"), {"train": [], "evaluation": [], "programs": []}
    simulated_dataset(folder / "d", detector=Detector(**DETECTOR), weights={"v": 1}, n_events=160, seed=1)
    real, sums, details = loop.compiled_train_step, Evaluator.sums, Evaluator.details

    def spied(setup):
        step = real(setup)

        def run(state, batch, settings):
            out = step(state, batch, settings)
            seen["train"].append(jax.device_get(settings))
            seen["programs"].append(step._cache_size())
            return out

        return run

    def spied_sums(self, variables, source, key, settings, **options):
        seen["evaluation"].append(jax.device_get(settings))
        return sums(self, variables, source, key, settings, **options)

    def spied_details(self, variables, source, key, settings, **options):
        seen["evaluation"].append(jax.device_get(settings))
        return details(self, variables, source, key, settings, **options)

    (folder / "a.toml").write_text(RECIPE)
    schedules = to_tree(read_toml(folder / "a.toml", Config))["schedules"]
    c = config(schedules=schedules, degradation={"n_noise": 33}, optimiser={"warmup_steps": 2}, train={"plots": "none"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(loop, "compiled_train_step", spied)
        patch.setattr(Evaluator, "sums", spied_sums)
        patch.setattr(Evaluator, "details", spied_details)
        paths, _ = train.train(c)
    return c, paths, seen


@pytest.mark.slow
@pytest.mark.backlog("B45")
def test_train_scheduled_values_are_in_force_and_recorded(trained):
    c, paths, seen = trained
    history = read_history(paths.metrics)
    n_steps = 7 * 3
    assert len(seen["train"]) == n_steps
    for i, settings in enumerate(seen["train"]):
        now = at_epoch(c, 1 + i // 7)
        rate = learning_rate_at(now.optimiser, i, n_steps)
        expected = jax.device_get(build_run(now).step_settings())._replace(learning_rate=np.float32(rate))
        assert jax.tree.map(float, settings) == jax.tree.map(float, expected), i
    assert [epoch["scheduled"] for epoch in history] == [
        {NOISE: [5, 5], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0},
        {NOISE: [8, 12], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0},
        {NOISE: [10, 20], RATE: pytest.approx(1e-3), "loss.acb_mse.hit_weight": 2.0},
    ]
    assert [epoch["learning_rate"] for epoch in history] == pytest.approx([1e-2, 1e-2, 1e-3])
    assert float(seen["train"][0].learning_rate) == pytest.approx(0.5e-2)  # warming up


@pytest.mark.slow
def test_train_with_schedules_compiles_once(trained):
    assert set(trained[2]["programs"]) == {1}


@pytest.mark.slow
def test_train_validation_and_test_use_unscheduled_settings(trained):
    c, paths, seen = trained
    expected = jax.tree.map(float, jax.device_get(build_run(c).step_settings()))
    assert len(seen["evaluation"]) == 5  # three validations, the best epoch's scores, test
    for settings in seen["evaluation"]:
        assert jax.tree.map(float, settings) == expected
    counts = [epoch["validation"]["counts"] for epoch in read_history(paths.metrics)]
    assert [count["noise_hits"] for count in counts] == [24 * 33] * 3  # of the data, see B43


@pytest.mark.slow
def test_settings_of_a_run_have_its_schedules(trained):
    c, paths, _ = trained
    rate = Config().optimiser.learning_rate  # that of the settings is used in no epoch, and is not in the record
    assert settings_of(paths.folder) == replace(c, optimiser=replace(c.optimiser, learning_rate=rate))
    summary = paths.summary.read_text()
    assert "optimiser.learning_rate = " not in summary.replace("schedules.optimiser", "")
    assert f"schedules.{NOISE}.kind = linear" in summary
    assert f"schedules.{RATE}.factor = 0.1" in summary


@pytest.mark.backlog("B54")
def test_main_bad_schedule_makes_no_run_and_no_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.toml").write_text('[schedules."degradation.selection"]\nkind = "constant"\nvalue = 3\n')
    monkeypatch.chdir(tmp_path)
    assert app.main(["train", "--config", "a.toml", "--data.simulate.events", "50"]) == 2
    assert "'degradation.selection' is not a number" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


def test_main_schedule_of_options_reaches_the_training(tmp_path, monkeypatch):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", lambda c, **_: seen.append(c) or read_record(tmp_path / "none"))
    (tmp_path / "a.toml").write_text(RECIPE)
    words = ["--schedules.degradation.n-noise.end", "30", "--schedules.degradation.n-signal.kind", "constant"]
    words += ["--schedules.degradation.n-signal.value", "4", "8", "--train.epochs", "5"]
    assert app.main(["train", "--config", "a.toml", *words]) == 2  # the training does nothing here
    assert seen[0].train.epochs == 5
    assert at_epoch(seen[0], 5).degradation.n_noise == 30
    assert at_epoch(seen[0], 2).degradation.n_signal == (4, 8)
    assert set(seen[0].schedules) == {NOISE, RATE, "loss.acb_mse.hit_weight", "degradation.n_signal"}


@pytest.mark.parametrize("words", [["--train.epochs", "5"], ["--optimiser.learning-rate", "1"]])
def test_main_options_leave_the_schedules_as_they_are(tmp_path, words, monkeypatch):
    (tmp_path / "a.toml").write_text(RECIPE)
    seen = []
    monkeypatch.setattr(train, "train", lambda c, **_: seen.append(c) or read_record(tmp_path / "none"))
    assert app.main(["train", "--config", str(tmp_path / "a.toml"), *words]) == 2
    assert seen[0].schedules == read_toml(tmp_path / "a.toml", Config).schedules
