"""Events of several runs or files that have the same number are never merged, whatever columns are read."""

import numpy as np
import pytest
from hit_files import KINDS, SMALL, assert_refused, read, write_flat

from tofae_jax.data.files.read import read_events

COLUMNS = {"event": [0, 5, 5, 6], "x": [0, 1, 2, 3], "y": [0, 1, 2, 0], "t": [1, 2, 3, 4], "run": [1, 1, 2, 2]}


@pytest.mark.parametrize("kind", [*KINDS, ".csv", ".npz"])
@pytest.mark.parametrize("further", [None, [], ["e"]])
@pytest.mark.parametrize("chunk_hits", [1, 1000])
def test_events_of_two_runs_are_refused_whatever_is_read(tmp_path, kind, further, chunk_hits):
    columns = {name: np.array(values) for name, values in COLUMNS.items()} | {"e": np.arange(4.0)}
    path = tmp_path / f"a{kind}"
    if kind == ".csv":
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    elif kind == ".npz":
        np.savez(path, **columns)
    else:
        write_flat(path, columns)
    assert_refused(path, "event 5 has hits of run 1 and 2.*--columns.event run,event", further=further)
    assert read(path, columns={"event": "run,event"}, further=further).n_events == 4
    columns["run"][:] = 1
    path.unlink()
    path = write_flat(tmp_path / "b.parquet", columns)
    for events in read_events(path, detector=SMALL, further=["e"], chunk_hits=chunk_hits):
        assert list(events.hit_columns) == ["e"]  # the run was checked, and is not kept


@pytest.mark.parametrize("further", [None, []])
def test_events_of_two_files_are_refused_whatever_is_read(tmp_path, further):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("event,x,y,t\n5,0,0,1\n")
    assert_refused(tmp_path, "event 5 has hits of file 0 and 1.*--columns.event file,event", further=further)
