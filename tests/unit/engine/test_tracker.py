"""Real files, real processes, real kills: what a run reported is there afterwards, once and whole."""

import contextlib
import http.client
import io
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

import ml_dtypes
import numpy as np
import pytest
from places import ROOT

from tofae_jax.engine.monitoring import dashboard
from tofae_jax.engine.monitoring import tracker as tracking
from tofae_jax.engine.monitoring.dashboard import headless_reason, start_dashboard
from tofae_jax.engine.monitoring.tracker import Tracker, scalars, stage_image
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


def accumulated(folder):
    """All that TensorBoard keeps of the event files in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)  # 0: all of them
    read = EventAccumulator(str(folder), size_guidance=sizes)
    read.Reload()
    return read


def epochs_of(folder):
    return [record["epoch"] for record in read_history(folder / "m.jsonl")]


# metrics.jsonl


@pytest.mark.backlog("B38")
def test_a_kill_at_any_moment_leaves_every_reported_epoch_whole(tmp_path):
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


@pytest.mark.parametrize(
    ("whole", "torn"),
    [
        (b'{"epoch": 1}\n', b'{"epoch": 2, "tr'),
        (b'{"epoch": 1}\n', b'{"epoch": 2}'),  # nothing says that it ended there
        (b'{"epoch": 1}\n', b'{"name": "\xc3'),
        (b'{"epoch": 1}\n', b"\0\0\0\0"),
        (b'{"epoch": 1}\n', b""),
        (b"", b'{"ep'),
        (b"", b""),
    ],
)
def test_a_torn_last_line_is_left_out_and_cut_off_and_nothing_else(tmp_path, whole, torn):
    path = tmp_path / "m.jsonl"
    path.write_bytes(whole + torn)
    assert read_history(path) == [json.loads(line) for line in whole.splitlines()]
    assert path.read_bytes() == whole + torn
    with Tracker(path, None) as tracker:
        assert path.read_bytes() == whole
        tracker.epoch({"epoch": 2, "a": 1})
        assert path.read_bytes() == whole + b'{"epoch": 2, "a": 1}\n'


def test_a_damaged_line_is_named_and_a_missing_file_is_no_history(tmp_path):
    path = tmp_path / "m.jsonl"
    assert read_history(path) == []
    for damaged in (b"{", b"\xff", b"3", b'"epoch"', b"\0\0"):
        path.write_bytes(b'{"epoch": 1}\n' + damaged + b'\n{"epoch": 3}\n')
        with pytest.raises(ValueError, match=r"m\.jsonl: line 2 is damaged") as caught:
            read_history(path)
        assert "\n" not in str(caught.value)


@pytest.mark.backlog("B38")
@pytest.mark.parametrize("with_events", [False, True])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, with_events):
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


def test_files_that_cannot_be_opened_are_named_and_leave_nothing_open(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere"), Tracker(tmp_path / "nowhere" / "m.jsonl", None):
        pass
    with pytest.raises(IsADirectoryError), Tracker(tmp_path, None):
        pass
    (tmp_path / "file").write_text("")
    opened = []
    monkeypatch.setattr(tracking, "_open_lines", lambda path: opened.append(path.open("ab", buffering=0)) or opened[0])
    with pytest.raises(FileExistsError, match="file"), Tracker(tmp_path / "m.jsonl", tmp_path / "file"):
        pass
    assert opened[0].closed


@pytest.mark.backlog("B38")
@pytest.mark.parametrize("broken", ["lines", "events", "both"])
def test_both_writers_are_closed_when_the_run_fails_and_closing_fails(tmp_path, monkeypatch, broken):
    closed = []

    class Lines(io.FileIO):
        def close(self):
            if not self.closed:
                super().close()
                closed.append("lines")
                if broken != "events":
                    raise OSError("lines do not close")

    close_events = tracking._EventFile.close

    def close(events):
        close_events(events)
        closed.append("events")
        if broken != "lines":
            raise OSError("events do not close")

    monkeypatch.setattr(tracking, "_open_lines", lambda path: Lines(path, "ab"))
    monkeypatch.setattr(tracking._EventFile, "close", close)
    with (
        pytest.raises(OSError, match="do not close") as caught,
        Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker,
    ):
        tracker.epoch({"epoch": 1, "loss": 0.5})
        raise RuntimeError("on purpose")
    assert sorted(closed) == ["events", "lines"]
    errors = []
    error = caught.value
    while error is not None:
        errors.append(str(error))
        error = error.__context__
    assert errors[-1] == "on purpose"  # what went wrong first is not lost
    assert len(errors) == (3 if broken == "both" else 2)
    with pytest.raises(RuntimeError, match="not open"):
        tracker.epoch({"epoch": 2})
    assert epochs_of(tmp_path) == [1]
    assert accumulated(tmp_path / "tb").Scalars("loss")[0].value == 0.5


# what may be reported


@pytest.mark.backlog("B50", "B40", "B38")
def test_metrics_reach_the_file_and_tensorboard_and_survive_an_error(tmp_path):
    def fail(tracker):
        tracker.epoch({"epoch": 1, "validation": {"masked": {"f1": 0.5, "ints": 3}}, "bad": float("nan")})
        tracker.epoch({"epoch": 2, "validation": None, "train": {"loss": 0.25}, "time": {"epoch_s": 2}})
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError), Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        fail(tracker)
    history = read_history(tmp_path / "m.jsonl")
    assert [record["epoch"] for record in history] == [1, 2]
    assert history[0]["bad"] is None
    read = accumulated(tmp_path / "tb")
    assert set(read.Tags()["scalars"]) == {
        "validation/masked/f1",
        "validation/masked/ints",
        "train/loss",
        "time/epoch_s",
    }
    assert read.Scalars("validation/masked/f1")[0].value == 0.5
    assert read.Scalars("train/loss")[0].step == 2


def test_every_kind_of_number_is_written_and_what_is_not_finite_is_null(tmp_path):
    record = {
        "epoch": np.int64(1),
        "nan": math.nan,
        "infinity": {"plus": math.inf, "minus": np.float32("-inf"), "list": [math.nan, 1.0]},
        "float32": np.float32(0.5),
        "float64": np.float64(0.1),
        "bfloat16": ml_dtypes.bfloat16(1.5),
        "longdouble": np.longdouble(2.5),
        "array": np.asarray([[1.0, math.inf]], ml_dtypes.bfloat16),
        "scalar": np.asarray(7, np.uint8),
        "bool": np.bool_(True),
        "huge": 10**400,
        "beyond float32": 1e300,
        "empty": {},
        "nothing": None,
        "text": "two\nlines \N{GREEK SMALL LETTER MU}",
        3: (1, 2),
    }
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        tracker.epoch(record)
        assert "epoch" in record  # the caller's own is not changed
    assert read_history(tmp_path / "m.jsonl") == [
        {
            "epoch": 1,
            "nan": None,
            "infinity": {"plus": None, "minus": None, "list": [None, 1.0]},
            "float32": 0.5,
            "float64": 0.1,
            "bfloat16": 1.5,
            "longdouble": 2.5,
            "array": [[1.0, None]],
            "scalar": 7,
            "bool": True,
            "huge": 10**400,
            "beyond float32": 1e300,
            "empty": {},
            "nothing": None,
            "text": "two\nlines \N{GREEK SMALL LETTER MU}",
            "3": [1, 2],
        }
    ]
    read = accumulated(tmp_path / "tb")
    shown = {name: read.Scalars(name)[0].value for name in read.Tags()["scalars"]}
    assert shown == pytest.approx({"float32": 0.5, "float64": 0.1, "bfloat16": 1.5, "longdouble": 2.5, "scalar": 7})


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({}, ValueError, "epoch is None"),
        ({"loss": 1.0}, ValueError, "epoch is None"),
        ({"epoch": 0}, ValueError, "epoch is 0"),
        ({"epoch": 1.0}, ValueError, "epoch is 1.0"),
        ({"epoch": True}, ValueError, "epoch is True"),
        ({"epoch": "1"}, ValueError, "epoch is '1'"),
        ({"epoch": 1, "train": {"net": [1, object()]}}, TypeError, "record/train/net/1 is a object"),
        ({"epoch": 1, "z": np.asarray(1j)}, TypeError, "record/z is a ndarray"),
        ({"epoch": 1, "z": 1j}, TypeError, "record/z is a complex"),
    ],
)
def test_a_record_that_cannot_be_kept_is_refused_whole(tmp_path, record, error, message):
    with Tracker(tmp_path / "m.jsonl", None) as tracker:
        with pytest.raises(error, match=message):
            tracker.epoch(record)
        tracker.epoch({"epoch": 1})
    assert epochs_of(tmp_path) == [1]


def test_scalars_keeps_numbers_only():
    tree = {"a": {"b": 1, "c": "text", "d": None, "e": True}, "f": 2.5, "g": [1, 2], "h": {}, "i": np.ones(2)}
    assert scalars(tree) == {"a/b": 1, "f": 2.5}
    numbers = scalars({"a": np.float32(0.5), "b": np.asarray(2), "c": np.bool_(True), "d": ml_dtypes.bfloat16(3)})
    assert numbers == {"a": 0.5, "b": 2, "d": 3}
    assert {type(number) for number in numbers.values()} == {int, float}
    assert scalars({}) == {}


# TensorBoard


@pytest.mark.backlog("B40")
def test_images_histograms_and_texts_can_be_read_again(tmp_path):
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        tracker.text("settings", "seed = 5")
        tracker.images(2, {"view/1": colours, "grey": grey})
        tracker.images(2, {})
        tracker.histograms(
            3,
            {
                "half": np.asarray([-2.0, 0.0, 0.0, 3.0], np.float16),
                "brain": np.asarray([[1.0, math.nan], [math.inf, 4.0]], ml_dtypes.bfloat16),
                "same": np.full((2, 2), 7),
                "wide": np.asarray([-3e38, 1e-45, 3e38, 1e300]),
                "scalar": np.float32(1),
                "none": np.zeros(0),
                "not finite": np.asarray([math.nan, math.inf]),
            },
        )
    read = accumulated(tmp_path / "tb")
    for name, pixels in {"view/1": colours, "grey": np.stack([grey] * 3, axis=-1)}.items():
        (event,) = read.Images(name)
        assert event.step == 2
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), pixels)
    assert read.Tensors("settings/text_summary")[0].tensor_proto.string_val == [b"seed = 5"]
    expected = {
        "half": (-2, 3, 4),
        "brain": (1, 4, 2),
        "same": (7, 7, 4),
        "wide": (-3e38, 3e38, 3),
        "scalar": (1, 1, 1),
    }
    assert set(read.Tags()["histograms"]) == set(expected)
    for name, (least, greatest, number) in expected.items():
        (event,) = read.Histograms(name)
        histogram = event.histogram_value
        assert (event.step, histogram.min, histogram.max, histogram.num) == (3, least, greatest, number), name
        assert sum(histogram.bucket) == number, name
    half = read.Histograms("half")[0].histogram_value
    filled = [limit for limit, count in zip(half.bucket_limit, half.bucket, strict=True) if count]
    assert filled == pytest.approx([-2, 0, 3], rel=0.1, abs=1e-11)  # upper edges


def test_pictures_and_distributions_of_another_kind_are_refused(tmp_path):
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        for bad in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(2, np.uint8), np.zeros((0, 2), np.uint8)):
            with pytest.raises(ValueError, match="image 'view' has type"):
                tracker.images(1, {"view": bad})
        with pytest.raises(ValueError, match="histogram 'weights' has type complex"):
            tracker.histograms(1, {"weights": np.zeros(2, complex)})
    assert accumulated(tmp_path / "tb").Tags()["images"] == []


def test_without_a_folder_nothing_but_the_lines_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # nor is it imported
    with Tracker(tmp_path / "m.jsonl", None) as tracker:
        tracker.text("a", "b")
        tracker.images(1, {"a": np.zeros((2, 2), np.uint8)})
        tracker.histograms(1, {"a": np.zeros(2)})
        tracker.hyperparameters({"a": 1}, {"b": 2.0})
        tracker.epoch({"epoch": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
    assert epochs_of(tmp_path) == [1]


def test_a_stage_image_is_dark_where_unlit_and_coloured_by_time():
    from tofae_jax.plots.style import TIME_COLOURS

    image = np.asarray([[0.0, 1.0, 100.0], [-3.0, math.nan, math.inf], [0.2, 50.5, 1e9]], np.float32)
    shown = stage_image(image, 100)
    assert shown.dtype == np.uint8
    assert shown.shape == (3, 3, 3)
    first, middle, last = (TIME_COLOURS(part, bytes=True)[:3] for part in (0.0, 0.5, 1.0))
    dark = (0, 0, 0)
    expected = [[dark, first, last], [dark, dark, dark], [first, middle, last]]
    np.testing.assert_array_equal(shown, np.asarray(expected, np.uint8))
    assert len({tuple(int(part) for part in colour) for colour in (dark, first, middle, last)}) == 4
    np.testing.assert_array_equal(stage_image(image.astype(ml_dtypes.bfloat16), 100)[0], shown[0])
    assert tuple(stage_image(np.ones((1, 1)), 1)[0, 0]) == tuple(first)
    assert stage_image(np.zeros((0, 4)), 100).shape == (0, 4, 3)
    with pytest.raises(ValueError, match="n_t is 0"):
        stage_image(image, 0)
    with pytest.raises(ValueError, match="shape"):
        stage_image(image[0], 100)


def test_a_second_tracker_in_the_same_second_and_folder_takes_nothing_from_the_first(tmp_path):
    for epoch in (1, 2, 3):
        with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
            tracker.epoch({"epoch": epoch, "loss": 1.0})
    assert [event.step for event in accumulated(tmp_path / "tb").Scalars("loss")] == [1, 2, 3]


# a run that goes on


def test_epochs_that_the_lines_have_are_not_repeated_and_tensorboard_has_each_once(tmp_path):
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        tracker.text("settings", "before")
        for epoch in range(1, 6):
            tracker.epoch({"epoch": epoch, "loss": 1.0})
            tracker.histograms(epoch, {"weights": np.ones(1)})
    before = (tmp_path / "m.jsonl").read_bytes()
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb", resumed_after=3) as tracker:
        tracker.text("settings", "after")
        for epoch in range(2, 8):  # from before the checkpoint: nothing of these is written again
            tracker.epoch({"epoch": epoch, "loss": 2.0})
            tracker.histograms(epoch, {"weights": np.ones(2)})
    after = (tmp_path / "m.jsonl").read_bytes()
    assert after.startswith(before)
    assert [(record["epoch"], record["loss"]) for record in read_history(tmp_path / "m.jsonl")] == [
        *((epoch, 1.0) for epoch in range(1, 6)),
        *((epoch, 2.0) for epoch in (6, 7)),
    ]
    read = accumulated(tmp_path / "tb")
    expected = [(epoch, 1.0 if epoch <= 3 else 2.0) for epoch in range(1, 8)]
    assert [(event.step, event.value) for event in read.Scalars("loss")] == expected
    assert [(event.step, event.histogram_value.num) for event in read.Histograms("weights")] == expected
    assert [event.step for event in read.Tensors("settings/text_summary")] == [0, 3]


def test_without_resuming_the_same_epochs_stand_twice(tmp_path):
    """The test above can fail."""
    for _ in range(2):
        with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
            tracker.epoch({"epoch": 1, "loss": 1.0})
    assert epochs_of(tmp_path) == [1, 1]
    assert [event.step for event in accumulated(tmp_path / "tb").Scalars("loss")] == [1, 1]


def test_epochs_lost_from_the_lines_can_be_given_again(tmp_path):
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        tracker.epoch({"epoch": 1, "loss": 1.0})
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb", resumed_after=2) as tracker:
        for epoch in (1, 2, 3, 3):
            tracker.epoch({"epoch": epoch, "loss": 2.0})
    assert [(record["epoch"], record["loss"]) for record in read_history(tmp_path / "m.jsonl")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 2.0),
    ]
    with pytest.raises(ValueError, match="resumed_after is -1"):
        Tracker(tmp_path / "m.jsonl", None, resumed_after=-1)


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
def test_after_a_kill_and_a_resume_each_epoch_stands_once(resumed):
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


# the dashboard

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
def test_one_server_shows_the_run_and_ends_with_who_started_it(resumed, monkeypatch):
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


@needs_tensorboard
@pytest.mark.backlog("B36")
def test_a_server_that_outlived_its_run_is_used_again(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from tofae_jax.engine.monitoring.dashboard import start_dashboard\n"
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


@needs_tensorboard
@pytest.mark.backlog("B36")
def test_a_server_that_dies_says_why_and_leaves_nothing(tmp_path):
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
def test_a_server_that_never_answers_is_ended(tmp_path, monkeypatch):
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


def nothing_may_start(*_, **__):
    raise AssertionError("a process was started")


@pytest.mark.backlog("B36")
def test_without_tensorboard_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(dashboard.subprocess, "Popen", nothing_may_start)
    said = []
    assert start_dashboard(tmp_path / "new", headless_too=True, say=said.append) is None
    assert said == ["dashboard: not started: TensorBoard is not installed (pip install tensorboard)"]
    assert not (tmp_path / "new").exists()


@pytest.mark.backlog("B36")
def test_on_a_headless_machine_nothing_starts(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(dashboard.subprocess, "Popen", nothing_may_start)
    monkeypatch.setattr(dashboard.sys, "platform", "linux")
    said = []
    assert start_dashboard(tmp_path / "new", say=said.append) is None
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    assert start_dashboard(tmp_path / "new", say=said.append) is None
    assert [line.split(" (")[0] for line in said] == [
        "dashboard: not started: this machine has no display",
        "dashboard: not started: this is an SSH session",
    ]
    assert not (tmp_path / "new").exists()
    monkeypatch.delenv("SSH_CONNECTION")
    with pytest.raises(AssertionError, match="a process was started"):  # with a display it does start
        start_dashboard(tmp_path / "new", say=said.append)


@pytest.mark.parametrize(
    ("environment", "platform", "reason"),
    [
        ({}, "linux", "no display"),
        ({"DISPLAY": ""}, "linux", "no display"),
        ({"DISPLAY": ":0"}, "linux", ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "freebsd14", ""),
        ({"DISPLAY": ":10", "SSH_TTY": "/dev/pts/1"}, "linux", "SSH"),
        ({}, "darwin", ""),
        ({}, "win32", ""),
        ({"SSH_CLIENT": "10.0.0.1 5 22"}, "darwin", "SSH"),
    ],
)
def test_a_machine_is_headless_without_a_display_or_over_ssh(environment, platform, reason):
    answer = headless_reason(environment, platform)
    assert reason in answer
    assert bool(answer) == bool(reason)


@pytest.mark.backlog("B36")
def test_a_folder_that_cannot_be_used_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: object())
    (tmp_path / "file").write_text("")
    said = []
    assert start_dashboard(tmp_path / "file" / "tb", headless_too=True, say=said.append) is None
    (line,) = said
    assert line.startswith("dashboard: not started: ")
    assert str(tmp_path / "file") in line
