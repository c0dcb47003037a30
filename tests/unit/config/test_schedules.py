"""Values of schedules."""

import pytest

from tofae_jax.cli import app
from tofae_jax.config import Config, ConfigError, from_tree
from tofae_jax.config.schedules import value_at

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
def test_value_at_each_kind_gives_values_by_hand(fields, expected):
    for found, wanted in zip(values(5, **fields), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-12)


def test_value_at_one_epoch_has_a_value():
    assert values(1, **LINEAR)[0] in (10, 50)
    assert values(1, **LINEAR, last_epoch=3) == [10]
    assert values(1, **TABLE) == [10]


def test_value_at_first_epoch_is_last_has_start_before():
    assert values(5, **LINEAR, first_epoch=5)[:4] == [10, 10, 10, 10]


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
def test_from_tree_bad_schedule_names_the_setting(tmp_path, capsys, fields, said):
    with pytest.raises(ConfigError, match=said) as error:
        from_tree({"schedules": {NOISE: fields}}, Config, "a.toml")
    assert NOISE in str(error.value)


def test_main_schedule_without_quotes_is_explained(tmp_path, capsys):
    (tmp_path / "a.toml").write_text('[schedules.degradation.n_noise]\nkind = "constant"\nvalue = 3\n')
    assert app.main(["train", "--config", str(tmp_path / "a.toml")]) == 2
    said = capsys.readouterr().err
    assert "n_noise" in said
    assert said.count("\n") == 1
