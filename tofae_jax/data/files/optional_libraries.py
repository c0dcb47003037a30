"""Import the libraries of a file format, which extras bring, only where such a file is read or written."""

from __future__ import annotations

import importlib
from typing import Any

from tofae_jax.data.events import DataError
from tofae_jax.data.files.format import Format


def import_libraries(kind: Format, ending: str | None = None) -> tuple[Any, ...]:
    """Import the modules in `kind.libraries` and return them in that order.

    Raises `DataError` where one is missing; it names the file's ending (default: the usual one), library and extra.
    """
    try:
        return tuple(map(importlib.import_module, kind.libraries))
    except ModuleNotFoundError as error:
        needed = (error.name or kind.libraries[0]).partition(".")[0]
        source = needed if kind.extra is None else f"'tofae-jax[{kind.extra}]'"
        raise DataError(f"{ending or kind.endings[0]} files need {needed}: pip install {source}") from error
