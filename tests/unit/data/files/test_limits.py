import subprocess
import sys

import numpy as np
import pytest

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.data.files.limits import Limits
from tofae_jax.data.files.read import read_events

DETECTOR = Detector(n_x=8, n_y=8, n_t=20)
N = 3000
COLUMNS = {name: np.full(N, int(name == "t"), np.int16) for name in ("event", "x", "y", "t")}


def _write(path, columns):
    import h5py
    import pyarrow
    import pyarrow.parquet
    import uproot

    ending = path.name.partition(".")[2]
    if ending == "npz":
        np.savez_compressed(path, **columns)
    elif ending == "h5":
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values, compression="gzip")
    elif ending == "root":
        with uproot.recreate(path) as file:
            file.mktree("hits", {name: values.dtype for name, values in columns.items()})
            file["hits"].extend(columns)
    elif ending == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif ending == "feather":
        import pyarrow.feather

        pyarrow.feather.write_feather(pyarrow.table(columns), path, compression="zstd")
    else:
        rows = "\n".join(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))
        path.write_text(",".join(columns) + "\n" + rows + "\n")
    return path


ENDINGS = ("npz", "h5", "root", "parquet", "feather", "csv")


def _n_hits(path, **options):
    return sum(events.n_hits for events in read_events(path, detector=DETECTOR, **options))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("chunk_hits", [100, 1_000_000])
def test_an_event_of_too_many_hits_is_refused_and_can_be_allowed(ending, chunk_hits, tmp_path):
    path = _write(tmp_path / f"a.{ending}", COLUMNS)
    with pytest.raises(DataError, match=rf"hits or more; at most {N - 1} in one event allowed \(--limits.event-hits"):
        _n_hits(path, chunk_hits=chunk_hits, limits=Limits(event_hits=N - 1))
    assert _n_hits(path, chunk_hits=chunk_hits, limits=Limits(event_hits=N)) == N


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_small_budget_reads_the_same_events_in_smaller_pieces(ending, tmp_path):
    path = _write(tmp_path / f"a.{ending}", COLUMNS | {"event": np.arange(N) // 10})
    found = [
        np.concatenate([events.hits for events in read_events(path, detector=DETECTOR, limits=limits)])
        for limits in (Limits(), Limits(memory_gb=3e-4))
    ]
    assert np.array_equal(*found) and len(found[0]) == N


def test_lists_of_too_many_hits_are_refused_before_they_are_unpacked(tmp_path):
    import pyarrow
    import pyarrow.parquet

    lists = pyarrow.ListArray.from_arrays(pyarrow.array([0, N], pyarrow.int32()), pyarrow.array(COLUMNS["t"]))
    pyarrow.parquet.write_table(pyarrow.table(dict.fromkeys("xyt", lists)), path := tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"each event of a row group of 1, on average, has {N} hits"):
        _n_hits(path, limits=Limits(event_hits=N - 1))
    assert _n_hits(path) == N


def test_one_long_list_hidden_among_empty_ones_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    n = 7_000_000
    values = pyarrow.array(np.ones(n, np.int8))
    offsets = pyarrow.array(np.append(0, np.full(100, n)).astype(np.int32))
    lists = pyarrow.ListArray.from_arrays(offsets, values)
    pyarrow.parquet.write_table(pyarrow.table(dict.fromkeys("xyt", lists)), path := tmp_path / "a.parquet")
    assert path.stat().st_size < 3000
    with pytest.raises(DataError, match=r"values in lists asks for 0.252 GB .* \(--limits.expansion allows more\)"):
        _n_hits(path, limits=Limits(memory_gb=0.1))


def test_columns_of_another_parquet_file_are_refused(tmp_path):
    path = _write(tmp_path / "a.parquet", COLUMNS)
    content = path.read_bytes()
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_metadata(path)
    metadata.set_file_path("other.parquet")
    metadata.write_metadata_file(tmp_path / "_metadata")
    (tmp_path / "b.parquet").write_bytes(content[:-8] + (tmp_path / "_metadata").read_bytes()[4:])
    with pytest.raises(DataError, match=r"has columns in another file, 'other\.parquet', which is not followed"):
        _n_hits(tmp_path / "b.parquet")


@pytest.mark.parametrize("packed", ["gz", "bz2", "xz", "zst"])
def test_text_that_grows_without_bound_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("tofae_jax.data.files.limits.FREE_BYTES", 2**20)
    monkeypatch.setattr("tofae_jax.data.files.text_lines.BLOCK_BYTES", 2**19)
    import pyarrow

    path = tmp_path / f"a.csv.{packed}"
    compression = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}.get(packed)
    text = b"event,x,y,t\n" + b"0,1,1,1\n" * 2**18
    if packed == "xz":
        import lzma

        path.write_bytes(lzma.compress(text, preset=0))
    else:
        with pyarrow.CompressedOutputStream(str(path), compression) as file:
            file.write(text)
    with pytest.raises(DataError, match="the unpacked text asks for"):
        _n_hits(path)


def test_a_header_after_endless_blank_lines_is_not_looked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n" * 100_001 + "event,x,y,t\n0,1,1,1\n")
    with pytest.raises(DataError, match="no header"):
        _n_hits(path)


def test_a_compressed_arrow_batch_beyond_the_budget_is_refused(tmp_path):
    import pyarrow

    table = pyarrow.table(COLUMNS)
    for name, opener in (("a.arrow", pyarrow.ipc.new_file), ("b.arrow", pyarrow.ipc.new_stream)):
        options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
        with opener(str(tmp_path / name), table.schema, options=options) as file:
            file.write_table(table)
        with pytest.raises(DataError, match=r"a batch, which is compressed, asks for 2.4e-05 GB of memory at once"):
            list(read_events(tmp_path / name, detector=DETECTOR, limits=Limits(memory_gb=1e-5)))
        assert _n_hits(tmp_path / name) == N


@pytest.mark.parametrize("memory_gb", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_that_are_no_positive_numbers_are_refused(memory_gb, tmp_path):
    with pytest.raises(ValueError, match=r"limits.memory_gb = .*; more than 0 allowed"):
        _n_hits(_write(tmp_path / "a.npz", COLUMNS), limits=Limits(memory_gb=memory_gb))


MEASURED = """
import sys
from tofae_jax.cli import app
code = app.main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""
"""program: a command, then the most memory that it took [kB]"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_small_hostile_files_take_little_memory(kind, tmp_path):
    import pyarrow
    import pyarrow.parquet

    n, path = 50_000_000, tmp_path / f"a.{kind}"
    values = {name: np.full(n, int(name == "t"), np.int8) for name in COLUMNS}
    if kind == "npz":
        np.savez_compressed(path, **values)
    else:
        offsets = pyarrow.array([0, n], pyarrow.int32())
        lists = {name: pyarrow.ListArray.from_arrays(offsets, pyarrow.array(values[name])) for name in "xyt"}
        pyarrow.parquet.write_table(pyarrow.table(lists), path)
    assert path.stat().st_size < 1e6
    command = [sys.executable, "-c", MEASURED, "convert", str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--limits.event-hits allows more" in done.stderr and done.stderr.count("\n") == 1
    assert int(done.stdout.split()[-1]) < 600_000  # kB
