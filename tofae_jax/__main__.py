"""`python -m tofae_jax`."""

import io
import os
import sys


def main() -> int:
    """Entry point; the guard below matters, as worker processes import this module again."""
    from tofae_jax.cli.app import main as run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the terminal does not know must not end a run
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has had enough, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush goes nowhere
        return 141
    return code


if __name__ == "__main__":
    sys.exit(main())
