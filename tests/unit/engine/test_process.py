"""What a process sets up before it computes."""

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tofae_jax.engine import process

PROGRAM = """
import resource, sys
import numpy as np
from tofae_jax.engine import process
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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_of_freed_arrays_is_used_again():
    kept, with_it = run("keep")
    if kept != "True":
        pytest.skip("another C library")
    assert with_it < run("leave")[1] / 4


@pytest.mark.slow
def test_what_users_have_set_stays():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


@pytest.mark.backlog("B25")
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_keep_freed_memory_other_platform_does_nothing(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("the C library was opened"))
    assert not process.keep_freed_memory()


@pytest.mark.backlog("B25")
def test_keep_freed_memory_other_c_library_does_nothing(monkeypatch):
    for name in process.SET_BY_USERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # musl has no mallopt
    assert not process.keep_freed_memory()


@pytest.fixture
def cache_options(monkeypatch, tmp_path):
    """JAX options that were set; the user's cache folder is a fresh one."""
    options = {}
    monkeypatch.setattr(process, "jax", SimpleNamespace(config=SimpleNamespace(update=options.__setitem__)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(process.CACHE_VARIABLE, raising=False)
    return options


@pytest.mark.backlog("B25")
def test_use_compilation_cache_each_processor_has_a_folder(monkeypatch, cache_options, tmp_path):
    def unreadable(_):
        raise FileNotFoundError("no /proc on this platform")

    folders = set()
    for read in (unreadable, lambda _: "flags\t: sse2 avx\n", lambda _: "Features\t: neon sve\n", lambda _: "model\n"):
        monkeypatch.setattr(Path, "read_text", read)
        process.use_compilation_cache()
        folders.add(Path(cache_options["jax_compilation_cache_dir"]))
    assert len(folders) == 3  # the two without flags share one
    assert {folder.parent.parent for folder in folders} == {tmp_path}


@pytest.mark.backlog("B25")
def test_use_compilation_cache_user_setting_stays(monkeypatch, cache_options):
    monkeypatch.setenv(process.CACHE_VARIABLE, "elsewhere")
    process.use_compilation_cache()
    assert cache_options == {}
