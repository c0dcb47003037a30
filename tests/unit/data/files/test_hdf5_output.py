"""`Hdf5Output` is a file like others, and keeps errors of the disk from the HDF5 library."""

import io
import subprocess
import sys

import pytest
from full_disk import largest_file
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from tofae_jax.data.files.hdf5_output import Hdf5Output

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["write", "read", "truncate"]), st.integers(0, 60), st.integers(0, 20)), max_size=20
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("output") / "file"


def run(file, actions):
    """What reading gives."""
    found = []
    for turn, (action, position, n) in enumerate(actions):
        if action == "truncate":
            file.truncate(position)
            continue
        file.seek(position)
        if action == "write":
            file.write(bytes([turn + 1]) * n)
        else:
            buffer = bytearray(n)
            found.append((file.readinto(buffer), bytes(buffer), file.tell()))
    return found


@given(ACTIONS)
def test_hdf5_output_reads_and_writes_as_other_files(path, actions):
    other_path = path.with_name("other")
    with Hdf5Output(path) as file, io.FileIO(other_path, "w+") as other:
        assert run(file, actions) == run(other, actions)
    assert path.read_bytes() == other_path.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=20), st.integers(0, 40))
def test_hdf5_output_on_a_full_disk_is_read_as_written(path, writes, limit):
    """The library may read again what is in memory alone."""
    expected = bytearray()
    output = Hdf5Output(path)
    with largest_file(limit):
        for turn, (position, n) in enumerate(writes):
            output.seek(position)
            assert output.write(bytes([turn + 1]) * n) == n
            expected.extend(bytes(max(0, position + n - len(expected))))
            expected[position : position + n] = bytes([turn + 1]) * n
        output.seek(0)
        content = bytearray(len(expected))
        assert output.readinto(content) == len(expected) == output.seek(0, io.SEEK_END)
    assert content == expected
    output.close()
    if len(expected) > limit:
        with pytest.raises(OSError, match="File too large"):
            output.check()
    else:
        output.check()
        assert path.read_bytes() == expected


EVERY_LIMIT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/fixtures")
from full_disk import largest_file
from hit_files import some_events
from tofae_jax.data.files.write import open_hit_file

folder = Path(sys.argv[1])
for limit in range(0, 40000, 1613):
    try:
        with largest_file(limit), open_hit_file(folder / "a.h5", overwrite=True) as file:
            for turn in range(3):
                file.append(some_events(400))
        print("written")
    except OSError as error:
        assert str(folder / "a.h5") in str(error), error
        print("refused")
    assert [path.name for path in folder.iterdir()] in ([], ["a.h5"])
    (folder / "a.h5").unlink(missing_ok=True)
"""


def test_hdf5_files_on_a_full_disk_leave_the_process_whole(tmp_path):
    pytest.importorskip("h5py")
    done = subprocess.run(
        [sys.executable, "-c", EVERY_LIMIT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == {"written", "refused"}
