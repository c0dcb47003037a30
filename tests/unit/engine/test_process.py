"""What a process sets up before it computes."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from tofae_jax import process
kept = process.keep_freed_memory() if sys.argv[1] == "keep" else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(6_000_000)
before = faults()
for _ in range(20):
    np.ones(6_000_000)  # 48 MB, given back at once; up to 32 glibc learns to keep
print(kept, faults() - before)
"""


def run(word, **environment):
    import os

    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, word],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        | environment,
    )
    kept, faults = answer.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_of_freed_arrays_is_used_again():
    kept, with_it = run("keep")
    if kept != "True":
        pytest.skip("another C library")
    assert with_it < run("leave")[1] / 4


def test_what_users_have_set_stays():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
