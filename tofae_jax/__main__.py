"""`python -m tofae_jax`."""

import sys


def main() -> int:
    """Entry point; the guard below matters, as worker processes import this module again."""
    from tofae_jax.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
