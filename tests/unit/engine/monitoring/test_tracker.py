"""What a run reports is there afterwards, once and whole."""

import io
import json
import math
import sys

import ml_dtypes
import numpy as np
import pytest
from event_files import accumulated

from tofae_jax.engine.monitoring import tracker as tracking
from tofae_jax.engine.monitoring.tracker import Tracker, scalars, stage_image
from tofae_jax.runs.history import encoded_epoch, read_history


def epochs_of(folder):
    return [record["epoch"] for record in read_history(folder / "m.jsonl")]


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
def test_tracker_torn_last_line_is_cut_off(tmp_path, whole, torn):
    path = tmp_path / "m.jsonl"
    path.write_bytes(whole + torn)
    assert read_history(path) == [json.loads(line) for line in whole.splitlines()]
    assert path.read_bytes() == whole + torn
    with Tracker(path, None) as tracker:
        assert path.read_bytes() == whole
        tracker.epoch({"epoch": 2, "a": 1})
        assert path.read_bytes() == whole + encoded_epoch({"epoch": 2, "a": 1}).encode()


def test_tracker_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
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
def test_tracker_failing_run_closes_both_writers(tmp_path, monkeypatch, broken):
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


@pytest.mark.backlog("B50", "B40", "B38")
def test_epoch_metrics_survive_an_error(tmp_path):
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


def test_epoch_number_of_any_kind_is_written(tmp_path):
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
        "large": 10**30,
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
            "huge": None,
            "large": 1e30,
            "beyond float32": 1e300,
            "empty": {},
            "nothing": None,
            "text": "two\nlines \N{GREEK SMALL LETTER MU}",
            "3": [1, 2],
        }
    ]
    read = accumulated(tmp_path / "tb")
    shown = {name: read.Scalars(name)[0].value for name in read.Tags()["scalars"]}
    expected = {"float32": 0.5, "float64": 0.1, "bfloat16": 1.5, "longdouble": 2.5, "scalar": 7, "large": 1e30}
    assert shown == pytest.approx(expected)


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
def test_epoch_bad_record_is_refused_whole(tmp_path, record, error, message):
    with Tracker(tmp_path / "m.jsonl", None) as tracker:
        with pytest.raises(error, match=message):
            tracker.epoch(record)
        tracker.epoch({"epoch": 1})
    assert epochs_of(tmp_path) == [1]


def test_scalars_nested_tree_keeps_numbers_only():
    tree = {"a": {"b": 1, "c": "text", "d": None, "e": True}, "f": 2.5, "g": [1, 2], "h": {}, "i": np.ones(2)}
    assert scalars(tree) == {"a/b": 1, "f": 2.5}
    numbers = scalars({"a": np.float32(0.5), "b": np.asarray(2), "c": np.bool_(True), "d": ml_dtypes.bfloat16(3)})
    assert numbers == {"a": 0.5, "b": 2, "d": 3}
    assert {type(number) for number in numbers.values()} == {int, float}
    assert scalars({}) == {}


@pytest.mark.backlog("B40")
def test_tracker_images_histograms_texts_can_be_read(tmp_path):
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


def test_tracker_bad_images_and_histograms_are_refused(tmp_path):
    with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
        for bad in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(2, np.uint8), np.zeros((0, 2), np.uint8)):
            with pytest.raises(ValueError, match="image 'view' has type"):
                tracker.images(1, {"view": bad})
        with pytest.raises(ValueError, match="histogram 'weights' has type complex"):
            tracker.histograms(1, {"weights": np.zeros(2, complex)})
    assert accumulated(tmp_path / "tb").Tags()["images"] == []


def test_tracker_without_folder_writes_lines_only(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # nor is it imported
    with Tracker(tmp_path / "m.jsonl", None) as tracker:
        tracker.text("a", "b")
        tracker.images(1, {"a": np.zeros((2, 2), np.uint8)})
        tracker.histograms(1, {"a": np.zeros(2)})
        tracker.hyperparameters({"a": 1}, {"b": 2.0})
        tracker.epoch({"epoch": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
    assert epochs_of(tmp_path) == [1]


def test_stage_image_is_dark_where_unlit_coloured_by_time():
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


def test_tracker_second_in_a_folder_adds_to_the_first(tmp_path):
    for epoch in (1, 2, 3):
        with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
            tracker.epoch({"epoch": epoch, "loss": 1.0})
    assert [event.step for event in accumulated(tmp_path / "tb").Scalars("loss")] == [1, 2, 3]


def test_tracker_resumed_writes_each_epoch_once(tmp_path):
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


def test_tracker_not_resumed_writes_epochs_twice(tmp_path):
    """The test above can fail."""
    for _ in range(2):
        with Tracker(tmp_path / "m.jsonl", tmp_path / "tb") as tracker:
            tracker.epoch({"epoch": 1, "loss": 1.0})
    assert epochs_of(tmp_path) == [1, 1]
    assert [event.step for event in accumulated(tmp_path / "tb").Scalars("loss")] == [1, 1]


def test_tracker_resumed_takes_lost_epochs_again(tmp_path):
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
