"""Parquet files of other programs."""

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from arrow_files import stored, table_of
from hit_files import ROWS, assert_refused, read, rows_of


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("row_group_size", [1, 2, 100])
def test_open_table_compressed_row_groups(tmp_path, compression, row_group_size):
    options = {"compression": compression, "row_group_size": row_group_size}
    path = stored(tmp_path / "a.parquet", table_of("list_"), **options).rename(tmp_path / "a.pq")
    for chunk_hits in (1, 4, 1000):
        assert np.array_equal(rows_of(read(path, chunk_hits=chunk_hits)), ROWS)


def test_open_table_damage_within_raises(tmp_path):
    path = stored(tmp_path / "a.parquet", table_of("list_"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = content[len(content) // 2 :][::-1]
    path.write_bytes(content)
    assert_refused(path, "cut, damaged")
