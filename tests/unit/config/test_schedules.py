"""Settings that change from epoch to epoch."""

import jax
import msgspec
import numpy as np
import pytest
from small_run import DETECTOR, config

from tofae_jax.cli import app
from tofae_jax.config import Config, ConfigError, ScheduleConfig, at_epoch, from_tree, in_force, read_toml, to_tree
from tofae_jax.config.schedules import value_at
from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.dataset import simulated_dataset
from tofae_jax.engine.build import learning_rate_at, step_options, step_settings
from tofae_jax.engine.checks import check_schedules
from tofae_jax.engine.evaluator import Evaluator
from tofae_jax.engine.training import loop, train
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record, settings_of

NOISE, RATE = "degradation.n_noise", "optimiser.learning_rate"


def schedule(**fields):
    return from_tree({"schedules": {NOISE: fields}}, Config, "test").schedules[NOISE]


def values(n_epochs, **fields):
    return [value_at(schedule(**fields), epoch, n_epochs) for epoch in range(1, n_epochs + 1)]


LINEAR = {"kind": "linear", "start": 10, "end": 50}
TABLE = {"kind": "table", "points": [[2, 10], [4, 30], [5, 0]]}


@pytest.mark.backlog("B45")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "constant", "value": 7}, [7, 7, 7, 7, 7]),
        (LINEAR, [10, 20, 30, 40, 50]),
        (LINEAR | {"first_epoch": 2, "last_epoch": 4}, [10, 10, 30, 50, 50]),
        (LINEAR | {"last_epoch": 9}, [10, 15, 20, 25, 30]),  # the run ends before the schedule does
        (LINEAR | {"first_epoch": 4}, [10, 10, 10, 10, 50]),
        (LINEAR | {"first_epoch": 7}, [10, 10, 10, 10, 10]),
        (LINEAR | {"first_epoch": 6, "last_epoch": 9}, [10, 10, 10, 10, 10]),
        ({"kind": "cosine", "start": 0, "end": 8}, [0, 8 * (0.5 - 0.125**0.5), 4, 8 * (0.5 + 0.125**0.5), 8]),
        ({"kind": "steps", "value": 16, "factor": 0.5, "every": 2}, [16, 16, 8, 8, 4]),
        (TABLE, [10, 10, 20, 30, 0]),
        (TABLE | {"hold": True}, [10, 10, 10, 30, 0]),
        # a number that turned to a range would be compiled anew
        ({"kind": "table", "points": [[1, 3], [4, [0, 2]]], "hold": True}, [(3, 3), (3, 3), (3, 3), (0, 2), (0, 2)]),
        ({"kind": "table", "points": [[2, 3]]}, [3, 3, 3, 3, 3]),
        ({"kind": "table", "points": [[1, 0], [9, 8]]}, [0, 1, 2, 3, 4]),
        (LINEAR | {"start": [0, 4], "end": [4, 12]}, [(0, 4), (1, 6), (2, 8), (3, 10), (4, 12)]),
        (LINEAR | {"start": 4, "end": [0, 8]}, [(4, 4), (3, 5), (2, 6), (1, 7), (0, 8)]),
        ({"kind": "steps", "value": [2, 4], "factor": 2, "every": 3}, [(2, 4)] * 3 + [(4, 8)] * 2),
        ({"kind": "table", "points": [[1, [0, 2]], [5, 8]]}, [(0, 2), (2, 3.5), (4, 5), (6, 6.5), (8, 8)]),
    ],
)
def test_values_by_hand(fields, expected):
    for found, wanted in zip(values(5, **fields), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-12)


def test_a_run_of_one_epoch_has_a_value():
    assert values(1, **LINEAR)[0] in (10, 50)
    assert values(1, **LINEAR, last_epoch=3) == [10]
    assert values(1, **TABLE) == [10]


def test_a_schedule_that_begins_with_the_last_epoch_has_its_start_before():
    assert values(5, **LINEAR, first_epoch=5)[:4] == [10, 10, 10, 10]


def test_settings_that_are_whole_numbers_are_rounded():
    c = scheduled({NOISE: {"kind": "linear", "start": 1, "end": [4, 9]}}, epochs=5)
    assert [at_epoch(c, epoch).degradation.n_noise for epoch in range(1, 6)] == [(1, 1), (2, 3), (2, 5), (3, 7), (4, 9)]
    key = "degradation.smear_x_mm"
    c = scheduled({key: {"kind": "linear", "start": 0, "end": 1}}, epochs=5)
    assert [at_epoch(c, epoch).degradation.smear_x_mm for epoch in range(1, 6)] == [0, 0.25, 0.5, 0.75, 1]
    c = scheduled({"degradation.n_signal": {"kind": "table", "points": [[1, 3], [2, 5.6]]}}, epochs=2)
    assert in_force(c, 2) == {"degradation.n_signal": 6}


def scheduled(schedules, epochs=4, **sections):
    return from_tree({"train": {"epochs": epochs}, "schedules": schedules} | sections, Config, "test")


@pytest.mark.parametrize(
    ("schedules", "sections", "said"),
    [
        ({"degradation.n_nois": {"kind": "constant", "value": 1}}, {}, "'degradation.n_nois' cannot be scheduled"),
        ({"train.batch": {"kind": "constant", "value": 1}}, {}, "'train.batch' cannot be scheduled; degradation set"),
        ({"degradation": {"kind": "constant", "value": 1}}, {}, "'degradation' cannot be scheduled"),
        ({"degradation.noise": {"kind": "constant", "value": 1}}, {}, "'degradation.noise' cannot be scheduled"),
        ({"degradation.selection": {"kind": "constant", "value": 1}}, {}, "'degradation.selection' is not a number"),
        ({"loss.name": {"kind": "constant", "value": 1}}, {}, "'loss.name'"),
        (
            {"loss.split.zero_loss": {"kind": "constant", "value": 1}},
            {"loss": {"name": "split"}},
            "'loss.split.zero_loss' is not a number",
        ),
        (
            {"loss.acb_mse_3d.n_time_bins": {"kind": "linear", "start": 4, "end": 16}},
            {"loss": {"name": "acb_mse_3d"}},
            "'loss.acb_mse_3d.n_time_bins' is a choice, not a number",
        ),
        ({"loss.split.hit_weight": {"kind": "constant", "value": 1}}, {}, "has no effect, as loss.name is acb_mse"),
        ({RATE: LINEAR | {"start": 0.1, "end": -2}}, {}, "epoch 2: optimiser.learning_rate = "),
        ({NOISE: LINEAR | {"end": 1e6}}, {}, "epoch 2: degradation.n_noise must be a number from 0 to 100000"),
        ({NOISE: {"kind": "constant", "value": [4, 2]}}, {}, "epoch 1: degradation.n_noise must be"),
        ({RATE: {"kind": "constant", "value": [1, 2]}}, {}, "epoch 1: optimiser.learning_rate = .*got `array`"),
        ({NOISE: {"kind": "constant", "value": float("nan")}}, {}, "degradation.n_noise.*nan"),
        ({NOISE: {"kind": "constant", "value": float("inf")}}, {}, "degradation.n_noise.*inf"),
        ({RATE: {"kind": "constant", "value": float("nan")}}, {}, "optimiser.learning_rate.*nan"),
        ({RATE: {"kind": "steps", "value": 1, "factor": 1e200, "every": 1}}, {}, "epoch [23].*optimiser.learning_rate"),
    ],
)
def test_what_cannot_be_scheduled_is_named(schedules, sections, said):
    with pytest.raises(ConfigError, match=said) as error:
        check_schedules(scheduled(schedules, **sections))
    assert "schedules" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "linear", "start": 1}, "end is missing: a linear schedule needs start, end"),
        ({"kind": "table"}, "points is missing"),
        ({"kind": "steps", "value": 1}, "factor is missing"),
        ({"kind": "constant", "value": 1, "end": 2}, "end has no meaning for a constant schedule"),
        ({"kind": "constant", "value": 1, "end": 0}, "end has no meaning for a constant schedule"),
        (LINEAR | {"hold": True}, "hold has no meaning for a linear schedule"),
        (LINEAR | {"first_epoch": 3, "last_epoch": 3}, "last_epoch must be after first_epoch 3, got 3"),
        (LINEAR | {"last_epoch": 1}, "last_epoch must be after first_epoch 1"),
        (LINEAR | {"first_epoch": 0}, "first_epoch"),
        ({"kind": "table", "points": [[3, 1], [2, 1]]}, r"points must have rising epochs from 1, got \[3, 2\]"),
        ({"kind": "table", "points": [[0, 1]]}, "points must have rising epochs from 1"),
        ({"kind": "linear", "strat": 1, "end": 2}, "strat"),
        ({"kind": "quadratic", "value": 1}, "constant, linear, cosine, steps, table"),
        ({"value": 1}, "kind"),
        ({"kind": "constant", "value": "many"}, "value"),
    ],
)
def test_a_bad_schedule_is_one_line_that_names_the_setting(tmp_path, capsys, fields, said):
    with pytest.raises(ConfigError, match=said) as error:
        from_tree({"schedules": {NOISE: fields}}, Config, "a.toml")
    assert NOISE in str(error.value)


def test_a_schedule_without_quotes_is_explained(tmp_path, capsys):
    (tmp_path / "a.toml").write_text('[schedules.degradation.n_noise]\nkind = "constant"\nvalue = 3\n')
    assert app.main(["train", "--config", str(tmp_path / "a.toml")]) == 2
    said = capsys.readouterr().err
    assert "n_noise" in said
    assert said.count("\n") == 1


def test_settings_that_depend_on_each_other_may_change_together():
    """One profile of noise takes over from another: neither schedule is allowed without the other."""
    pair = {f"degradation.noise.{name}": LINEAR | ends for name, ends in TAKING_OVER.items()}
    c = scheduled(pair)
    assert at_epoch(c, 4).degradation.noise.shares["uniform"] == 0
    check_schedules(c)


TAKING_OVER = {"uniform": {"start": 1, "end": 0}, "clusters": {"start": 0, "end": 1}}
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


def test_a_recipe_comes_back_from_its_tree(tmp_path):
    (tmp_path / "a.toml").write_text(RECIPE)
    c = read_toml(tmp_path / "a.toml", Config)
    assert from_tree(to_tree(c), Config, "tree") == c
    assert from_tree(msgspec.json.decode(msgspec.json.encode(c)), Config, "json") == c
    assert isinstance(c.schedules[NOISE], ScheduleConfig)
    assert at_epoch(c, 3).degradation.n_noise == (10, 20)
    assert at_epoch(c, 3).loss.acb_mse.hit_weight == 2
    assert in_force(c, 2) == {NOISE: [8, 12], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0}
    assert at_epoch(config(), 2) is not None


def test_without_schedules_nothing_changes():
    c = config()
    assert at_epoch(c, 3) is c
    assert in_force(c, 3) == {}


def test_slots_are_made_for_the_most_hits_of_any_epoch():
    c = scheduled({NOISE: {"kind": "table", "points": [[1, 5], [2, [3, 70]], [3, 1]]}}, degradation={"n_noise": 40})
    assert step_options(c).max_noise == 70
    assert step_options(scheduled({NOISE: LINEAR}, degradation={"n_noise": 90})).max_noise == 90


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


@pytest.mark.backlog("B45")
def test_scheduled_values_are_in_force_and_recorded(trained):
    c, paths, seen = trained
    history = read_history(paths.metrics)
    n_steps = 7 * 3
    assert len(seen["train"]) == n_steps
    for i, settings in enumerate(seen["train"]):
        now = at_epoch(c, 1 + i // 7)
        rate = learning_rate_at(now.optimiser, i, n_steps)
        expected = jax.device_get(step_settings(now))._replace(learning_rate=np.float32(rate))
        assert jax.tree.map(float, settings) == jax.tree.map(float, expected), i
    assert [epoch["scheduled"] for epoch in history] == [
        {NOISE: [5, 5], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0},
        {NOISE: [8, 12], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0},
        {NOISE: [10, 20], RATE: pytest.approx(1e-3), "loss.acb_mse.hit_weight": 2.0},
    ]
    assert [epoch["learning_rate"] for epoch in history] == pytest.approx([1e-2, 1e-2, 1e-3])
    assert float(seen["train"][0].learning_rate) == pytest.approx(0.5e-2)  # warming up


def test_a_scheduled_training_compiles_once(trained):
    assert set(trained[2]["programs"]) == {1}


def test_validation_and_test_use_the_settings_as_they_are(trained):
    c, paths, seen = trained
    expected = jax.tree.map(float, jax.device_get(step_settings(c)))
    assert len(seen["evaluation"]) == 5  # three validations, the best epoch's scores, test
    for settings in seen["evaluation"]:
        assert jax.tree.map(float, settings) == expected
    counts = [epoch["validation"]["counts"] for epoch in read_history(paths.metrics)]
    assert [count["noise_hits"] for count in counts] == [24 * 33] * 3  # of the data, see B43


def test_a_run_knows_its_schedules(trained):
    c, paths, _ = trained
    assert settings_of(paths.folder) == c
    summary = paths.summary.read_text()
    assert f"schedules.{NOISE}.kind = linear" in summary
    assert f"schedules.{RATE}.factor = 0.1" in summary


@pytest.mark.backlog("B54")
def test_a_bad_schedule_makes_no_run_and_no_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.toml").write_text('[schedules."degradation.selection"]\nkind = "constant"\nvalue = 3\n')
    monkeypatch.chdir(tmp_path)
    assert app.main(["train", "--config", "a.toml", "--data.simulate.events", "50"]) == 2
    assert "'degradation.selection' is not a number" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


@pytest.mark.parametrize("words", [["--train.epochs", "5"], ["--optimiser.learning-rate", "1"]])
def test_options_leave_the_schedules_as_they_are(tmp_path, words, monkeypatch):
    (tmp_path / "a.toml").write_text(RECIPE)
    seen = []
    monkeypatch.setattr(train, "train", lambda c, **_: seen.append(c) or read_record(tmp_path / "none"))
    assert app.main(["train", "--config", str(tmp_path / "a.toml"), *words]) == 2
    assert seen[0].schedules == read_toml(tmp_path / "a.toml", Config).schedules
