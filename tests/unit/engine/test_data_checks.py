"""What cannot become a run is refused before its events are simulated, read or used."""

import time
from pathlib import Path

import pytest
from small_datasets import write_small
from small_training import config

from tofae_jax.data.dataset import Dataset
from tofae_jax.engine import evaluate, events
from tofae_jax.engine.data_checks import check_measurable, check_planned, empty_split, warn_of_empty_splits
from tofae_jax.engine.denoise import denoise_run
from tofae_jax.engine.given_settings import Given
from tofae_jax.engine.training import train as training

MANY = {"path": "none", "simulate": {"events": 1_000_000}}
HITS = {"model": {"name": "hit_transformer"}, "loss": {"name": "hit_bce"}}


def simulated(data=None, **sections):
    """Settings with a dataset that is not there, of a million events."""
    data = {**MANY, **(data or {})}
    return config(data=data | {"simulate": MANY["simulate"] | data.get("simulate", {})}, **sections)


@pytest.fixture
def nothing_is_made(monkeypatch, tmp_path):
    """Neither events are simulated or read, nor weights; and no file is left."""
    monkeypatch.chdir(tmp_path)
    for name in ("write_simulation", "module_events"):
        monkeypatch.setattr(events, name, lambda *_, **__: pytest.fail("events were simulated"))
    monkeypatch.setattr(Dataset, "events", lambda *_, **__: pytest.fail("events were read"))
    before = set(tmp_path.rglob("*"))
    yield
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"train": {"batch": 700_001}},
            r"^none: 700000 training events do not fill a batch of 700001; make train\.batch smaller, or the dataset "
            r"larger than 1000000 events \(data\.train_share 0\.7, data\.validation_share 0\.15 and data\.test_share",
        ),
        ({"data": {"source": "simulate"}, "train": {"batch": 700_001}}, "^simulated v: 700000 training events"),
        (
            {
                "data": {"simulate": {"events": 3}, "validation_share": 0.1},
                "train": {"batch": 1},
                "mask": {"choose": "f1"},
            },
            r"^none: 3 events, divided by data\.train_share 0\.7, data\.validation_share 0\.1 and data\.test_share 0\.1"
            r"5, leave none for validation; mask\.choose = 'f1' needs some: raise data\.validation_share, or use more",
        ),
        (
            {"model": {"name": "lhcb_torch"}, "loss": {"name": "hit_bce"}},
            "toy patterns; model lhcb_torch needs LHCb TORCH",
        ),
        ({"degradation": {"noise": {"data": 1.0}}}, r"degradation\.noise\.data asks for its background"),
        ({"data": {"simulate": {"pattern": "odd"}}}, "unknown pattern 'odd'; known: v, .*blank, and lhcb_torch, which"),
        (
            HITS | {"loss": {"name": "hit_bce", "hit_bce": {"signal_weight": "auto"}}, "degradation": {"n_noise": 0}},
            r"^loss\.hit_bce\.signal_weight = auto needs the number of noise hits, and degradation\.n_noise is 0",
        ),
        (
            HITS | {"loss": {"name": "hit_bce", "hit_bce": {"noise_weight": "auto"}}, "degradation": {"n_signal": 0}},
            r"^loss\.hit_bce\.noise_weight = auto needs the number of signal hits, and degradation\.n_signal is 0",
        ),
        (
            {
                "loss": {"name": "acb_mse", "acb_mse": {"hit_weight": "auto"}},
                "train": {"target": "signal"},
                "degradation": {"n_signal": 0},
            },
            r"^loss\.acb_mse\.hit_weight = auto needs the number of hit pixels",
        ),
        (
            {"data": {"source": "simulate"}, "train": {"epochs": 1100}},
            r"data\.simulate\.events = 1000000: the 1100 epochs of the training need more events than the 1073741824",
        ),
        ({"checkpoints": {"metric": "masked.f2"}}, r"checkpoints\.metric = 'masked\.f2'"),
        ({"checkpoints": {"metric": "events"}}, r"checkpoints\.metric = 'events': neither high nor low .*\.better"),
        ({"data": {"path": "/proc/none"}}, "^/proc/none: not a folder that can be written"),
        ({"start": {"run": "missing"}}, "missing: no such run"),
    ],
)
def test_train_what_cannot_be_is_refused_before_data_are_made(nothing_is_made, sections, words):
    began = time.monotonic()
    with pytest.raises(ValueError, match=words):
        training.train(simulated(**sections), given=Given())
    assert time.monotonic() - began < 10


def test_check_planned_more_tracks_than_slots_are_refused(nothing_is_made):
    data = {"simulate": {"pattern": "lhcb_torch", "tracks": [1, 9]}}
    sections = {"model": {"name": "lhcb_torch_tracks"}, "loss": {"name": "hit_bce"}}
    with pytest.raises(ValueError, match=r"^data\.simulate\.tracks: events may have 9 tracks, data\.max_tracks is 4"):
        check_planned(simulated(data, **sections))
    check_planned(simulated(data | {"max_tracks": 9}, **sections))


@pytest.mark.parametrize("name", ["runs", "profile"])
def test_check_planned_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    sections = {
        "runs": {"runs": {"folder": "file/runs"}},
        "profile": {"instruments": {"profile_steps": 2, "profile_folder": "file/runs"}},
    }
    with pytest.raises(ValueError, match=r"^file/runs: not a folder that can be written: Not a directory"):
        check_planned(simulated(**sections[name]))
    check_planned(simulated(instruments={"profile_folder": "file/runs"}))  # nothing is profiled
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_check_planned_dataset_that_is_there_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"path": "d", "simulate": MANY["simulate"]}
    write_small("d", [3] * 20)
    detector = Dataset("d").detector
    fitting = {"n_x": detector.n_x, "n_y": detector.n_y, "n_t": detector.n_t}
    check_planned(config(data=data, detector=fitting, train={"batch": 14}))
    with pytest.raises(ValueError, match=r"^d: 14 training events do not fill a batch of 15"):
        check_planned(config(data=data, detector=fitting, train={"batch": 15}))
    with pytest.raises(ValueError, match=r"^d: its detector has"):  # before the batch
        check_planned(config(data=data, detector=fitting | {"n_x": 3}, train={"batch": 15}))


def test_warn_of_empty_splits_only_where_a_share_is_lost(capsys, messages):
    data = config(data={"train_share": 0.8, "validation_share": 0.1, "test_share": 0.1}).data
    warn_of_empty_splits("d", 6, data)
    assert capsys.readouterr().err == (
        "warning: d: 6 events, divided by data.train_share 0.8, data.validation_share 0.1 and data.test_share 0.1, "
        "leave none for validation; no epoch is validated\n"
    )
    warn_of_empty_splits("d", 2, data)
    said = capsys.readouterr().err
    assert "leave none for validation; no epoch" in said and "leave none for test; there is no final evaluation" in said
    warn_of_empty_splits("d", 20, data)
    warn_of_empty_splits("d", 6, config(data={"validation_share": 0.0, "train_share": 0.8, "test_share": 0.2}).data)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("split", ["validation", "test"])
def test_check_measurable_needs_both_splits(nothing_is_made, split):
    check_measurable(simulated())
    with pytest.raises(ValueError, match=f"leave none for {split}; raise data.{split}_share, or use more events"):
        check_measurable(simulated({f"{split}_share": 0.0}))


def test_empty_split_names_the_shares():
    error = empty_split("d", 3, config().data, "test", "choose another")
    assert str(error) == (
        "d: 3 events, divided by data.train_share 0.7, data.validation_share 0.15 and data.test_share 0.15, "
        "leave none for test; choose another"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.txt", "unknown ending"),
        ("there.npz", "exists already"),
        ("there.npz/a.npz", "cannot be written: .*Not a dir"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_a_run_is_loaded(tmp_path, monkeypatch, name, words):
    (tmp_path / "there.npz").touch()
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("the run was loaded"))
    monkeypatch.setattr("tofae_jax.engine.denoise.load_model", lambda *_, **__: pytest.fail("the run was loaded"))
    with pytest.raises(ValueError, match=words):
        evaluate.evaluate_run("run", save_hits=str(tmp_path / name))
    with pytest.raises(ValueError, match=words):
        denoise_run("run", "in.csv", tmp_path / name)
