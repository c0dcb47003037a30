"""What is said where a library of an extra is missing."""

import importlib
from unittest import mock

import pytest
from hit_files import KINDS, assert_refused, lists_file

from tofae_jax.data.events import DataError
from tofae_jax.data.files.write import open_hit_file


@pytest.mark.parametrize("kind", KINDS)
def test_import_libraries_missing_library_is_named(tmp_path, kind):
    path = lists_file(tmp_path / f"a{kind}")
    extras = {".root": ("uproot", r"'tofae-jax\[root\]'"), ".h5": ("h5py", r"'tofae-jax\[hdf5\]'")}
    library, source = extras.get(kind, ("pyarrow", "pyarrow"))

    def without(name, *rest):
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    real = importlib.import_module
    with mock.patch("importlib.import_module", without):
        words = rf"\{kind} files need {library}: pip install {source}"
        assert_refused(path, words)
        with pytest.raises(DataError, match=words), open_hit_file(tmp_path / f"b{kind}"):
            pass
    assert [left.name for left in tmp_path.iterdir()] == [path.name]
