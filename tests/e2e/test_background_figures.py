"""Figures in the background of a training: they come, they cost little, and nothing that happens to them hurts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_runs import make_run, small_views
from places import ROOT
from plotted import SMALL
from small_run import (  # noqa: F401 (fixtures)
    config,
    folder,
    inside,
    programs,
)

from tofae_jax.engine.training import train as training
from tofae_jax.runs import background_figures, figures
from tofae_jax.runs.background_figures import BackgroundPlots, draw_epoch
from tofae_jax.runs.event_views import save_views
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
OF_AN_EPOCH = {"curves.png", "curves_time.png", "threshold.png"}
OF_ITS_EVENT = {"event_1_stages.png", "event_1_3d.png"}

# stands in for the process that draws: answers at once, or does what its first argument says
FAKE = """
import json, os, signal, sys, time
how = sys.argv[1]
signal.signal(signal.SIGINT, signal.SIG_IGN)
def answer(**message):
    print(json.dumps({"tofae_jax.runs.background_figures": True, **message}), flush=True)
if how == "dead at once":
    sys.exit("ImportError: no such library")
for line in sys.stdin:
    epoch = int(line)
    print("a library says something\\n1\\nnull\\n{}", flush=True)
    answer(drawing=f"figure of {epoch}")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "slow":
        time.sleep(float(sys.argv[2]))
    answer(epoch=epoch, cpu_s=0.5, **({"error": "ValueError: no"} if how == "raises" else {"saved": 5}))
    if how == "dead later":
        sys.exit(3)
"""


@pytest.fixture
def fake(monkeypatch):
    """Another process in the place of the one that draws; gives what is said and the processes."""
    began = []

    def use(*arguments):
        def started(self):
            process = subprocess.Popen(
                [sys.executable, "-c", FAKE, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            began.append(process)
            return process

        monkeypatch.setattr(BackgroundPlots, "_started", started)
        return began

    yield use
    for process in began:
        assert process.poll() is not None  # none is left behind


@pytest.fixture
def paths(tmp_path):
    paths = make_run(tmp_path / "a")
    for epoch in (1, 2):
        save_views(paths.epoch_plots(epoch) / "data.npz", small_views(1), SMALL)
    return paths


def until(condition, seconds=60):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


def names(place):
    return {path.name for path in place.glob("*.png")}


@pytest.mark.slow
@pytest.mark.backlog("B52")
def test_the_figures_of_an_epoch_are_drawn_elsewhere(paths):
    said, noted = [], []
    with BackgroundPlots(paths, say=said.append) as plots:
        plots.note = noted.append
        assert plots.is_free
        plots.request(1)
        assert not plots.is_free
    assert names(paths.plots) == OF_AN_EPOCH
    assert names(paths.epoch_plots(1)) == OF_ITS_EVENT
    assert said == [f"plots saved: 5 of epoch 1, under {paths.plots}"]
    assert noted[0] == "plotting: training curves"
    assert len(noted) == 5
    assert plots.take_cpu_s() > 0.1
    assert plots.take_cpu_s() == 0
    assert not list(paths.folder.rglob("*.partial"))


def test_without_a_request_no_process_is_started(paths, fake):
    began = fake("fine")
    with BackgroundPlots(paths, say=print) as plots:
        assert plots.is_free
    assert began == []


@pytest.mark.slow
def test_a_figure_that_cannot_be_made_is_told_and_the_others_are_made(paths, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(figures.plots, "threshold_telemetry", broken)
    (paths.epoch_plots(2) / "data.npz").write_bytes(b"torn")
    said, warned = [], []
    assert len(draw_epoch(paths, 1, say=said.append, warn=warned.append)) == 4
    assert warned == ["left out: outputs about the threshold: RuntimeError: no ink"]
    warned.clear()
    assert len(draw_epoch(paths, 2, say=said.append, warn=warned.append)) == 2
    assert str(paths.epoch_plots(2) / "data.npz") in warned[0]


@pytest.mark.slow
def test_what_went_wrong_in_the_process_is_said(paths):
    """The real one, on a run without a record, and on a damaged event."""
    (paths.epoch_plots(2) / "data.npz").write_bytes(b"torn")
    said = []
    with BackgroundPlots(paths, say=said.append) as plots:
        plots.request(2)
        until(lambda: plots.is_free)
        paths.record.write_text("{")
        plots.request(1)
    assert said[0].startswith("figures of epoch 2: ")
    assert "data.npz" in said[0]
    assert said[1].startswith("plots saved: 3 of epoch 2")
    assert said[2].startswith("figures of epoch 1: not drawn: RunError: ")
    assert len(said) == 3


def test_a_process_that_raises_goes_on(paths, fake):
    fake("raises")
    said = []
    with BackgroundPlots(paths, say=said.append) as plots:
        for epoch in (1, 2):
            plots.request(epoch)
            until(lambda: plots.is_free)
    assert said == [f"figures of epoch {epoch}: not drawn: ValueError: no" for epoch in (1, 2)]
    assert plots.take_cpu_s() == 1


@pytest.mark.parametrize("how", ["killed", "dead at once", "dead later"])
def test_a_process_that_dies_is_named_once_and_not_asked_again(paths, fake, how):
    """Also one that has nothing to do when it is killed."""
    began = fake(how)
    said = []
    with BackgroundPlots(paths, say=said.append) as plots:
        plots.request(1)
        until(lambda: any("has died" in line for line in said))
        began[0].wait(10)
        assert not plots.is_free
        plots.request(2)  # nobody should; it does no harm
        assert not plots.is_free
    (line,) = [line for line in said if "has died" in line]
    if how == "dead at once":
        assert line.endswith("ImportError: no such library")
    assert len(began) == 1


def test_where_no_process_can_be_started_it_is_said_once(paths, monkeypatch):
    def failing(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(background_figures.subprocess, "Popen", failing)
    said = []
    with BackgroundPlots(paths, say=said.append) as plots:
        plots.request(1)
        assert not plots.is_free
    (line,) = said
    assert "Cannot allocate memory" in line


def test_slow_figures_are_given_up_in_the_end(paths, fake, monkeypatch):
    fake("slow", "60")
    monkeypatch.setattr(background_figures, "PATIENCE_S", 0.3)
    said = []
    began = time.monotonic()
    with BackgroundPlots(paths, say=said.append) as plots:
        plots.request(1)
        assert not plots.is_free
    assert time.monotonic() - began < 10
    assert said == ["figures: still being drawn after 0 s, so given up"]


def test_whoever_insists_on_leaving_does_not_wait(paths, fake):
    fake("slow", "60")
    said = []
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), BackgroundPlots(paths, say=said.append) as plots:
        plots.request(1)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 10
    assert said == []


def test_figures_under_way_are_finished_after_another_error(paths, fake):
    fake("slow", "0.3")
    said = []
    with pytest.raises(ZeroDivisionError), BackgroundPlots(paths, say=said.append) as plots:
        plots.request(1)
        raise ZeroDivisionError
    assert said == [f"plots saved: 5 of epoch 1, under {paths.plots}"]


OF_A_KILLED_RUN = """
import sys, time
from tofae_jax.runs.background_figures import BackgroundPlots
from tofae_jax.runs.folder import RunPaths
plots = BackgroundPlots(RunPaths(sys.argv[1]), say=print)
plots.request(1)
print(plots._process.pid, flush=True)
time.sleep(60)
"""


def is_running(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks up processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_process_ends_with_its_run_and_only_then(paths, number):
    """Killed, a run says nothing to it: it draws what it was asked to, and ends. Ctrl-C is not for it."""
    run = subprocess.Popen(
        [sys.executable, "-c", OF_A_KILLED_RUN, str(paths.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert run.stdout is not None
    child = int(run.stdout.readline())
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does, while the child has not even begun to listen
    else:
        run.kill()
    run.wait(30)
    run.stdout.close()
    until(lambda: not is_running(child))
    assert names(paths.epoch_plots(1)) == OF_ITS_EVENT


@pytest.mark.slow
def test_the_process_knows_no_jax(paths):
    code = "import sys; from tofae_jax.runs import background_figures as b; b.main(sys.argv[1:], sys.stdin); "
    code += "print('jax' in sys.modules)"
    paths.timeline.unlink()  # reading it takes the instruments, which load jax
    done = subprocess.run(
        [sys.executable, "-c", code, str(paths.folder)],
        input="1\n",
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    *answers, last = done.stdout.splitlines()
    assert json.loads(answers[-1])["saved"] == 5
    assert last == "False"


def drawn_run(**train):
    return training.train(config(train={"plots": "save", "plots_every": 1, "epochs": 4} | train))


@pytest.fixture
def few_figures(monkeypatch):
    """At the end of a run no figure but one: here it is about those before."""
    monkeypatch.setattr(
        "tofae_jax.engine.training.finish.run_drawings", lambda run: list(figures.curve_drawings(run))[:1]
    )


def shares(paths):
    return [record["time"].get("plots_share") for record in read_history(paths.metrics)]


@pytest.mark.slow
@pytest.mark.backlog("B19", "B52")
def test_slow_figures_are_skipped_rather_than_waited_for(few_figures, fake, capsys, messages):
    began = fake("slow", "1.5")
    paths, record = drawn_run(epochs=6)
    history = read_history(paths.metrics)
    drawn = [line["epoch"] for line in history if "plots_s" in line["time"]]
    assert drawn[0] == 1
    assert len(drawn) < 5
    assert record.status == "finished"
    assert len(began) == 1
    said = capsys.readouterr().err
    assert [f"plots saved: 5 of epoch {epoch}," in said for epoch in range(1, 7)] == [
        epoch in drawn for epoch in range(1, 7)
    ]
    told = record.results["plots_in_training"]
    times = [line["time"] for line in history]
    assert told["s"] == pytest.approx(sum(time.get("plots_s", 0) for time in times))
    assert told["share"] == pytest.approx(told["s"] / record.results["training_s"])
    assert told["background_cpu_s"] == pytest.approx(0.5 * len(drawn))
    for time_of in times:
        if "plots_s" in time_of:
            assert time_of["plots_share"] == pytest.approx(time_of["plots_s"] / time_of["epoch_s"])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_training_goes_on_whatever_happens_to_its_figures(few_figures, fake, capsys, messages, how):
    fake(how)
    paths, record = drawn_run()
    assert (record.status, record.results["epochs"]) == ("finished", 4)
    said = capsys.readouterr().err
    assert said.count("has died") == (how == "killed")
    assert said.count("not drawn: ValueError: no") == (0 if how == "killed" else sum(map(bool, shares(paths))))
    assert (paths.plots / "curves.png").exists()  # those of the end are drawn by the run itself


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"plots": "none", "plots_every": 5}, {"plots": "show", "plots_every": 5}, {"plots_every": 0}]
)
def test_nothing_is_started_where_nothing_is_to_be_saved_in_training(few_figures, fake, settings):
    began = fake("fine")
    paths, record = drawn_run(epochs=2, **settings)
    assert began == []
    assert "plots_in_training" not in record.results
    assert shares(paths) == [None, None]
    assert not list(paths.plots.glob("epoch_*"))


@pytest.mark.slow
def test_ctrl_c_ends_a_run_in_good_order_and_its_figures_too(few_figures, fake, monkeypatch, capsys, messages):
    """Sent to the whole group of processes, as a terminal does: the figures under way are finished all the same."""
    began = fake("slow", "1")
    request = BackgroundPlots.request

    def interrupting(self, epoch):
        request(self, epoch)
        if epoch == 1:
            assert os.getpgid(began[0].pid) != os.getpgid(0)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(0.2)

    monkeypatch.setattr(BackgroundPlots, "request", interrupting)
    paths, record = drawn_run(epochs=50)
    assert (record.status, record.reason) == ("stopped", "SIGINT")
    assert read_record(paths.folder)[1].results["epochs"] < 50
    said = capsys.readouterr().err
    assert "plots saved: 5 of epoch 1" in said
    assert "has died" not in said
