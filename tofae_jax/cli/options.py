"""Settings of the commands other than `train`, whose settings are `Config`."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from tofae_jax.cli import options as c
from tofae_jax.config import ConfigError, checked
from tofae_jax.config.types import (
    Section,
)

if TYPE_CHECKING:
    pass


class ColumnsConfig(Section, frozen=True):
    """names of the columns in the tables of .root, .parquet, .arrow and .h5 files"""

    event: str = "event"
    """number of the event, never falling; empty: the rows are the events and are counted"""
    x: str = "x"
    """pixel column, or mm"""
    y: str = "y"
    """pixel row, or mm"""
    t: str = "t"
    """time bin, or ns"""
    further: str = "all"
    """further columns to read: all that hold numbers, none, or names separated by commas"""


class SourceOptions(Section, frozen=True, kw_only=True):
    """how to read a file of another program"""

    array: str | None = None
    """which array of an .npz file"""
    tree: str | None = None
    """which tree of a .root file (DIRECTORY/NAME), or group of an .h5 file; None: the only one there is"""
    columns: ColumnsConfig = ColumnsConfig()
    units: Literal["pixels", "physical"] = "pixels"
    """of the x, y, t of a table; physical: mm and ns, by the detector's scale, where hits outside it are dropped"""
    origin: Literal["edge", "centre"] = "edge"
    """what physical x and y are measured from, the detector's edge or its centre"""


PROGRAM = "tofae_jax"
EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}  # of runs that a signal stopped, as shells have it
S = TypeVar("S", bound=msgspec.Struct)


def parse(kind: type[S], argv: Sequence[str], *, command: str, default: S | None = None, about: str = "") -> S:
    """Typed settings from the command line; ConfigError in one line for whatever is wrong with it."""
    import tyro

    said = io.StringIO()
    options: Any = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            settings = tyro.cli(
                kind, args=list(argv), prog=f"{PROGRAM} {command}", description=about or kind.__doc__, **options
            )
    except SystemExit as error:
        if error.code:
            raise ConfigError(f"{command}: {one_line(said.getvalue())}") from None
        raise
    return checked(settings, command)


def one_line(box: str) -> str:
    """The first words of an error that was drawn as a box, and what it thinks was meant."""
    text = re.sub(r"\[/?bold\]", "", box)
    framed = "╭" in text  # where the terminal knows no such signs, the title stands on a line of its own
    lines = [line.strip("│ ") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    parts: list[str] = [""]
    for line in lines:
        if line and not line.strip("─-"):
            parts.append("")
        else:
            parts[-1] = f"{parts[-1]} {line}".strip()
    message, *rest = parts if framed or len(parts) == 1 else parts[1:]
    message = message.partition(". Got errors:")[0]  # what each type of a union says
    message = re.sub(r"^Error parsing \w+: ", "", message)  # the name of a class, before what settings say themselves
    hint = next((re.search(r"(--\S+)", part) for part in rest if part.startswith("Perhaps you meant")), None)
    return f"{message}; perhaps you meant {hint.group(1)}" if hint else message


def _reading_options(settings: c.SourceOptions) -> dict[str, Any]:
    """What `read_events` takes."""
    columns = msgspec.structs.asdict(settings.columns)
    further = columns.pop("further")
    return {
        "array": settings.array,
        "tree": settings.tree,
        "columns": {name: column for name, column in columns.items() if name != column},
        "further": None if further == "all" else [name for name in further.split(",") if name not in ("", "none")],
        "units": settings.units,
        "origin": settings.origin,
    }
