"""Settings of a run in each of its epochs."""

import msgspec
import pytest
from small_run import config

from tofae_jax.config import Config, ConfigError, ScheduleConfig, at_epoch, from_tree, in_force, read_toml, to_tree
from tofae_jax.engine.build import build_run
from tofae_jax.engine.checks import check_run

NOISE, RATE = "degradation.n_noise", "optimiser.learning_rate"


LINEAR = {"kind": "linear", "start": 10, "end": 50}


def test_at_epoch_whole_numbers_are_rounded():
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
def test_check_run_what_cannot_be_scheduled_is_named(schedules, sections, said):
    with pytest.raises(ConfigError, match=said) as error:
        check_run(scheduled(schedules, **sections))
    assert "schedules" in str(error.value)


def test_at_epoch_dependent_settings_may_change_together():
    """One profile of noise takes over from another: neither schedule is allowed without the other."""
    pair = {f"degradation.noise.{name}": LINEAR | ends for name, ends in TAKING_OVER.items()}
    c = scheduled(pair)
    assert at_epoch(c, 4).degradation.noise.shares["uniform"] == 0
    check_run(c)


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


def test_read_toml_schedules_come_back_from_their_tree(tmp_path):
    (tmp_path / "a.toml").write_text(RECIPE)
    c = read_toml(tmp_path / "a.toml", Config)
    assert from_tree(to_tree(c), Config, "tree") == c
    assert from_tree(msgspec.json.decode(msgspec.json.encode(c)), Config, "json") == c
    assert isinstance(c.schedules[NOISE], ScheduleConfig)
    assert at_epoch(c, 3).degradation.n_noise == (10, 20)
    assert at_epoch(c, 3).loss.acb_mse.hit_weight == 2
    assert in_force(c, 2) == {NOISE: [8, 12], RATE: 1e-2, "loss.acb_mse.hit_weight": 1.0}
    assert at_epoch(config(), 2) is not None


def test_at_epoch_without_schedules_changes_nothing():
    c = config()
    assert at_epoch(c, 3) is c
    assert in_force(c, 3) == {}


def test_build_run_has_slots_for_the_most_hits_of_any_epoch():
    c = scheduled({NOISE: {"kind": "table", "points": [[1, 5], [2, [3, 70]], [3, 1]]}}, degradation={"n_noise": 40})
    assert build_run(c).options.max_noise == 70
    assert build_run(scheduled({NOISE: LINEAR}, degradation={"n_noise": 90})).options.max_noise == 90
