"""The command line: `python -m tofae_jax COMMAND`. Whatever a command needs is imported inside it.

A user's mistake gives one line on stderr that names it, and exit code 2; a run that fails gives one line and code 1.
Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tofae_jax.cli.convert import convert
from tofae_jax.cli.denoise import denoise
from tofae_jax.cli.evaluate import evaluate
from tofae_jax.cli.inspect import inspect
from tofae_jax.cli.lineage import lineage
from tofae_jax.cli.options import EXIT_CODES, PROGRAM
from tofae_jax.cli.report import report
from tofae_jax.cli.simulate import simulate
from tofae_jax.cli.train import train

if TYPE_CHECKING:
    pass
DEBUG_VARIABLE = "TOFAE_JAX_DEBUG"


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "simulate": simulate,
    "convert": convert,
    "inspect": inspect,
    "train": train,
    "evaluate": evaluate,
    "denoise": denoise,
    "report": report,
    "lineage": lineage,
}


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: python -m {PROGRAM} COMMAND [OPTIONS]",
            "",
            "Denoise sparse time-of-flight detector events.",
            "",
            "commands:",
            *lines,
            "",
            f"python -m {PROGRAM} COMMAND --help lists the options of a command.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    name, *rest = words
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {close[0]}" if close else ""
        return _fail(f"there is no command {name!r}{hint} (known: {', '.join(COMMANDS)})", 2)
    try:
        return COMMANDS[name](rest) or 0
    except KeyboardInterrupt as error:  # of `Control`, it names the signal that came again
        return _fail("interrupted", EXIT_CODES.get(str(error).partition(" ")[0], 130))
    except ValueError as error:
        return _failed(error, str(error), 2)
    except BrokenPipeError:  # of our output; the caller of all this ends quietly
        raise
    except OSError as error:
        return _failed(error, f"{error.filename or name}: {error.strerror or error}", 1)
    except Exception as error:  # a fault of ours, or of the machine
        hint = f"{DEBUG_VARIABLE}=1 in the environment shows where"
        return _failed(error, f"{type(error).__name__}: {error} ({hint})", 1)


def _failed(error: Exception, message: str, code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    return _fail(message, code)


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
