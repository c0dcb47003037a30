"""Messages of the library where the command line does not print them."""

import subprocess
import sys

import pytest
from places import ROOT

USED = """
from tofae_jax.runs.messages import say, warn
say("said")
warn("warned")
"""


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("", "warned\n"),
        ("import logging; logging.basicConfig(level='INFO', format='%(name)s %(message)s')", "tofae_jax {}\n" * 2),
        ("import logging; logging.getLogger('tofae_jax').setLevel('ERROR')", ""),
    ],
)
def test_say_and_warn_in_a_library_follow_its_logging(setup, expected):
    done = subprocess.run([sys.executable, "-c", setup + USED], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""
    assert done.stderr == expected.replace("{}", "said", 1).replace("{}", "warned", 1)
