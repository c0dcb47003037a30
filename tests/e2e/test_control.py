"""How a run ends or waits when asked to, and what it leaves when it fails."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from full_disk import LIMITED
from places import ROOT
from small_run import (  # noqa: F401 (fixtures)
    DETECTOR,
    RECIPE,
    STEPS,
    assert_same,
    config,
    folder,
    inside,
    newest,
    programs,
    resumed,
    stopping_after,
    whole,
)

from tofae_jax.cli import app
from tofae_jax.config import Config, parse_duration, read_toml
from tofae_jax.data import batches
from tofae_jax.engine.build import RunSetup
from tofae_jax.engine.checkpoints import SaveError
from tofae_jax.engine.load import load_run
from tofae_jax.engine.monitoring.callbacks import Callbacks
from tofae_jax.engine.monitoring.profiler import StepProfiler
from tofae_jax.engine.monitoring.recorder import Recorder, read_recording
from tofae_jax.engine.monitoring.tracker import Tracker
from tofae_jax.engine.training import control, loop, train
from tofae_jax.engine.training.control import Control
from tofae_jax.runs.folder import RunPaths, locked
from tofae_jax.runs.history import read_history
from tofae_jax.runs.record import read_record

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


PROGRESS = ("device: ", "run: ", "model: ", "epoch ")
"""beginnings of the lines that a training prints in any case"""


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_asks_and_a_second_one_interrupts(tmp_path, capfd, number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match="again"), Control(tmp_path, say=print) as asked:
        assert asked.reason_to_stop() == ""
        signal.raise_signal(number)
        assert (asked.reason_to_stop(), asked.signal) == (number.name, number)
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith(number.name)
        signal.raise_signal(number)
    assert handlers() == before


def test_handlers_that_python_does_not_know_are_no_trouble(tmp_path, monkeypatch):
    """They were installed by other code: `signal.signal` gives None for them, and does not take it."""

    installed = []

    def unknown(number, handler):
        if handler is None:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        installed.append(number)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", unknown)
        with Control(tmp_path, say=print):
            pass
    assert installed == list(SIGNALS)  # taken over, and none put back


def test_off_the_main_thread_files_and_time_still_work(tmp_path):
    before, found = handlers(), []

    def work():
        with Control(tmp_path, time_limit_s=0.05, say=found.append) as asked:
            found.append(handlers() == before)
            time.sleep(0.06)
            found.append(asked.reason_to_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True, "time limit of 0.05 s"]


def test_files_stop_and_pause(tmp_path, monkeypatch):
    (tmp_path / "STOP").touch()
    said = []
    with Control(tmp_path, began_s=time.time() + 5, say=said.append) as asked:  # the file is older than the process
        assert asked.reason_to_stop() == ""
        assert said.pop().endswith("STOP: removed, as it is older than this process")
        assert not asked.is_to_pause()
        (tmp_path / "PAUSE").touch()
        assert not asked.is_to_pause()  # it does not look at once
        monkeypatch.setattr(control, "POLL_S", 0.02)
        time.sleep(0.03)
        assert asked.is_to_pause()
        threading.Timer(0.1, (tmp_path / "PAUSE").unlink).start()
        assert 0.08 < asked.wait_while_paused() < 5
        assert not asked.is_to_pause()
        (tmp_path / "PAUSE").touch()
        threading.Timer(0.1, (tmp_path / "STOP").touch).start()
        asked.wait_while_paused()
        assert asked.reason_to_stop() == "STOP file"
        assert not (tmp_path / "STOP").exists()
        assert asked.reason_to_stop() == "STOP file"  # and stays so
    assert str(tmp_path / "PAUSE") in said[0]


def test_stop_file_touched_while_a_run_starts_is_obeyed(tmp_path):
    began_s = time.time() - 5
    (tmp_path / "STOP").touch()
    with Control(tmp_path, began_s=began_s, say=print) as asked:
        assert asked.reason_to_stop() == "STOP file"
    (tmp_path / "STOP").touch()
    with Control(tmp_path, say=print) as asked:  # of a new run, whose folder is no older
        assert asked.reason_to_stop() == "STOP file"


def test_folders_named_stop_and_pause_are_told_and_ask_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "POLL_S", 0.0)
    said = []
    (tmp_path / "STOP").mkdir()
    (tmp_path / "PAUSE").mkdir()
    with Control(tmp_path, began_s=time.time() + 5, say=said.append) as asked:
        for _ in range(3):
            assert asked.reason_to_stop() == "" and not asked.is_to_pause()
    assert [line.partition(": ")[2] for line in said] == [
        "is a folder, which asks for nothing; a file of that name does"
    ] * 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("30m", 1800), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("1h0.5m1s", 3631), ("0s", 0)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "m", "30 m", "1h30", "-1h", "1d", "1h-30m", "1e3s", ".h", "nan", "30M"])
def test_a_bad_time_limit_is_the_user_s_mistake(text, capsys):
    assert app.main(["train", f"--train.time-limit={text}"]) == 2
    said = capsys.readouterr().err
    assert "time_limit must look like 30m" in said
    assert repr(text) in said


@pytest.mark.slow
def test_a_run_stops_at_its_time_limit_and_goes_on(whole):
    paths, record = train.train(config(train={"time_limit": "0.001s"}))
    assert (record.status, record.reason, record.results["steps"]) == ("stopped", "time limit of 0.001 s", 1)
    assert resumed(paths, train={"time_limit": ""}).status == "finished"
    assert_same(paths, whole("plain"))


@pytest.mark.slow
def test_a_run_pauses_and_stops_by_file_and_is_the_same(whole, monkeypatch, capsys, messages):
    """As a user would, from outside; here from where an epoch is reported."""
    alone = whole("plain")  # trained before anything is changed
    monkeypatch.setattr(control, "POLL_S", 0.0)
    real, waits, spans = Callbacks.epoch, Control.wait_while_paused, []

    def waited(self):  # the user sees that it waits; removed sooner, the file might not have been noticed
        threading.Timer(0.6, (self._folder / "PAUSE").unlink).start()
        return waits(self)

    def reported(self, end):
        real(self, end)
        run = self._paths.folder
        if end.record["epoch"] == 1:
            (run / "PAUSE").touch()
            spans.append(time.monotonic())
        elif end.record["epoch"] == 2:
            spans.append(time.monotonic())
            (run / "STOP").touch()

    monkeypatch.setattr(Callbacks, "epoch", reported)
    monkeypatch.setattr(Control, "wait_while_paused", waited)
    paths, record = train.train(config())
    assert spans[1] - spans[0] > 0.6
    assert f"remove {paths.folder / 'PAUSE'} to go on" in capsys.readouterr().err
    assert (record.status, record.reason, record.results["epochs"]) == ("stopped", "STOP file", 2)
    assert not (paths.folder / "STOP").exists()
    assert read_history(paths.metrics)[1]["time"]["train_s"] < 0.6  # the pause is not training
    resumed(paths)
    assert_same(paths, alone)


SLOW = """
import sys, time
from pathlib import Path
from tofae_jax.cli import app
from tofae_jax.engine.training.control import Control

real = Control.is_to_pause
def slowly(self):
    (Path.cwd() / "ready").touch()
    time.sleep(0.1)
    return real(self)
Control.is_to_pause = slowly
if "--slow-end" in sys.argv:
    sys.argv.remove("--slow-end")
    def end(*_):
        (Path.cwd() / "ending").touch()
        time.sleep(60)
    import tofae_jax.engine.training.train
    tofae_jax.engine.training.train.finish_run = end
sys.exit(app.main(sys.argv[1:]))
"""


def test_the_recipe_says_the_same_as_the_settings(tmp_path):
    (tmp_path / "a.toml").write_text(RECIPE)
    assert read_toml(tmp_path / "a.toml", Config) == config()


@pytest.fixture
def program(tmp_path, folder):
    """Start a slow training in a process of its own, and wait until it is in its first steps."""
    (tmp_path / "d").symlink_to(folder / "d")
    started = []

    def start(*words, until="ready"):
        (tmp_path / "a.toml").write_text(RECIPE)
        command = [sys.executable, "-c", SLOW, "train", "--config", "a.toml", *words]
        log = (tmp_path / "log.txt").open("wb")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, env=environment)
        log.close()
        started.append(process)
        deadline = time.monotonic() + 120
        while not (tmp_path / until).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def only_run(place):
    [run] = (place / "runs").iterdir()
    return RunPaths(run)


@pytest.mark.slow
@pytest.mark.backlog("B54", "B38", "B52")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_in_good_order(program, tmp_path, number, code, whole):
    plots = "save" if number == signal.SIGINT else "none"
    process = program("--train.plots", plots)
    process.send_signal(number)
    assert process.wait(timeout=120) == code
    paths = only_run(tmp_path)
    record = read_record(paths.folder)[1]
    assert (record.status, record.reason) == ("stopped", number.name)
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in log
    assert f"train --resume {paths.folder} goes on" in log
    assert record.run_id in paths.summary.read_text()
    meta = newest(paths)
    assert meta.partial_epoch is not None
    assert 0 < meta.batches_delivered == record.results["steps"] < STEPS
    if plots == "save":
        assert {"curves.png", "outputs.png", "event_1_stages.png"} <= {path.name for path in paths.plots.iterdir()}
        drawn = [line for line in log.splitlines() if line.startswith(("plotting: ", "plots saved: "))]
        *named, said = drawn  # a figure is named before it is made, and all are said to be saved after
        figures = [path for path in paths.plots.iterdir() if path.suffix == ".png"]
        assert said == f"plots saved: {len(figures)}, in {paths.plots}"
        assert len({line for line in named if line.startswith("plotting: ")}) == len(named) == len(figures)
        assert not set("\x1b\r") & set(log)  # no signs for a terminal where there is none
    assert resumed(paths, train={"plots": "none"}).status == "finished"
    losses = [[epoch["train"]["loss"] for epoch in read_history(p.metrics)] for p in (paths, whole("plain"))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # compiled otherwise


@pytest.mark.slow
@pytest.mark.backlog("B38")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_run_at_once(program, tmp_path, number, code):
    process = program("--slow-end", "--train.epochs=1", until="ending")
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=20) == code  # not the 60 s that its end would take
    paths = only_run(tmp_path)
    record = read_record(paths.folder)[1]
    assert (record.status, record.reason) == ("stopped", f"{number.name} again")
    assert newest(paths).epoch == 1
    assert resumed(paths).results["epochs"] == 1


SAVING = """
import os, signal, sys, threading
import orbax.checkpoint as ocp
from tofae_jax.cli import app

real, numbers = ocp.CheckpointManager.save, [getattr(signal, name) for name in sys.argv[1].split(",")]
def save(self, *words, **rest):
    def send():
        while numbers:
            os.kill(os.getpid(), numbers.pop(0))
            pause.wait(0.02)
    pause = threading.Event()
    threading.Thread(target=send).start()
    return real(self, *words, **rest)
ocp.CheckpointManager.save = save
sys.exit(app.main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "code"),
    [("SIGTERM,SIGTERM", 143), ("SIGTERM,SIGINT", 130), ("SIGHUP,SIGTERM", 143)],
)
def test_two_signals_while_a_checkpoint_is_saved_give_one_line(tmp_path, folder, numbers, code):
    (tmp_path / "d").symlink_to(folder / "d")
    (tmp_path / "a.toml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-c", SAVING, numbers, "train", "--config", "a.toml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith(PROGRESS)]
    first, second = numbers.split(",")
    assert said == [
        f"{first}: finishing this step, saving and writing all outputs; once more stops at once",
        "tofae_jax: interrupted",
    ]
    paths = only_run(tmp_path)
    assert read_record(paths.folder)[1].reason == f"{second} again"
    assert [path.name for path in paths.checkpoints.iterdir() if "tmp" in path.name] == []
    assert resumed(paths).results["epochs"] == 3


def test_an_interrupt_before_the_first_step_is_recorded_with_a_reason(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunSetup, "fresh_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(config(runs={"name": "early"}))
    [run] = Path("runs").glob("early-*")
    record = read_record(run)[1]
    assert record.status == "stopped"
    assert record.reason


@pytest.mark.slow
def test_stop_and_signals_while_a_run_prepares_are_not_lost(monkeypatch):
    """Making the state takes seconds: a STOP file of that time is for this run."""
    fresh = RunSetup.fresh_state

    def stop(self):
        (run,) = Path("runs").glob("preparing-*")
        (run / "STOP").touch()
        return fresh(self)

    monkeypatch.setattr(RunSetup, "fresh_state", stop)
    monkeypatch.setattr(control, "POLL_S", 0.0)
    _, record = train.train(config(runs={"name": "preparing"}))
    assert (record.status, record.reason) == ("stopped", "STOP file")


@pytest.mark.slow
@pytest.mark.backlog("B38", "B39", "B54")
@pytest.mark.parametrize("where", ["step", "input", "recorder"])
def test_whatever_fails_everything_is_closed_and_the_reason_kept(monkeypatch, where):
    opened, before = {}, handlers()
    for kind in (Tracker, Recorder, StepProfiler):
        real = kind.__enter__
        monkeypatch.setattr(kind, "__enter__", lambda self, real=real, kind=kind: opened.setdefault(kind, real(self)))

    def broken(*_, **__):
        raise RuntimeError("the cat sat on the keyboard")

    every = {"record_every": 1, "timer": True, "profile_steps": 50, "profile_first_step": STEPS + 1}
    c = config(runs={"name": f"broken-{where}"}, instruments=every)
    if where == "step":
        real_look = loop.Loop._fetch_metrics
        monkeypatch.setattr(
            loop.Loop, "_fetch_metrics", lambda self, *rest: broken() if self.history else real_look(self, *rest)
        )
    elif where == "input":
        real_item = batches.TrainSource.__getitem__
        monkeypatch.setattr(
            batches.TrainSource, "__getitem__", lambda self, i: real_item(self, i) if i < 10 else broken()
        )
    else:
        monkeypatch.setattr(Recorder, "flush", broken)
    with pytest.raises(RuntimeError, match="the cat sat on the keyboard"):
        train.train(c)
    [run] = Path("runs").glob(f"broken-{where}-*")
    paths, record = read_record(run)
    assert record.status == record.sessions[-1].status == "failed"
    assert record.reason == "RuntimeError: the cat sat on the keyboard"
    assert record.ended
    assert opened[Tracker]._file is None
    assert not opened[StepProfiler].is_active
    assert not opened[Recorder]._is_open
    spans = json.loads(paths.timeline.read_text())["spans"]
    assert {span["name"] for span in spans} >= {"training", "validation", "checkpoint", "tracking"}
    assert all(span["stop_s"] is not None for span in spans)
    assert handlers() == before
    with locked(paths):
        pass
    if where != "recorder":
        assert set(read_recording(paths.recordings)) == {1}
        assert load_run(run).epoch == 1


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_fails_the_run_in_one_line(monkeypatch, capsys, whole):
    """From the second epoch on, and of what is there already nothing is lost."""
    import orbax.checkpoint as ocp

    real = ocp.CheckpointManager.save

    def full(self, number, **rest):
        if number > STEPS:
            raise OSError(28, "No space left on device")
        return real(self, number, **rest)

    said = r"full-.*checkpoints: a checkpoint could not be written: .*No space left"
    with monkeypatch.context() as patch, pytest.raises(SaveError, match=said):
        patch.setattr(ocp.CheckpointManager, "save", full)
        train.train(config(runs={"name": "full"}))
    [run] = Path("runs").glob("full-*")
    assert read_record(run)[1].status == "failed"
    assert load_run(run).epoch == 1
    resumed(RunPaths(run))
    assert_same(RunPaths(run), whole("plain"))


@pytest.mark.slow
def test_a_full_disk_fails_the_run_in_one_line(tmp_path, folder):
    """Files may have 40 kB: enough for all but the arrays of a checkpoint."""
    (tmp_path / "d").symlink_to(folder / "d")
    (tmp_path / "a.toml").write_text(RECIPE)
    command = [sys.executable, "-c", LIMITED, "40000", "train", "--config", "a.toml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    record = read_record(only_run(tmp_path).folder)[1]
    assert record.status == "failed"
    assert "SaveError" in record.reason
    [line] = [line for line in done.stderr.splitlines() if not line.startswith(PROGRESS)]
    paths = only_run(tmp_path)
    assert line == f"tofae_jax: {paths.checkpoints}: a checkpoint could not be written: File too large"
    assert list(paths.checkpoints.iterdir()) == []
    assert resumed(paths).results["epochs"] == 3


@pytest.mark.slow
def test_a_metric_that_does_not_exist_is_refused_before_training(capsys, monkeypatch):
    before = set(Path("runs").glob("*"))
    monkeypatch.setattr(loop.Loop, "_fetch_metrics", lambda *_: pytest.fail("steps were trained"))
    words = [f"--detector.{k.replace('_', '-')}={v}" for k, v in DETECTOR.items()]
    for metric in ("masked.f2", "masked", "unmasked.f1"):
        assert app.main(["train", *words, "--data.path=d", "--train.batch=16", f"--checkpoints.metric={metric}"]) == 2
        said = capsys.readouterr().err
        assert "checkpoints.metric" in said
        assert repr(metric) in said
    assert set(Path("runs").glob("*")) == before
