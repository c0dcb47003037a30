"""Which columns of a table are chosen: each of `event, x, y, t` its own."""

import numpy as np
import pytest
from hit_files import CSV_ROWS, KINDS, ROWS, assert_refused, lists_of, read, rows_of, run_command, write_lists


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": "y"}, "column y is chosen for x and for y"),
        ({"t": "event"}, "column event is chosen for event and for t"),
        ({"event": "x"}, "column x is chosen for event and for x"),
        ({"event": "event,x"}, "column x is chosen for event and for x"),
        ({"event": "event,event"}, "event, event number the events; each column once expected"),
    ],
)
def test_choose_columns_one_column_for_two_raises(tmp_path, columns, words):
    (tmp_path / "a.csv").write_text("event,x,y,t\n" + CSV_ROWS)
    assert_refused(tmp_path / "a.csv", words, columns=columns)


@pytest.mark.parametrize("kind", KINDS)
def test_choose_columns_of_events_may_be_called_x_where_hits_are_not(tmp_path, capsys, kind):
    lists = {f"pos_{name}": lists_of(ROWS[:, axis + 1]) for axis, name in enumerate("xyt")}
    of_events = {name: np.arange(3) + 0.5 for name in "xyt"}
    path = write_lists(tmp_path / f"a{kind}", lists, {"event": np.array([2, 5, 9]), **of_events})
    columns = {name: f"pos_{name}" for name in "xyt"}
    events = read(path, columns=columns)
    assert np.array_equal(rows_of(events), ROWS)
    assert {name: events.event_columns[f"{name}_"].tolist() for name in "xyt"} == {
        name: [0.5, 1.5, 2.5] for name in "xyt"
    }
    words = [word for name in "xyt" for word in (f"--columns.{name}", f"pos_{name}")]
    assert run_command(capsys, "convert", path, tmp_path / f"b{kind}", *words)[0] == 0
    again = read(tmp_path / f"b{kind}", columns=columns)
    assert np.array_equal(rows_of(again), ROWS)
    assert again.event_columns["x_"].tolist() == [0.5, 1.5, 2.5]
