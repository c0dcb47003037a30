"""Files that are denoised into files, with a model that keeps every other hit."""

import json

import numpy as np
import pytest
from hit_files import (
    ROWS,
    SMALL,
    WRITTEN,
    columns_of,
    lists_file,
    lists_of,
    read,
    rows_of,
    run_command,
    write_flat,
)

from tofae_jax.config import Config
from tofae_jax.engine.build import build_run
from tofae_jax.engine.denoiser import Denoiser
from tofae_jax.engine.pretrained.packaged_model import PackagedModel


class FakeDenoiser(Denoiser):
    """Keeps every other hit."""

    def __call__(self, parts):
        for events in parts:
            number = np.arange(events.n_hits)
            found = {"score": (number / 8).astype(np.float32), "kept": number % 2 == 0, "visible": number >= 0}
            yield events._replace(hit_columns={**events.hit_columns, **found})


@pytest.fixture
def fake_run(monkeypatch, tmp_path):
    from tofae_jax.engine import denoise

    setup = build_run(Config(detector=SMALL))
    run = PackagedModel("run", 1, setup, {}, tmp_path / "scores.npz")
    monkeypatch.setattr(denoise, "load_model", lambda *_, **__: run)
    monkeypatch.setattr(denoise, "Denoiser", FakeDenoiser)
    monkeypatch.setattr(denoise, "with_thresholds", lambda *_, **__: setup.config)


@pytest.mark.parametrize("kind", [*WRITTEN, ".npz", ".csv"])
def test_denoise_run_keeps_the_columns_of_its_input(tmp_path, capsys, fake_run, kind):
    truth = lists_of(np.arange(6, dtype=np.int8))
    old = lists_of(np.full(6, 9.0))
    path = lists_file(tmp_path / "in.root", is_signal=truth, score=old, weight=np.array([1.5, 2, 3]))
    for words, rows, names in (
        ((), [0, 2, 4], ["is_signal", "score", "score_found"]),
        (("--all-hits",), [0, 1, 2, 3, 4, 5], ["is_signal", "score", "score_found", "kept"]),
    ):
        out = tmp_path / f"out{kind}"
        assert run_command(capsys, "denoise", "run", path, out, "--overwrite", *words)[0] == 0
        events = read(out)
        assert np.array_equal(rows_of(events), ROWS[rows])
        assert list(events.hit_columns) == names
        assert events.hit_columns["is_signal"].tolist() == rows
        assert events.hit_columns["score"].tolist() == [9.0] * len(rows)
        assert events.hit_columns["score_found"].tolist() == [row / 8 for row in rows]
        assert events.event_columns["weight"].tolist() == [1.5, 2, 3]
        assert kind == ".csv" or events.hit_columns["score_found"].dtype == np.float32


def test_denoise_run_physical_units_and_mistakes(tmp_path, capsys, fake_run):
    columns = columns_of(ROWS * [1, 2, 2, 0.4])
    columns["t"][5] = np.nan
    path = write_flat(tmp_path / "in.parquet", columns)
    code, out, err = run_command(capsys, "denoise", "run", path, tmp_path / "out.h5", "--units", "physical")
    assert code == 0
    assert json.loads(out)["hits_outside"] == 1
    assert json.loads(out)["hits_written"] == 3
    assert err == f"{path}: 1 of 6 hits outside the detector, dropped\n"
    assert read(tmp_path / "out.h5", units="physical").n_hits == 3
    for words, expected in (
        ((path, tmp_path / "a.root"), "x = 6.0; whole"),
        ((path, tmp_path / "a.dat"), "unknown ending '.dat'; known are .csv, .csv.gz"),
        ((path, path, "--overwrite"), "is the input too"),
        ((path, tmp_path / "a.root", "--tree", "t"), "only .root, .h5, .hdf5 files have trees"),
    ):
        code, _, err = run_command(capsys, "denoise", "run", *words)
        assert code == 2
        assert expected in err
        assert len(err.splitlines()) == 1
    assert sorted(left.name for left in tmp_path.iterdir()) == ["in.parquet", "out.h5"]


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".root"])
def test_denoise_run_columns_of_any_name_keep_name_and_values(tmp_path, capsys, fake_run, kind):
    names = ("score", "kept", "visible", "track", "input.score", "input.energy", "energy", "own.x", "score_found")
    columns = {name: np.arange(6.0) + 10 * number for number, name in enumerate(names)}
    path = write_flat(tmp_path / "a.parquet", {**columns_of(ROWS), **columns})
    out = tmp_path / f"out{kind}"
    assert run_command(capsys, "denoise", "run", path, out, "--all-hits")[0] == 0
    found = read(out).hit_columns
    found = {("own.x" if name == "own_x" else name): values for name, values in found.items()}
    assert set(found) == {*names, "score_found_found", "kept_found"}
    for name, values in columns.items():
        assert found[name].tolist() == values.tolist()
