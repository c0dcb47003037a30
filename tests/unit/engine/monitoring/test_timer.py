"""The execution timer."""

import threading
import time

import pytest

from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.runs.timeline import read_timeline


class Interrupted(Exception):
    """What goes wrong inside a context."""


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def brief(span):
    return span.name, span.depth, span.closed_at_exit


@pytest.mark.backlog("B37")
def test_span_nested_lasts_as_long_as_it_did():
    with Timer() as timer:
        before = time.perf_counter()
        with timer.span("epoch"):
            for _ in range(2):
                with timer.span("train"):
                    time.sleep(0.02)
        elapsed = time.perf_counter() - before
    assert [brief(span) for span in timer.spans] == [("epoch", 0, False), ("train", 1, False), ("train", 1, False)]
    epoch, first, second = timer.spans
    assert 0 <= epoch.start_s <= first.start_s < first.stop_s <= second.start_s < second.stop_s <= epoch.stop_s
    assert first.stop_s - first.start_s >= 0.02
    assert epoch.stop_s - epoch.start_s <= elapsed
    totals = timer.totals()
    assert {name: total.count for name, total in totals.items()} == {"epoch": 1, "train": 2}
    assert totals["epoch"].seconds >= totals["train"].seconds >= 0.04
    assert timer.problems == {}


@pytest.mark.backlog("B39")
def test_stop_without_start_is_counted():
    with Timer() as timer:
        timer.stop("never started")
        timer.stop("never started")
        timer.start("a")
        timer.start("a")  # nested in the first
        timer.start("left open")
        timer.stop("a")
        timer.stop("a")
        timer.stop("a")
        with timer.span("stopped by hand"):
            timer.stop("stopped by hand")
    assert timer.problems == {"never started": 2, "a": 1, "stopped by hand": 1}
    assert [brief(span) for span in timer.spans] == [
        ("a", 0, False),
        ("a", 1, False),
        ("left open", 2, True),
        ("stopped by hand", 1, False),
    ]
    outer, inner, *_ = timer.spans
    assert outer.stop_s >= inner.stop_s >= inner.start_s >= outer.start_s


@pytest.mark.backlog("B38", "B39")
@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt, SystemExit])
def test_timer_unexpected_end_closes_all_spans(error):
    started, may_end = threading.Event(), threading.Event()

    def work(timer):
        timer.start("work")
        started.set()
        may_end.wait()

    with pytest.raises(error), Timer() as timer:
        thread = threading.Thread(target=work, args=(timer,), name="worker")
        thread.start()
        started.wait()
        timer.start("epoch")
        with timer.span("train"):
            timer.start("step")
            raise error
    may_end.set()
    thread.join()
    found = {span.name: span for span in timer.spans}
    flags = {name: span.closed_at_exit for name, span in found.items()}
    assert flags == {"work": True, "epoch": True, "train": False, "step": True}
    assert all(span.stop_s >= span.start_s for span in found.values())
    assert (found["work"].thread, found["work"].depth) == ("worker", 0)
    assert found["step"].depth == 2
    assert timer.problems == {}


def test_timer_threads_do_not_disturb_each_other():
    def work(timer):
        for _ in range(200):
            with timer.span("outer"), timer.span("inner"):
                timer.stop("of another thread")

    with Timer() as timer:
        timer.start("of another thread")
        threads = [threading.Thread(target=work, args=(timer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {name: total.count for name, total in timer.totals().items()} == {
        "outer": 800,
        "inner": 800,
        "of another thread": 1,
    }
    assert timer.problems == {"of another thread": 800}
    assert {span.depth for span in timer.spans if span.name == "outer"} == {0}
    assert {span.depth for span in timer.spans if span.name == "inner"} == {1}


@pytest.mark.backlog("B37")
def test_timer_off_stands_in_for_a_real_one(tmp_path):
    with Timer(enabled=False) as timer:
        with timer.span("a"):
            timer.start("b")
        timer.stop("c")
        with pytest.raises(Interrupted), timer.span("a"):
            raise Interrupted
    assert timer.spans == []
    assert timer.totals() == timer.problems == {}
    assert read_timeline(timer.save(tmp_path / "timeline.json")).spans == []


def test_timer_most_spans_bounds_memory(tmp_path):
    with Timer(most_spans=3) as timer:
        for _ in range(10):
            with timer.span("a"):
                pass
    assert len(timer.spans) == 3
    assert timer.totals()["a"].count == 10
    assert read_timeline(timer.save(tmp_path / "timeline.json")).n_not_kept == 7
    with pytest.raises(ValueError, match="most_spans is -1, must not be negative"):
        Timer(most_spans=-1)


@pytest.mark.backlog("B39")
def test_save_timeline_comes_back_with_open_spans(tmp_path):
    with Timer() as timer:
        timer.stop('odd "name"\n')
        with timer.span("é"):
            timer.start("open")
            path = timer.save(tmp_path / "timeline.json")
        assert path == tmp_path / "timeline.json"
        early = read_timeline(path)
        assert [(span.name, span.stop_s) for span in early.spans] == [("é", None), ("open", None)]
        assert early.problems == {'odd "name"\n': 1}
        assert early.totals == {}
    timeline = read_timeline(timer.save(path))
    assert timeline.spans == timer.spans
    assert timeline.totals == timer.totals()
    assert timeline.n_not_kept == 0
    assert files_in(tmp_path) == ["timeline.json"]
