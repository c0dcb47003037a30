"""Files of tracks of many kinds, matched to events by number."""

import numpy as np
import pytest
from module_datasets import track_rows, whole_of, write_tracks

from tofae_jax.data.events import DataError, Events
from tofae_jax.data.files.track_files import read_tracks


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet", ".root"])
def test_read_tracks_any_format_gives_the_same(tmp_path, measured, ending):
    columns = track_rows(measured)
    order = np.random.default_rng(0).permutation(len(columns["event"]))
    path = write_tracks(tmp_path / f"tracks{ending}", {name: values[order] for name, values in columns.items()})
    events = whole_of(measured)
    bare = events._replace(track_offsets=None, track_columns={}, event_columns={"event": np.arange(12)})
    found = read_tracks(path).given_to(bare)
    np.testing.assert_array_equal(found.track_offsets, events.track_offsets)
    for i in range(12):  # in any order within an event
        rows = slice(events.track_offsets[i], events.track_offsets[i + 1])
        own, theirs = (sorted(e.track_columns["x_mm"][rows]) for e in (events, found))
        np.testing.assert_allclose(own, theirs, rtol=1e-6)
    np.testing.assert_allclose(found.event_columns["window_start_ns"], events.event_columns["window_start_ns"])
    same = read_tracks(measured.path).given_to(bare)
    np.testing.assert_array_equal(same.track_columns["x_mm"], events.track_columns["x_mm"])


def test_read_tracks_mistakes_are_named(tmp_path, measured):
    columns = track_rows(measured)
    events = whole_of(measured)._replace(event_columns={"event": np.arange(12)})

    def refuses(message, changed, name="t.csv"):
        with pytest.raises(DataError, match=message):
            read_tracks(write_tracks(tmp_path / name, changed)).given_to(events)

    refuses("lacks slope_x", {name: values for name, values in columns.items() if name != "slope_x"})
    refuses("lacks slope_x", {n: v for n, v in columns.items() if n != "slope_x"}, "t.parquet")
    refuses("has no window_start_ns, and", {n: v for n, v in columns.items() if n != "window_start_ns"})
    refuses("x_mm of track 1 ", columns | {"x_mm": np.where(np.arange(len(columns["x_mm"])) == 1, np.nan, 0.0)})
    refuses("event = 0.5; whole numbers", columns | {"event": columns["event"] + 0.5})
    shifted = columns["window_start_ns"] + np.arange(len(columns["event"]))
    refuses("one for the event and all its tracks", columns | {"window_start_ns": shifted})
    (tmp_path / "text.csv").write_text("event,x_mm\n1,2,3\n")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no zip")
    for name, message in (("text.csv", "line 2: 3 values; 2"), ("bad.npz", "damaged"), ("no.csv", "does not exist")):
        with pytest.raises(DataError, match=message):
            read_tracks(tmp_path / name)
    with pytest.raises(DataError, match="unknown ending"):
        read_tracks(tmp_path / "tracks.dat")
    table = read_tracks(write_tracks(tmp_path / "e.csv", columns | {"event": columns["event"] + 99}))
    assert table.given_to(events).track_offsets[-1] == 0
    assert table.n_unused == len(columns["event"]) and table.n_events_without == 12
    windows = events._replace(event_columns={"event": np.arange(12), "window_start_ns": np.full(12, 3.0)})
    np.testing.assert_array_equal(table.given_to(windows).event_columns["window_start_ns"], np.full(12, 3.0))
    with pytest.raises(DataError, match="window_start_ns of event 0 is"):
        read_tracks(write_tracks(tmp_path / "w.csv", columns)).given_to(windows)


def test_read_tracks_tables_of_other_programs(tmp_path, measured):
    """Upper case, byte order mark, comments, quotes, spaces, text columns, one row, large event numbers."""
    header = "event,x_mm,y_mm,slope_x,slope_y,momentum_gev,window_start_ns,name"
    row = "9007199254740993, 1.5 ,2,0.1,0,4,30,a pion"
    quoted = ",".join(f'"{cell}"' for cell in row.split(","))
    events = Events(np.zeros((0, 3), np.int16), np.zeros(2, np.int64), {}, {"event": np.array([2**53 + 1])})
    for i, text in enumerate((f"{header}\n{row}\n", f"\ufeff# made by hand\n\n{header}\r\n{quoted}\r\n")):
        path = tmp_path / f"{i}.CSV"
        path.write_text(text, encoding="utf-8")
        found = read_tracks(path).given_to(events)
        assert found.track_columns["x_mm"].tolist() == [1.5]
        assert found.event_columns["window_start_ns"].tolist() == [30]
    with (tmp_path / "T.NPZ").open("wb") as file:
        np.savez(file, **track_rows(measured))
    assert read_tracks(tmp_path / "T.NPZ").n_unused == len(track_rows(measured)["event"])


def test_read_tracks_takes_the_tree_called_tracks(tmp_path, measured):
    uproot = pytest.importorskip("uproot")
    columns = track_rows(measured)
    for name, other in (("tracks", "hits"), ("a", "b")):
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            file[other] = {"x": np.arange(3)}
            file[name] = columns
    assert read_tracks(tmp_path / "tracks.root").n_unused == len(columns["event"])
    with pytest.raises(DataError, match="several tables, and none of them is called tracks: b, a"):
        read_tracks(tmp_path / "a.root")
