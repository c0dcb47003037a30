"""Errors about files: the name in front, on one line."""

import zlib
from pathlib import Path

import pytest

from tofae_jax.data.events import DataError
from tofae_jax.data.files.file_errors import library_errors, listing, naming_file

PATH = Path("folder/a.NPZ")


def message_of(error: Exception, **options) -> str:
    with pytest.raises(DataError) as caught, naming_file(PATH, **options):
        raise error
    return str(caught.value)


def test_naming_file_data_error_gets_the_name():
    assert message_of(DataError("row 3: x = 4")) == "folder/a.NPZ: row 3: x = 4"


@pytest.mark.parametrize("error", [EOFError("cut\nshort"), zlib.error("cut short"), OSError("cut short")])
def test_naming_file_damage_becomes_a_data_error(error):
    assert message_of(error) == "folder/a.NPZ: cut, damaged or not a .npz file (cut short)"


def test_naming_file_other_errors_pass():
    with pytest.raises(KeyError), naming_file(PATH):
        raise KeyError("a")
    with pytest.raises(OSError, match=r"^cut$"), naming_file(PATH, damage=()):
        raise OSError("cut")
    with pytest.raises(KeyboardInterrupt), naming_file(PATH), library_errors():
        raise KeyboardInterrupt


def test_library_errors_any_error_becomes_a_data_error():
    with pytest.raises(DataError, match=r"in a form that cannot be read \(bad index\)"), library_errors():
        raise IndexError("bad index")
    with pytest.raises(DataError, match=r"^own words$"), library_errors():
        raise DataError("own words")


def test_listing_many_names_are_cut():
    assert listing([]) == ""
    assert listing(["a", "b\nc"]) == "a, b c"
    assert listing([f"n{i}" for i in range(12)]).endswith(", n11")
    assert listing([f"n{i}" for i in range(13)]).endswith(", n11, ...")


def test_library_errors_missing_library_is_no_damage():
    error = ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
    with pytest.raises(DataError) as caught, library_errors():
        raise error
    assert str(caught.value) == "needs a library that is missing (No module named 'pyarrow'): pip install pyarrow"
    with (
        pytest.raises(DataError, match=r"is missing \(install 'zstd' with: pip install zstandard\)$"),
        library_errors(),
    ):
        raise ImportError("install 'zstd' with: pip install zstandard")
