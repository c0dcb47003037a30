"""`python -m tofae_jax`."""

import io
import sys


def main() -> int:
    """Entry point; the guard below matters, as worker processes import this module again."""
    from tofae_jax.cli import main as run

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a sign that the terminal does not know must not end a run
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
