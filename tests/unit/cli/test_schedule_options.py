"""Schedules on the command line."""

import pytest

from tofae_jax.cli import app
from tofae_jax.cli.schedule_options import take_schedules
from tofae_jax.config import Config, ConfigError, ScheduleConfig, read_toml, to_tree

NOISE, KEY = "--schedules.degradation.n-noise", "degradation.n_noise"

RECIPE = """
[schedules."degradation.n_noise"]
kind = "linear"
start = 20
end = [100, 200]
last_epoch = 10
[schedules."optimiser.learning_rate"]
kind = "steps"
value = 1e-2
factor = 0.1
every = 2
[schedules."loss.acb_mse.hit_weight"]
kind = "table"
points = [[1, 1.0], [3, 2.0]]
hold = true
"""
WORDS = f"""
{NOISE}.kind linear {NOISE}.start 20 {NOISE}.end 100 200 {NOISE}.last-epoch=10
--schedules.optimiser.learning-rate.kind steps --schedules.optimiser.learning_rate.value 1e-2
--schedules.optimiser.learning-rate.factor 0.1 --schedules.optimiser.learning-rate.every 2
--schedules.loss.acb-mse.hit-weight.kind table --schedules.loss.acb-mse.hit-weight.points 1 1.0 3 2.0
--schedules.loss.acb-mse.hit-weight.hold
"""


def test_take_schedules_are_those_of_the_recipe(tmp_path):
    """The same keys, fields and values as in a recipe give the same schedules."""
    (tmp_path / "r.toml").write_text(RECIPE)
    words = ["--train.epochs", "3", *WORDS.split(), "--seed", "4"]
    taken = take_schedules(words, {})
    assert taken == read_toml(tmp_path / "r.toml", Config).schedules
    assert words == ["--train.epochs", "3", "--seed", "4"]


@pytest.mark.parametrize(
    "points", [["1", "10", "4", "40"], ["[1, 10]", "[4, 40]"], ["[[1, 10], [4, 40]]"], ["[1,10]", "[4,40]"]]
)
def test_take_schedules_points_have_several_forms(points):
    found = take_schedules([f"{NOISE}.kind", "table", f"{NOISE}.points", *points], {})
    assert found[KEY].points == ((1, 10), (4, 40))


def test_take_schedules_points_may_be_ranges():
    found = take_schedules([f"{NOISE}.kind", "table", f"{NOISE}.points", "[[1, [2, 3]], [4, [5, 6]]]"], {})
    assert found[KEY].points == ((1, (2, 3)), (4, (5, 6)))
    found = take_schedules([f"{NOISE}.kind", "table", f"{NOISE}.points", "[[1, 2]]"], {})
    assert found[KEY].points == ((1, 2),)
    found = take_schedules([f"{NOISE}.kind=linear", f"{NOISE}.start=[1,2]", f"{NOISE}.end", "-0"], {})
    assert found[KEY].start == (1, 2)


def test_take_schedules_change_those_of_a_recipe():
    own = {KEY: ScheduleConfig(kind="linear", start=1, end=9), "other": ScheduleConfig(kind="constant", value=2)}
    found = take_schedules([f"{NOISE}.end", "50"], own)
    assert found == own | {KEY: ScheduleConfig(kind="linear", start=1, end=50)}
    found = take_schedules([f"{NOISE}.kind", "constant", f"{NOISE}.value", "3"], own)  # begins anew
    assert found[KEY] == ScheduleConfig(kind="constant", value=3)
    assert take_schedules([], own) == own


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--schedules.kind", "linear"], "--schedules.kind: write --schedules.KEY.FIELD"),
        ([f"{NOISE}.start", "1"], "--schedules.degradation.n-noise.kind is missing: constant, linear"),
        ([f"{NOISE}.kind"], f"{NOISE}.kind needs a value"),
        ([f"{NOISE}.kind", "linear"], "'degradation.n_noise': start is missing: a linear schedule needs start, end"),
        ([f"{NOISE}.kind", "steady"], "kind = 'steady': allowed: constant, linear"),
        ([f"{NOISE}.kind", "constant", f"{NOISE}.valu", "3"], "there is no setting valu; perhaps value"),
        ([f"{NOISE}.kind", "constant", f"{NOISE}.value", "many"], "value = 'many'"),
        ([f"{NOISE}.kind", "constant", f"{NOISE}.value", "1", "2", "3"], "value = [1, 2, 3]"),
        (
            [f"{NOISE}.kind", "constant", f"{NOISE}.value", "3", f"{NOISE}.end", "4"],
            "end has no meaning for a constant",
        ),
        ([f"{NOISE}.kind", "table", f"{NOISE}.points", "1", "2", "3"], "points"),
    ],
)
def test_take_schedules_mistakes_are_named(words, said):
    with pytest.raises(ConfigError) as error:
        take_schedules(words, {})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--schedules.train.batch.kind", "constant", "--schedules.train.batch.value", "3"], "cannot be scheduled"),
        (
            ["--schedules.loss.mse.x.kind", "constant", "--schedules.loss.mse.x.value", "3"],
            "schedules: 'loss.mse.x' cannot be scheduled",
        ),
        (
            ["--schedules.loss.acb-mse.hit-weight.kind", "constant", "--schedules.loss.acb-mse.hit-weight.value", "3"],
            "has no effect, as loss.name is hit_bce",
        ),
        ([f"{NOISE}.kind", "constant", f"{NOISE}.value", "-3"], "epoch 1: degradation.n_noise must be"),
    ],
)
def test_train_schedule_that_cannot_be_is_refused(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert app.main(["train", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_train_help_tells_of_schedules(capsys):
    with pytest.raises(SystemExit):
        app.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--schedules.degradation.n-noise.kind linear" in text
    assert "steps: value, factor, every" in text and "table: points, hold" in text


def test_take_schedules_gives_what_settings_can_hold():
    taken = take_schedules([f"{NOISE}.kind", "constant", f"{NOISE}.value", "3"], {})
    assert to_tree(Config(schedules=taken))["schedules"] == {KEY: {"kind": "constant", "value": 3}}
