"""ROOT files of other programs, and ours."""

import numpy as np
import pytest

uproot = pytest.importorskip("uproot")
awkward = pytest.importorskip("awkward")

from hit_files import COUNTS, ROWS, SMALL, assert_refused, columns_of, read, rows_of, write, write_flat  # noqa: E402

from tofae_jax.data.events import Events  # noqa: E402
from tofae_jax.data.files.read import read_events  # noqa: E402


def lists(dtype=np.int32) -> dict:
    return {name: awkward.unflatten(ROWS[:, axis + 1].astype(dtype), COUNTS) for axis, name in enumerate("xyt")}


def test_open_table_several_trees_need_a_choice(tmp_path):
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        for name in ("first", "deep/in/second"):
            file.mktree(name, {key: values.dtype for key, values in columns_of(ROWS).items()})
            file[name].extend(columns_of(ROWS[: 3 if name == "first" else 6]))
        file["histogram"] = np.histogram([1, 2, 3])
    assert_refused(path, "2 trees; choose one with --tree: first, deep/in/second")
    assert_refused(path, "no tree 'third'; it has first, deep/in/second", tree="third")
    assert_refused(path, "no tree 'histogram'; it has first", tree="histogram")
    assert len(rows_of(read(path, tree="first"))) == 3
    assert np.array_equal(rows_of(read(path, tree="deep/in/second")), ROWS)
    assert np.array_equal(rows_of(read(path, tree="deep/in/second;1")), ROWS)
    with uproot.recreate(tmp_path / "b.root") as file:
        file["histogram"] = np.histogram([1, 2, 3])
    assert_refused(tmp_path / "b.root", "no tree; it has histogram")


def test_open_table_error_names_tree_and_row(tmp_path):
    columns = columns_of(ROWS)
    columns["x"][3] = 99
    assert_refused(write_flat(tmp_path / "a.root", columns), r"tree tree, row 3 \(the first is 0\): x = 99; whole")
    del columns["t"]
    assert_refused(write_flat(tmp_path / "b.root", columns), "tree tree: no column 't'; it has event, x, y ")


def test_open_table_counters_are_no_columns(tmp_path):
    path = tmp_path / "a.root"
    score = awkward.unflatten(np.linspace(0, 1, 6, dtype=np.float32), COUNTS)
    hits = awkward.zip({**lists(), "score": score})
    others = {"flag": np.array([True, False, True]), "weight": np.array([1, 2, 3], np.float64)}
    texts = {"note": ["a", "b", "c"]}
    with uproot.recreate(path) as file:
        types = {"hits": hits.type, **{name: values.dtype for name, values in others.items()}, "note": str}
        types.pop("note")
        file.mktree("tree", types)
        file["tree"].extend({"hits": hits, **others})
        file["text"] = texts
    events = read(path, tree="tree", columns={name: f"hits_{name}" for name in "xyt"})
    assert np.array_equal(events.hits, ROWS[:, 1:])
    assert {name: values.dtype.str for name, values in events.hit_columns.items()} == {"hits_score": "<f4"}
    assert {n: v.dtype.str for n, v in events.event_columns.items()} == {"event": "<i8", "flag": "|b1", "weight": "<f8"}
    assert events.event_columns["weight"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("chunk_hits", [1, 1000])
def test_open_table_ntuples_are_read(tmp_path, chunk_hits):
    path = tmp_path / "a.root"
    columns = {**lists(), "event": np.array([2, 5, 9]), "n": awkward.Array([[[1]], [], [[2]]]), "s": ["a", "b", "c"]}
    with uproot.recreate(path) as file:
        file.mkrntuple("lists", columns)
        file.mkrntuple("flat", {**columns_of(ROWS), "text": list("abcdef")})
    for tree in ("lists", "flat"):
        events = read(path, tree=tree, chunk_hits=chunk_hits)
        assert np.array_equal(rows_of(events), ROWS)
        assert not events.hit_columns
        assert list(events.event_columns) == ["event"]
    assert_refused(path, "column text is of type .*string.*; numbers expected", tree="flat", further=["text"])
    assert_refused(path, "column s is of type .*string.*; integers or floats", tree="lists", columns={"event": "s"})


@pytest.mark.parametrize("compression", [None, uproot.ZLIB(9), uproot.LZ4(1), uproot.LZMA(1), uproot.ZSTD(1)])
def test_open_table_compressed_baskets(tmp_path, compression):
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=compression) as file:
        file.mktree("tree", {name: values.type for name, values in lists().items()})
        for _ in range(25):
            file["tree"].extend(lists())
    events = read(path, chunk_hits=10)
    assert np.array_equal(events.hits, np.tile(ROWS[:, 1:], (25, 1)))
    assert events.event_columns["event"].tolist() == list(range(75))


def test_open_table_colon_in_file_name_is_no_tree(tmp_path):
    assert np.array_equal(rows_of(read(write_flat(tmp_path / "a.root:b.root", columns_of(ROWS)))), ROWS)


def test_write_tree_is_plain(tmp_path):
    events = Events(
        ROWS[:, 1:].astype(np.int16),
        np.append(0, np.cumsum(COUNTS)),
        {"score": np.zeros(6, np.float32), "kept": np.ones(6, bool)},
        {"n_hits": COUNTS, "x": np.zeros(3)},
        np.array([0, 0, 1, 3]),
        {"momentum": np.arange(3.0)},
    )
    path = write(tmp_path / "a.root", events)
    with uproot.open(path) as file:
        assert file.classnames() == {"events;1": "TTree"}
        tree = file["events"]
        assert tree["x"].typename == "int16_t[]"
        assert tree["score"].typename == "float[]"
        assert tree["kept"].typename == "bool[]"
        assert tree["n_hits"].array().tolist() == COUNTS.tolist()
        assert tree["n_hits_"].array().tolist() == COUNTS.tolist()
        assert tree["n_tracks"].array().tolist() == [0, 1, 2]
        assert tree["track.momentum"].array().tolist() == [[], [0], [1, 2]]
        assert tree["event"].array().tolist() == [0, 1, 2]
        assert tree["event.x"].array().tolist() == [0, 0, 0]
    (found,) = read_events(path, detector=SMALL)
    assert found.event_columns["n_hits"].tolist() == COUNTS.tolist()
