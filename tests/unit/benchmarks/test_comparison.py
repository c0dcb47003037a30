"""Comparisons of methods: good ones come out good, bad ones bad."""

import itertools
import json

import pytest
from quality_benchmark import comparison, events, methods, output


def stub_methods(_):
    def score(event, *, sign):
        return sign * event.is_signal.astype(float)

    return [
        methods.untouched(),
        methods.HitScorer("perfect", score, ({"sign": 1.0},)),
        methods.HitScorer("inverted", score, ({"sign": -1.0},), threshold=-0.5),
        methods.HitScorer("slow", score, ({"sign": 1.0},), at_reference_only=True),
        methods.ImageOutput("image", lambda event: event.signal_image, lambda event: event.signal_image),
    ]


@pytest.fixture(scope="module")
def rows():
    plan = comparison.Plan(n_events=5, n_validation=5, seed=0, repeats=1)
    points = [events.Conditions(n_noise=n) for n in (0, 200)]
    parts = comparison.compared(["v"], points, stub_methods, plan, lambda _: None)
    return list(itertools.chain.from_iterable(parts))


def test_compared_tells_good_from_bad(rows):
    f1 = {(row.method, row.conditions.n_noise): row.qualities["f1"].value for row in rows}
    assert f1["perfect", 200] == f1["perfect", 0] == f1["image", 200] == f1["slow", 200] == 1
    assert f1["inverted", 200] == 0
    assert f1["input", 200] < 0.3 < 0.95 < f1["input", 0]
    assert ("slow", 0) not in f1
    counted = {row.method: row.counted for row in rows}
    assert (counted["image"], counted["perfect"]) == ("pixels", "hits")
    assert all(row.events_per_s.low <= row.events_per_s.value <= row.events_per_s.high for row in rows)
    assert {row.noise_hits for row in rows} == {0, 200}


def test_write_all_tables_and_figures_are_written(rows, tmp_path):
    paths = output.write_all(str(tmp_path / "sub" / "name"), rows, {"seed": 0}, is_robustness=False)
    assert [path.suffix for path in paths] == [".csv", ".json", ".md", ".png"]
    lines = paths[0].read_text().splitlines()
    assert len(lines) == len(rows) + 1
    stored = json.loads(paths[1].read_text())
    assert {"rows", "options", "versions", "system"} == set(stored)
    row = next(row for row in stored["rows"] if row["method"] == "perfect" and row["n_noise"] == 200)
    assert row["f1"] == row["f1_low"] == row["f1_high"] == 1
    assert row["curve"]["efficiency"][0] == 1
    assert "| perfect | 1.000 (1.000–1.000) |" in paths[2].read_text()
    assert paths[3].read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_withstood_chooses_once_and_changes_one_thing(tmp_path):
    points = comparison.hardships((0, 200), (10, 30), (35.0,), 44)
    assert len(points) == len(set(points)) == 5
    differing = [sum(a != b for a, b in zip(point, comparison.REFERENCE, strict=True)) for point in points]
    assert sorted(differing) == [0, 1, 1, 1, 1]
    plan = comparison.Plan(n_events=5, n_validation=5, seed=0, repeats=1)
    parts = comparison.withstood(["v"], points, stub_methods, plan, lambda _: None)
    rows = list(itertools.chain.from_iterable(parts))
    assert {row.threshold for row in rows if row.method == "perfect"} == {0.5}
    paths = output.write_all(str(tmp_path / "robust"), rows, {}, is_robustness=True)
    assert "column 44 dead" in paths[2].read_text()


def test_plan_without_events_raises():
    with pytest.raises(ValueError, match="n_validation is 0, allowed: 1 or more"):
        comparison.Plan(n_events=5, n_validation=0, seed=0, repeats=1).check()
