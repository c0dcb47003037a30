import h5py
import numpy as np
import pytest

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.data.files.read import read_events

N = 20
NAMES = ("event", "x", "y")


def _read(path):
    return sum(events.n_hits for events in read_events(path, detector=Detector()))


def _hits(file, names=NAMES):
    for name in names:
        file.create_dataset(name, data=np.ones(N, np.int16))


def test_values_in_other_files_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * N)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["t"] = np.ones(N, np.int16)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        _hits(file)
        file.create_dataset("t", (N,), "u1", external=[(str(tmp_path / "secret"), 0, N)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        _hits(file)
        layout = h5py.VirtualLayout((N,), "i2")
        layout[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "t", (N,))
        file.create_virtual_dataset("t", layout)
    for name in ("external.h5", "virtual.h5"):
        with pytest.raises(DataError, match=rf"{name}: dataset /t has its values in other files"):
            _read(tmp_path / name)


@pytest.mark.parametrize("link", [h5py.ExternalLink("source.h5", "t"), h5py.SoftLink("/x")])
def test_links_are_not_followed(tmp_path, link):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["t"] = np.ones((N, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        _hits(file)
        file["t"] = link
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        frame = file.create_group("hits")
        frame.attrs["pandas_type"], frame.attrs["nblocks"] = "frame", 1
        frame["axis0"] = frame["block0_items"] = np.array([b"event", b"x", b"y", b"t"])
        frame["block0_values"] = link
    with pytest.raises(DataError, match="link, which is not followed"):
        _read(tmp_path / "a.h5")
    with pytest.raises(DataError, match="/hits/block0_values is a link, which is not followed"):
        _read(tmp_path / "frame.h5")


@pytest.mark.parametrize("offsets", [False, True])
def test_declared_sizes_without_data_are_refused(tmp_path, offsets):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if offsets:
            file.create_dataset("offsets", (10**10,), "i8", chunks=(10**6,))
        for name in (*NAMES, "t")[offsets:]:
            file.create_dataset(name, (0 if offsets else 10**10,), "i4", chunks=(10**6,), maxshape=(None,))
    with pytest.raises(DataError, match=r"GB from 0 bytes that are stored.*--limits.expansion allows more"):
        _read(tmp_path / "a.h5")


def test_a_chunk_beyond_the_budget_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in (*NAMES, "t"):
            file.create_dataset(name, (10**6,), "i8", chunks=(10**8,), maxshape=(None,), compression="gzip")
    with pytest.raises(DataError, match=r"a chunk of dataset /event asks for 0.8 GB of memory at once"):
        _read(tmp_path / "a.h5")


def test_groups_deep_within_one_another_are_refused_and_rings_end(tmp_path):
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        group = file
        for _ in range(200):
            group = group.create_group("g")
        _hits(group, (*NAMES, "t"))
    with pytest.raises(DataError, match="has groups more than 64 deep within one another"):
        _read(tmp_path / "deep.h5")
    with h5py.File(tmp_path / "ring.h5", "w") as file:
        inner = file.create_group("a/b")
        _hits(inner, (*NAMES, "t"))
        inner["ring"] = file["a"]
    assert _read(tmp_path / "ring.h5") == N
