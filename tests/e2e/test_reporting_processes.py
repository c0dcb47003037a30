"""Runs that report and are killed, and servers that show them: real files, processes and kills."""

import contextlib
import http.client
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from event_files import accumulated
from places import ROOT

from tofae_jax.engine.monitoring import dashboard
from tofae_jax.engine.monitoring.dashboard import start_dashboard
from tofae_jax.engine.monitoring.tracker import Tracker
from tofae_jax.runs.history import read_history

WRITER = """
import os, sys
from pathlib import Path
from tofae_jax.engine.monitoring.tracker import Tracker

folder, first, last, value, padding, resumed_after, with_events, limit = sys.argv[1:]
if int(limit):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
folder, events = Path(folder), Path(folder) / "tb" if int(with_events) else None
try:
    with Tracker(folder / "m.jsonl", events, resumed_after=eval(resumed_after)) as tracker:
        for epoch in range(int(first), int(last) + 1):
            tracker.epoch({"epoch": epoch, "train": {"loss": float(value)}, "padding": "x" * int(padding),
                           "zeros": dict.fromkeys("abcdef", 0)})
            os.write(1, f"{epoch}\\n".encode())
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def writer(folder, *, first=1, last=10**9, value=1.0, padding=10, resumed_after=None, with_events=False, limit=0):
    """A process that reports epochs and prints the number of each that it has reported."""
    options = (folder, first, last, value, padding, resumed_after, int(with_events), limit)
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )


def kill_after(process, n_epochs, then_s=0.0):
    """Let a writer report some epochs, and some time more; returns the last epoch that it says it reported."""
    for _ in range(n_epochs):
        assert process.stdout.readline(), process.stderr.read()
    time.sleep(then_s)
    process.kill()
    reported, _ = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL
    whole = reported.split(b"\n")[:-1]
    return int(whole[-1]) if whole else n_epochs


def finish(process):
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said.decode()


def epochs_of(folder):
    return [record["epoch"] for record in read_history(folder / "m.jsonl")]


@pytest.mark.slow
@pytest.mark.backlog("B38")
def test_tracker_killed_at_any_moment_leaves_whole_epochs(tmp_path):
    moments = random.Random(5)
    for i in range(5):
        folder = tmp_path / str(i)
        folder.mkdir()
        process = writer(folder, padding=20_000)  # more than any buffer between us and the system
        reported = kill_after(process, 3, moments.uniform(0, 0.05))
        content = (folder / "m.jsonl").read_bytes()
        written = epochs_of(folder)
        assert written in (list(range(1, reported + 1)), list(range(1, reported + 2)))
        with Tracker(folder / "m.jsonl", None, resumed_after=2) as tracker:
            for epoch in range(3, written[-1] + 3):
                tracker.epoch({"epoch": epoch})
        assert (folder / "m.jsonl").read_bytes().startswith(content[: content.rfind(b"\n") + 1])
        assert epochs_of(folder) == list(range(1, written[-1] + 3))


@pytest.mark.backlog("B38")
@pytest.mark.parametrize("with_events", [False, True])
def test_tracker_full_disk_names_the_file(tmp_path, with_events):
    # without padding the events take more than the lines, which are full first otherwise
    padding = 0 if with_events else 800
    process = writer(tmp_path, padding=padding, with_events=with_events, limit=5000)
    _, said = process.communicate(timeout=20)  # it ends: tensorboardX's own writer waits for ever here
    assert process.returncode == 1
    name = "events.out.tfevents" if with_events else "m.jsonl"
    last_line = said.decode().splitlines()[-1]
    assert last_line.startswith("OSError: ")
    assert "File too large" in last_line
    assert str(tmp_path) in last_line
    assert name in last_line
    assert (tmp_path / "m.jsonl").read_bytes().endswith(b"}\n")  # the line that did not fit left nothing
    written = epochs_of(tmp_path)
    assert written == list(range(1, len(written) + 1))
    if with_events:
        steps = [event.step for event in accumulated(tmp_path / "tb").Scalars("train/loss")]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) >= len(written) - 1
    else:
        assert len(written) == 5


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run killed at a random moment past epoch 9, resumed by a second process after epoch 3, ended at epoch 8."""
    folder = tmp_path_factory.mktemp("resumed")
    reported = kill_after(writer(folder, value=1.0, with_events=True), 9, random.Random(1).uniform(0, 0.02))
    before = (folder / "m.jsonl").read_bytes()
    finish(writer(folder, first=4, last=8, value=2.0, resumed_after=3, with_events=True))
    with Tracker(folder / "m.jsonl", folder / "tb", resumed_after=8) as tracker:
        tracker.hyperparameters(
            {
                "seed": 5,
                "jit": True,
                "optimiser": {"learning_rate": np.float32(0.5), "schedule": "cosine", "betas": [0.9, 0.99]},
                "model": {"width": None, "extra": {}},
                "bound": math.inf,
            },
            {"f1": 0.75, "test": {"loss": np.float64(0.25), "bad": math.nan}, "names": ["a"], "n": 3},
        )
    return SimpleNamespace(folder=folder, events=folder / "tb", before=before, reported=reported)


@pytest.mark.backlog("B38", "B40")
def test_tracker_killed_and_resumed_has_each_epoch_once(resumed):
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    assert len(list(resumed.events.iterdir())) == 3
    assert resumed.reported >= 9
    assert (resumed.folder / "m.jsonl").read_bytes() == resumed.before
    assert epochs_of(resumed.folder) == list(range(1, len(epochs_of(resumed.folder)) + 1))
    read = accumulated(resumed.events)
    expected = [(epoch, 1.0 if epoch <= 3 else 2.0) for epoch in range(1, 9)]
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == expected
    slow = EventAccumulator(str(resumed.events), size_guidance={"tensors": 0})  # the server's, without its fast half
    slow.Reload()
    points = slow.Tensors("train/loss")
    assert [(event.step, event.tensor_proto.float_val[0]) for event in points] == expected


needs_tensorboard = pytest.mark.skipif(
    dashboard.importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)


def ask(address, path, body=None):
    """What a server answers, read as JSON."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        return json.loads(connection.getresponse().read())


def ask_until(is_right, address, path, body=None):
    """The same, asked again while the server still reads its files."""
    for _ in range(100):
        answer = ask(address, path, body)
        if is_right(answer):
            return answer
        time.sleep(0.1)
    pytest.fail(f"{path}: {answer}")


def answers(address):
    host, port = urlsplit(address).netloc.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@needs_tensorboard
@pytest.mark.backlog("B36", "B40")
def test_start_dashboard_one_server_ends_with_its_owner(resumed, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked
    said, started = [], []

    def start():
        started.append(start_dashboard(resumed.events, headless_too=True, say=said.append))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with contextlib.ExitStack() as stack:
        for one in started:
            stack.enter_context(one)
        (address,) = {one.address for one in started}
        (owner,) = (one for one in started if one.is_ours)
        assert sorted(said) == sorted([f"dashboard: {address}"] + [f"dashboard: {address} (was running already)"] * 2)
        pid = json.loads((resumed.events / ".dashboard.json").read_text())["pid"]
        for one in started:
            if one is not owner:
                one.close()
        assert answers(address)  # who only used it does not end it
        if dashboard.importlib.util.find_spec("tensorboard_data_server"):  # the proxy did not part it from the server
            assert "fast data loading" in (resumed.events / ".dashboard.log").read_text()
        check_what_the_browser_gets(address)
        owner.close()
        assert not answers(address)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not [path for path in resumed.events.iterdir() if "tfevents" not in path.name]
        owner.close()


def check_what_the_browser_gets(address):
    where = "/data/plugin/scalars/scalars?" + urlencode({"run": ".", "tag": "train/loss"})
    ask_until(lambda runs: runs == ["."], address, "/data/runs")
    steps = ask_until(lambda points: len(points) == 8, address, where)
    assert [(step, value) for _, step, value in steps] == [(n, 1.0 if n <= 3 else 2.0) for n in range(1, 9)]
    asked = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_SUCCESS"],
        "colParams": [{"metric": {"group": "", "tag": "final/f1"}, "order": "ORDER_ASC"}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    path = "/data/plugin/hparams/session_groups"
    answer = ask_until(lambda given: given.get("sessionGroups"), address, path, asked)
    (group,) = answer["sessionGroups"]
    assert group["hparams"] == {
        "seed": 5.0,
        "jit": True,
        "optimiser/learning_rate": 0.5,
        "optimiser/schedule": "cosine",
        "optimiser/betas": "[0.9, 0.99]",
        "model/width": "None",
        "model/extra": "{}",
        "bound": "inf",
    }
    metrics = {value["name"]["tag"]: (value["value"], value["trainingStep"]) for value in group["metricValues"]}
    assert metrics == {"final/f1": (0.75, 8), "final/test/loss": (0.25, 8), "final/n": (3.0, 8)}


@pytest.mark.slow
@needs_tensorboard
@pytest.mark.backlog("B36")
def test_start_dashboard_server_of_killed_run_is_used(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from tofae_jax.engine.monitoring.dashboard import start_dashboard\n"
        "kept = start_dashboard(Path(sys.argv[1]), headless_too=True, say=lambda line: print(line, flush=True))\n"
        "time.sleep(600)"
    )
    folder = tmp_path / "not there yet"
    run = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=ROOT)
    assert run.stdout is not None
    address = run.stdout.readline().decode().removeprefix("dashboard: ").strip()
    run.kill()
    run.communicate()
    state = folder / ".dashboard.json"
    content = json.loads(state.read_text())
    try:
        said = []
        again = start_dashboard(folder, headless_too=True, say=said.append)
        assert again is not None
        assert (again.address, again.is_ours) == (address, False)
        again.close()
        assert answers(address)
        assert dashboard._running(folder.resolve()) == address
        for changed in ({"pid": 2**30}, {"pid": None}, {"address": "http://127.0.0.1:9"}, {"address": 9}):
            state.write_text(json.dumps(content | changed))
            assert dashboard._running(folder.resolve()) is None, changed
        for torn in ("", "{", "3", '{"pid"'):
            state.write_text(torn)
            assert dashboard._running(folder.resolve()) is None, torn
        (tmp_path / "other").mkdir()  # a copy of the run: the server shows the first folder, not this one
        (tmp_path / "other" / ".dashboard.json").write_text(json.dumps(content))
        assert dashboard._running((tmp_path / "other").resolve()) is None
    finally:
        os.kill(content["pid"], signal.SIGTERM)


@pytest.mark.slow
@needs_tensorboard
@pytest.mark.backlog("B36")
def test_start_dashboard_dying_server_says_why(tmp_path):
    said = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert start_dashboard(tmp_path, port=port, headless_too=True, say=said.append) is None
    (line,) = said
    assert line.startswith("dashboard: not started: TensorBoard ended with exit code ")
    assert f"could not bind to port {port}" in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.backlog("B36")
def test_start_dashboard_silent_server_is_ended(tmp_path, monkeypatch):
    processes = []
    begin = subprocess.Popen

    def sleeper(command, **options):
        processes.append(begin([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        return processes[0]

    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(dashboard.subprocess, "Popen", sleeper)
    monkeypatch.setattr(dashboard, "_START_LIMIT_S", 0.3)
    said = []
    assert start_dashboard(tmp_path, headless_too=True, say=said.append) is None
    assert said == ["dashboard: not started: TensorBoard did not answer within 0 s"]
    assert processes[0].returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
