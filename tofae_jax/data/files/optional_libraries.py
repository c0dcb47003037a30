"""Libraries for the files of other programs: extras, imported only where such a file is read or written."""

from __future__ import annotations

import importlib
from typing import Any

from tofae_jax.data.events import DataError

_NEEDED = {  # the extra of pyproject.toml, and the modules that it brings
    ".root": ("root", ("uproot", "awkward")),
    ".parquet": ("columns", ("pyarrow", "pyarrow.parquet")),
    ".pq": ("columns", ("pyarrow", "pyarrow.parquet")),
    ".arrow": ("columns", ("pyarrow", "pyarrow.compute")),
    ".feather": ("columns", ("pyarrow", "pyarrow.compute")),
    ".h5": ("hdf5", ("h5py",)),
    ".hdf5": ("hdf5", ("h5py",)),
}


def libraries(ending: str) -> tuple[Any, ...]:
    """The modules that files of this ending need, in the order of `_NEEDED`; `DataError` where one is missing."""
    extra, names = _NEEDED[ending]
    try:
        return tuple(map(importlib.import_module, names))
    except ModuleNotFoundError as error:
        needed = names[0] if error.name is None else error.name.partition(".")[0]
        raise DataError(f"{ending} files need {needed}: pip install 'tofae-jax[{extra}]'") from error
