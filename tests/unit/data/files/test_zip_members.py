import warnings
import zipfile

import numpy as np
import pytest

from tofae_jax.core.detector import Detector
from tofae_jax.data.events import DataError
from tofae_jax.data.files.read import read_events
from tofae_jax.data.files.zip_members import zip_members


def test_a_doubled_member_is_refused(tmp_path):
    np.savez(path := tmp_path / "a.npz", **{name: np.ones(3, np.int16) for name in ("event", "x", "y", "t")})
    assert sum(events.n_hits for events in read_events(path, detector=Detector())) == 3
    with zipfile.ZipFile(path) as archive:
        assert list(zip_members(archive)) == ["event.npy", "x.npy", "y.npy", "t.npy"]
        again = archive.read("x.npy")
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", again)
    with pytest.raises(DataError, match=r"a\.npz: has two members 'x.npy'; each name once expected"):
        list(read_events(path, detector=Detector()))
