"""Typed options of the commands, parsed by tyro; the options that several commands share."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from tyro.conf import arg

from tofae_jax.config import ConfigError, checked, leaves, to_tree
from tofae_jax.config.types import Positive, PositiveManyCount, Section
from tofae_jax.core.detector import Detector
from tofae_jax.core.text import one_line
from tofae_jax.data.files import registry
from tofae_jax.data.files.limits import Limits

if TYPE_CHECKING:
    from tofae_jax.data.files.tables import Reading

PROGRAM = "tofae_jax"
EXIT_CODES = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}
"""of runs that a signal stopped, as in shells"""
S = TypeVar("S", bound=msgspec.Struct)
HIT_FILES = ", ".join(registry.readable_endings("hits"))
IMAGE_FILES = ", ".join(registry.readable_endings("images"))
WRITABLE_FILES = ", ".join(registry.writable_endings())
TRACK_FILES = ", ".join(registry.track_endings())
TABLES = ", ".join(registry.table_endings())
FILES_WITH_TREES = ", ".join(registry.endings_with_trees())
TEXT_FILES = ", ".join(registry.endings_of_text())
FILES_WITH_ARRAYS = ", ".join(registry.endings_with_arrays())


class ColumnsConfig(Section, frozen=True):
    """names of the columns of a table, the kinds of file that --units is for"""

    event: str = "event"
    """number of the event, never falling; empty: the rows are the events and are counted; several, separated by
    commas, number the events together: run,event"""
    x: str = "x"
    """pixel column, or mm"""
    y: str = "y"
    """pixel row, or mm"""
    t: str = "t"
    """time bin, or ns"""
    further: str = "all"
    """further columns to read: all that hold numbers, none, or names separated by commas"""
    per: Literal["", "hit", "event"] = ""
    """what the columns of an HDF5 group have a value for, where there are as many hits as events"""


class LimitsConfig(Section, frozen=True):
    """what a file of another program may ask for; it is refused where it asks for more"""

    memory_gb: Positive = Limits().memory_gb
    """memory that reading takes at once, in GB"""
    event_hits: PositiveManyCount = Limits().event_hits
    """hits of one event"""
    expansion: Positive = Limits().expansion
    """bytes of content for each byte that is stored compressed"""

    @property
    def chosen(self) -> Limits:
        """The limits that readers take."""
        return Limits(**msgspec.structs.asdict(self))


class SourceOptions(Section, frozen=True, kw_only=True):
    """how to read a file of another program"""

    array: Annotated[str | None, arg(help=f"which array of a file that can hold several ({FILES_WITH_ARRAYS})")] = None
    tree: Annotated[
        str | None,
        arg(
            help=f"which tree (DIRECTORY/NAME) or group of a file that can hold several ({FILES_WITH_TREES}); "
            "None: the only one there is"
        ),
    ] = None
    columns: ColumnsConfig = ColumnsConfig()
    units: Annotated[
        Literal["pixels", "physical"],
        arg(
            help=f"units of x, y, t in a table ({TABLES}); physical: mm and ns, by the detector's scale, where hits "
            "outside it are dropped"
        ),
    ] = "pixels"
    origin: Literal["edge", "centre"] = "edge"
    """what physical x and y are measured from, the detector's edge or its centre"""
    decimal: Annotated[Literal[".", ","], arg(help=f"decimal point of text ({TEXT_FILES})")] = "."
    limits: LimitsConfig = LimitsConfig()


class OutputOptions(SourceOptions, frozen=True, kw_only=True):
    """what the columns of a file are that is made from another file"""

    output_units: Literal["own", "pixels"] = "own"
    """own: names, units and values of the columns as they are in the source, and its rows, one per event or per hit;
    pixels: event, x, y, t in pixels and time bins"""


def say_of_reading(source: object, reading: Reading) -> None:
    """Say what was not taken over from a file: columns that hold no numbers, hits outside the detector."""
    from tofae_jax.runs.messages import say

    if reading.left_out:
        shown = ", ".join(f"{one_line(name)} ({one_line(kind)})" for name, kind in [*reading.left_out.items()][:12])
        say(f"{source}: columns left out: {shown}{', ...' if len(reading.left_out) > 12 else ''}")
    if reading.tally.n_outside:
        say(f"{source}: {reading.tally}")


def reading_options(options: SourceOptions) -> dict[str, Any]:
    """Return the keyword arguments of `read_events` for these options."""
    columns = msgspec.structs.asdict(options.columns)
    further, per = columns.pop("further"), columns.pop("per")
    return {
        "array": options.array,
        "tree": options.tree,
        "columns": {name: column for name, column in columns.items() if name != column},
        "further": None
        if further == "all"
        else [name for name in map(str.strip, further.split(",")) if name not in ("", "none")],
        "units": options.units,
        "origin": options.origin,
        "decimal": options.decimal,
        "per": per,
        "limits": options.limits.chosen,
    }


def parse(kind: type[S], argv: Sequence[str], *, command: str, default: S | None = None, about: str = "") -> S:
    """Parse the words of a command line into typed options.

    Args:
        kind: struct of the options; its docstrings are the help.
        argv: words after the command.
        command: name of the command, for the help and for errors.
        default: options that the words change; None: the defaults of `kind`.
        about: description in the help; empty: the docstring of `kind`.

    Raises:
        ConfigError: an option is not known, or its value is not allowed; one line.
    """
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
            raise ConfigError(f"{command}: {error_of_box(said.getvalue())}") from None
        raise
    return checked(settings, command)


def given_keys(words: Sequence[str], settings: msgspec.Struct) -> set[str]:
    """List the dotted keys of the settings that the words of a command line give, whatever their values."""
    names = {word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    names |= {".".join([*section, last.removeprefix("no_")]) for *section, last in (name.split(".") for name in names)}
    return {key for key, _ in leaves(to_tree(settings)) if f"{key}.".startswith(tuple(f"{name}." for name in names))}


def check_own_detector(words: Sequence[str], settings: msgspec.Struct, path: Path, own: Detector) -> None:
    """Raise `ConfigError` where the words of a command line give a dataset another detector than its own."""
    given = {key.partition(".")[2] for key in given_keys(words, settings) if key.startswith("detector.")}
    chosen: Any = settings
    for name in sorted(given):
        if getattr(chosen.detector, name) != getattr(own, name):
            raise ConfigError(
                f"{path}: is a dataset, whose detector has {name} = {getattr(own, name)}; leave "
                f"--detector.{name.replace('_', '-')} out"
            )


def error_of_box(box: str) -> str:
    """Return, on one line, the error that tyro has drawn as a box, with its suggestion of another option."""
    text = re.sub(r"\[/?bold\]", "", box)
    framed = "╭" in text  # a terminal that lacks these characters gets the title on a line of its own
    lines = [line.strip("│ ") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    parts: list[str] = [""]
    for line in lines:
        if line and not line.strip("─-"):
            parts.append("")
        else:
            parts[-1] = f"{parts[-1]} {line}".strip()
    message, *rest = parts if framed or len(parts) == 1 else parts[1:]
    message = message.partition(". Got errors:")[0]  # the errors of every type of a union
    message = re.sub(r"^Error parsing \w+: ", "", message)  # name of a class, before the message of a struct
    hint = next((re.search(r"(--\S+)", part) for part in rest if part.startswith("Perhaps you meant")), None)
    return f"{message}; perhaps you meant {hint.group(1)}" if hint else message
