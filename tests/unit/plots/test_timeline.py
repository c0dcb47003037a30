"""Figure of a timeline."""

import io
import math
import types

import numpy as np
import pytest
from matplotlib.image import imread

from tofae_jax import plots
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.runs.timeline import Span, read_timeline


def span(name, start_s, stop_s, closed_at_exit=False):
    return Span(name=name, start_s=start_s, stop_s=stop_s, depth=0, thread="t", closed_at_exit=closed_at_exit)


def drawn(figure):
    """The figure as a file, and its rows: label, first and last x of each bar by hatch."""
    with plots.style.style():
        figure.savefig(buffer := io.BytesIO(), format="png")
    assert imread(io.BytesIO(buffer.getvalue()))[..., :3].std() > 0.01  # a blank page has none
    axes = figure.axes[0]
    bars = {}
    for collection in axes.collections:
        extents = [path.get_extents() for path in collection.get_paths()]
        bars[collection.get_label(), collection.get_hatch() or ""] = [(box.x0, box.x1) for box in extents]
    return bars, [label.get_text().split("\n") for label in axes.get_yticklabels()]


def notes(figure):
    return "" if figure._supxlabel is None else figure._supxlabel.get_text()


@pytest.mark.backlog("B37", "B39")
def test_timer_timeline_shows_spans_in_rows_of_their_names():
    spans = [span("train", 1, 5), span("load", 0, 1), span("train", 6, 8), span("validate", 5, 6)]
    bars, labels = drawn(plots.timer_timeline(spans, title="a run"))
    assert bars == {("load", ""): [(0, 1)], ("train", ""): [(1, 5), (6, 8)], ("validate", ""): [(5, 6)]}
    assert labels == [["load", "1 × 1 s = 1 s"], ["train", "2 × 3 s = 6 s"], ["validate", "1 × 1 s = 1 s"]]


@pytest.mark.backlog("B39")
def test_timer_timeline_spans_without_end_are_hatched():
    spans = [span("a", 0, 2), span("a", 3, 4, True), span("b", 1, None), span("b", 2, math.nan)]
    figure = plots.timer_timeline(spans)
    bars, _ = drawn(figure)
    assert bars == {("a", ""): [(0, 2)], ("a", "/////"): [(3, 4)], ("b", "....."): [(1, 4), (2, 4)]}
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["closed at exit", "not closed"]
    assert plots.timer_timeline(spans[:1]).axes[0].get_legend() is None


@pytest.mark.backlog("B37", "B39")
@pytest.mark.parametrize(
    ("spans", "note"),
    [
        ([], ""),
        ([span("a", math.nan, 1)], "1 span has no usable times"),
        ([span("a", math.inf, 1), span("b", 3, 2), span("c", -math.inf, None)], "3 spans have no usable times"),
        ([span("a", math.nan, math.nan), span("a", 1e300, 2e300)], "2 spans have no usable times"),
    ],
)
def test_timer_timeline_of_nothing_says_so(spans, note):
    figure = plots.timer_timeline(spans)
    assert drawn(figure) == ({}, [])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no spans"]
    assert notes(figure) == note


@pytest.mark.slow
@pytest.mark.backlog("B37", "B39")
@pytest.mark.parametrize(
    ("spans", "n_rows"),
    [
        ([span("one", 0.5, 0.75)], 1),
        ([span("no length", 0, 0)], 1),
        ([span("no length", 1e9, 1e9), span("no length", 1e9, 1e9)], 1),
        ([span("open and alone", 3, None)], 1),
        ([span("tiny", 5e-324, 1e-320)], 1),
        ([span("long", -1e9, 1e9), span("short", 0, 1e-9)], 2),
        ([span("bad", math.nan, 1), span("good", 0, 1)], 1),
        ([span("$x_{$", 0, 1), span("", 1, 2), span("a\nb\x00\ud800", 2, 3), span("$" * 999, 3, 4)], 4),
        ([span(f"name {i % 5}", i * 1e-3, i * 1e-3 + 1e-4 * (i % 7), i % 999 == 0) for i in range(5000)], 5),
        ([span(f"name {i}", 0, i) for i in range(3000)], 30),
    ],
    ids=lambda value: value if isinstance(value, int) else value[0].name[:20].strip("$\n\x00") or "names",
)
def test_timer_timeline_odd_spans_are_drawn(spans, n_rows):
    _, labels = drawn(plots.timer_timeline(spans))
    assert len(labels) == n_rows
    assert max(len(line) for label in labels for line in label) <= 40


def test_timer_timeline_longest_names_are_kept():
    figure = plots.timer_timeline([span(f"name {i}", 0, i) for i in range(100)])
    _, labels = drawn(figure)
    assert {label[0] for label in labels} == {f"name {i}" for i in range(70, 100)}
    assert notes(figure) == "70 more names took no longer"


@pytest.mark.backlog("B37", "B39")
def test_timer_timeline_values_of_other_types_are_left_out():
    odd = types.SimpleNamespace(name=None, start_s="?", stop_s=[], closed_at_exit=None)
    whole = types.SimpleNamespace(name=3, start_s=np.float32(1), stop_s=np.int64(2), closed_at_exit=0)
    bars, labels = drawn(plots.timer_timeline([odd, whole]))
    assert bars == {("3", ""): [(1, 2)]}
    assert labels == [["3", "1 × 1 s = 1 s"]]


def test_timer_timeline_of_a_timer_equals_that_of_its_file(tmp_path):
    with Timer() as timer, timer.span("epoch"), timer.span("train"):
        timer.start("open")
    bars, _ = drawn(plots.timer_timeline(timer.spans))
    assert list(bars) == [("epoch", ""), ("train", ""), ("open", "/////")]
    assert drawn(plots.timer_timeline(read_timeline(timer.save(tmp_path / "t.json")).spans))[0] == bars
