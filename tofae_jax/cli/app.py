"""The command line: `python -m tofae_jax COMMAND`. Each command is a module of this package, listed in `COMMANDS`.

A user's mistake gives one line on stderr that names it, and exit code 2; a run that fails gives one line and code 1.
Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tofae_jax.cli.options import EXIT_CODES, PROGRAM
from tofae_jax.core.text import one_line
from tofae_jax.data.storage.interrupts import signals_interrupt
from tofae_jax.runs.messages import messages_on_stderr, show

DEBUG_VARIABLE = "TOFAE_JAX_DEBUG"
COMMANDS = (
    "simulate",
    "convert",
    "inspect",
    "train",
    "evaluate",
    "denoise",
    "report",
    "lineage",
    "pack",
)
"""modules of `tofae_jax.cli`, each with `Options`, whose docstring is the help of the command, and `run(argv)`, which
carries it out and returns the exit code, or None for 0"""


def command(name: str) -> Any:
    """Import the module of a command."""
    return import_module(f"tofae_jax.cli.{name}")


def usage() -> str:
    """Return the text that `--help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command(name).Options.__doc__}" for name in COMMANDS]
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
        show(usage())
        return 0 if words else 2
    name, *rest = words
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {close[0]}" if close else ""
        return _fail(f"there is no command {name!r}{hint} (known: {', '.join(COMMANDS)})", 2)
    _drop_missing_backend()
    try:
        with messages_on_stderr(), signals_interrupt():
            return command(name).run(rest) or 0
    except KeyboardInterrupt as error:  # it names the signal
        return _fail("interrupted", EXIT_CODES.get(str(error).partition(" ")[0], 130))
    except ValueError as error:
        return _failed(error, str(error), 2)
    except ModuleNotFoundError as error:
        if "tofae-jax[" not in str(error):  # not an extra that is missing, but a broken installation
            return _failed(error, f"ModuleNotFoundError: {error} (reinstall tofae-jax)", 1)
        return _failed(error, str(error), 2)
    except BrokenPipeError:  # of our stdout; `__main__` ends quietly
        raise
    except OSError as error:
        return _failed(error, f"{error.filename or name}: {error.strerror or error}", 1)
    except Exception as error:  # a bug, or a failure of the machine
        hint = f"set {DEBUG_VARIABLE}=1 in the environment for the traceback"
        return _failed(error, f"{type(error).__name__}: {str(error) or 'no message'} ({hint})", 1)


def _drop_missing_backend() -> None:
    """Ignore a Matplotlib backend of a module that is not installed here, which notebooks hand on to their shells."""
    module = os.environ.get("MPLBACKEND", "").partition("module://")[2]
    try:
        is_missing = bool(module) and find_spec(module) is None
    except (ImportError, ValueError):
        is_missing = True
    if is_missing:
        del os.environ["MPLBACKEND"]


def _failed(error: Exception, message: str, code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    return _fail("; ".join([message or type(error).__name__, *getattr(error, "__notes__", [])]), code)


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {one_line(message, limit=None)}", file=sys.stderr)
    return code
