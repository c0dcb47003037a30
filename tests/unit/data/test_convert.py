"""Datasets and files converted into each other by the command `convert`."""

import numpy as np
import pytest
from hit_files import ROWS, WRITTEN, assert_same_events, columns_of, read, run_command, some_events, write_flat

from tofae_jax.core.detector import Detector
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.dataset_writer import write_dataset
from tofae_jax.data.events import Events


@pytest.mark.backlog("B33")
@pytest.mark.parametrize("kind", [*WRITTEN, ".npz"])
def test_convert_events_dataset_to_file_and_back(tmp_path, capsys, kind):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 500)
    n_hits = int(counts.sum())
    hits = np.column_stack([rng.integers(0, 88, n_hits), rng.integers(0, 128, n_hits), rng.integers(1, 1001, n_hits)])
    events = Events(
        hits.astype(np.int16),
        np.append(0, np.cumsum(counts)),
        {"is_signal": rng.random(n_hits) < 0.5, "track": rng.integers(-1, 2, n_hits).astype(np.int8)},
        {"event": np.arange(500) * 3, "window_ns": rng.random(500)},
        np.append(0, np.cumsum(np.arange(500) % 3)),
        {"momentum_gev": rng.random(int((np.arange(500) % 3).sum())).astype(np.float32)},
    )
    write_dataset(tmp_path / "d", [events], detector=Detector(), provenance={}, shard_events=64)
    path = tmp_path / f"out{kind}"
    assert run_command(capsys, "convert", tmp_path / "d", path) == (0, f"500 events, {n_hits} hits: {path}\n", "")
    assert_same_events(read(path, detector=Detector()), events)
    assert run_command(capsys, "convert", path, tmp_path / "again")[0] == 0
    (again,) = Dataset(tmp_path / "again").events()
    assert_same_events(again, events)
    code, _, err = run_command(capsys, "convert", tmp_path / "d", path)
    assert (code, "exists already" in err) == (2, True)
    assert run_command(capsys, "convert", path, tmp_path / "other.csv")[0] == 0
    code, _, err = run_command(capsys, "convert", path, path, "--overwrite")
    assert (code, "is the input too" in err) == (2, True)


def test_convert_events_physical_units(tmp_path, capsys):
    columns = columns_of(ROWS.astype(float))
    columns["x"][0] = -1
    path = write_flat(tmp_path / "a.parquet", {{"x": "px"}.get(name, name): v for name, v in columns.items()})
    words = ("convert", path, tmp_path / "d", "--columns.x", "px", "--units", "physical")
    code, out, err = run_command(capsys, *words)
    assert (code, out) == (0, f"3 events, 5 hits: {tmp_path / 'd'}\n")
    assert err == f"{path}: 1 of 6 hits outside the detector, dropped\n"
    code, _, err = run_command(capsys, *words[:2], tmp_path / "e", *words[3:], "--detector.window-ns", "0.1")
    assert code == 2
    assert "holds no events (6 of 6 hits outside the detector, dropped)" in err
    assert not (tmp_path / "e").exists()


def test_convert_events_mistakes_are_named(tmp_path, capsys):
    write_dataset(tmp_path / "d", [some_events()], detector=Detector(), provenance={})
    for words, expected in (
        (("d", "out.npy"), ".npy files cannot be written; .csv, .csv.gz, .csv.zst, .npz, .root"),
        (("d", "out"), "a dataset is written to files that end in .csv, .csv.gz"),
        (("d", "out.root", "--units", "physical"), "is a dataset, for which units cannot be chosen"),
        (("d", "out.root", "--columns.x", "px"), "is a dataset, for which columns cannot be chosen"),
        (("d", "out.root", "--columns.further", "none"), "is a dataset, for which further cannot be chosen"),
        (("d", "out.root", "--columns.per", "hit"), "is a dataset, for which per cannot be chosen"),
        (("d", "out.root", "--tree", ""), "is a dataset, for which tree cannot be chosen"),
        (("d", "out.root", "--detector.n-x", "5"), "is a dataset, whose detector has n_x = 88; leave --detector.n-x"),
        (("d", "out.root", "--detector.window-ns", "5"), "whose detector has window_ns = 25.0"),
        (("none.root", "out"), "none.root: does not exist"),
        (("d", "out.root", "--units", "cm"), "units"),
    ):
        code, _, err = run_command(capsys, "convert", tmp_path / words[0], tmp_path / words[1], *words[2:])
        assert code == 2
        assert expected in err
        assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
