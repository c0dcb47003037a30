"""Arrow files and streams of other programs."""

import numpy as np
import pytest

pyarrow = pytest.importorskip("pyarrow")

from arrow_files import stored, table_of  # noqa: E402
from hit_files import ROWS, read, rows_of  # noqa: E402


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_open_table_compressed_batches(tmp_path, compression):
    options = pyarrow.ipc.IpcWriteOptions(compression=compression)
    assert np.array_equal(rows_of(read(stored(tmp_path / "a.arrow", table_of("list_"), options=options))), ROWS)


@pytest.mark.parametrize("chunk_hits", [1, 3, 1000])
def test_open_table_stream_in_chunks(tmp_path, chunk_hits):
    table = table_of("list_")
    with pyarrow.ipc.new_stream(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=2)
    assert np.array_equal(rows_of(read(tmp_path / "a.arrow", chunk_hits=chunk_hits)), ROWS)
