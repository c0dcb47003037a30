"""`python -m tofae_jax`."""

import sys


def main() -> int:
    """Entry point; the guard below matters, as worker processes import this module again."""
    from tofae_jax.cli.standard_streams import STDOUT, end_streams, open_closed_streams

    open_closed_streams()
    from tofae_jax.cli.app import main as run

    try:
        try:
            code = run(sys.argv[1:])
        except SystemExit as end:  # after --help
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        end_streams()
    except BrokenPipeError:  # the reader of the output ended, as `head` does
        return 141
    except OSError as error:
        if error.filename != STDOUT:
            raise
        print(f"tofae_jax: {STDOUT}: {error.strerror}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
