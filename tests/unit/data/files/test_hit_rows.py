"""Rows of hit lists: checked values, and chunks of complete events."""

from unittest import mock

import numpy as np
import pytest
from hit_files import CSV_ROWS, ROWS, assert_refused, columns_of, read, rows_of, write_npz
from hypothesis import given
from hypothesis import strategies as st

from tofae_jax.data.events import concatenate
from tofae_jax.data.files import format_npz, text_lines
from tofae_jax.data.files.hit_rows import HitBlock, complete_events, not_whole


def test_not_whole_float16_above_int16_is_found():
    assert not_whole(np.array([32768], np.float16), 1, 32767).all()


@st.composite
def blocks_of_rows(draw) -> list[HitBlock]:
    counts = draw(st.lists(st.integers(1, 9), max_size=12))
    event = np.repeat(np.cumsum(draw(st.lists(st.integers(1, 3), min_size=len(counts), max_size=len(counts)))), counts)
    event = event.astype(np.int64)
    cuts = sorted(set(draw(st.lists(st.integers(1, max(1, len(event) - 1)), max_size=8))) & set(range(1, len(event))))
    number = np.arange(len(event))
    hits = np.stack([number] * 3, axis=1).astype(np.int16)
    parts = [np.arange(a, b) for a, b in zip([0, *cuts], [*cuts, len(event)], strict=True) if b > a]
    return [HitBlock(event[part], hits[part], {"number": number[part]}) for part in parts]


@given(blocks_of_rows(), st.integers(1, 30))
def test_complete_events_any_blocks_chunks_within_limit(blocks, chunk_hits):
    chunks = list(complete_events(blocks, chunk_hits=chunk_hits))
    event = np.concatenate([np.zeros(0, np.int64), *[block.event for block in blocks]])
    seen = [number for chunk in chunks for number in chunk.event_columns["event"]]
    assert seen == sorted(set(event.tolist()))
    for chunk in chunks:
        assert 0 < chunk.n_hits <= chunk_hits or chunk.n_events == 1
        assert (chunk.counts > 0).all()
        assert chunk.offsets[-1] == chunk.n_hits
    if chunks:
        whole = concatenate(chunks)
        assert np.array_equal(rows_of(whole)[:, 0], event)
        assert np.array_equal(whole.hits[:, 0], np.arange(len(event)))
        assert np.array_equal(whole.hit_columns["number"], np.arange(len(event)))


@pytest.mark.parametrize("rows_per_block", [1, 2, 5, 1000])
@pytest.mark.parametrize("chunk_hits", [1, 3, 1000])
@pytest.mark.parametrize("layout", ["columns", "table", "fortran", "csv", "reordered"])
def test_complete_events_all_layouts_give_their_rows(tmp_path, layout, rows_per_block, chunk_hits):
    path = tmp_path / ("hits.csv" if layout == "csv" else "hits.npz")
    if layout == "csv":
        path.write_text("event,x,y,t\n" + CSV_ROWS)
    elif layout == "columns":
        write_npz(path, **columns_of(ROWS.astype(np.uint16)))
    elif layout == "reordered":
        write_npz(path, hits=ROWS[:, ::-1].astype(">f4"), columns=np.array(["t", "y", "x", "event"]))
    else:
        write_npz(path, hits=np.asfortranarray(ROWS) if layout == "fortran" else ROWS, shape_xyt=np.array([1, 2, 3]))
    with (
        mock.patch.object(text_lines, "BLOCK_BYTES", 64 * rows_per_block),
        mock.patch.object(format_npz, "ROWS_PER_BLOCK", rows_per_block),
    ):
        events = read(path, chunk_hits=chunk_hits)
        assert np.array_equal(rows_of(events), ROWS)
        assert events.event_columns["event"].tolist() == [2, 5, 9]
        assert events.offsets.tolist() == [0, 2, 3, 6]
        assert events.hits.dtype == np.int16
        assert events.hit_columns == {}


BAD_ROWS = [
    ("event", -1, "event = -1; whole numbers from 0 to 9223372036854775807 allowed"),
    ("event", 1, "event 1 comes after event 5; sort the rows by event"),
    ("x", 4, "x = 4; whole numbers from 0 to 3 allowed"),
    ("x", -1, "x = -1; whole numbers from 0 to 3 allowed"),
    ("y", 3, "y = 3; whole numbers from 0 to 2 allowed"),
    ("t", 0, "t = 0; whole numbers from 1 to 10 allowed"),
    ("t", 11, "t = 11; whole numbers from 1 to 10 allowed"),
    ("t", 1.5, r"t = 1\.5; whole numbers from 1 to 10 allowed"),
    ("t", np.nan, "t = nan; whole numbers from 1 to 10 allowed"),
    ("y", np.inf, "y = inf; whole numbers from 0 to 2 allowed"),
]


@pytest.mark.parametrize(("column", "value", "words"), BAD_ROWS)
@pytest.mark.parametrize("rows_per_block", [1, 2, 1000])
def test_checked_block_bad_value_is_named_with_row(tmp_path, column, value, words, rows_per_block):
    columns = columns_of(ROWS)
    if not isinstance(value, int):
        columns[column] = columns[column].astype(float)
    else:
        columns[column] = columns[column].copy()
    columns[column][3] = value
    write_npz(tmp_path / "hits.npz", **columns)
    lines = [",".join(str(columns[name][row]) for name in columns) for row in range(6)]
    (tmp_path / "hits.csv").write_text("# made by hand\n\nevent,x,y,t\n" + "\n\n".join(lines))
    with (
        mock.patch.object(text_lines, "BLOCK_BYTES", 64 * rows_per_block),
        mock.patch.object(format_npz, "ROWS_PER_BLOCK", rows_per_block),
    ):
        assert_refused(tmp_path / "hits.npz", r"row 3 \(the first is 0\): " + words)
        assert_refused(tmp_path / "hits.csv", "line 10: " + words)
