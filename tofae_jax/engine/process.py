"""Set up a process before it computes: device, compilation cache, memory allocator."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import sys
import time
from pathlib import Path

import jax

from tofae_jax.data.storage.cache import cache_folder
from tofae_jax.engine.available_device import use_available_device

PROCESS_BEGAN_S = time.time()
"""when this module was loaded, soon after the process began [s since the epoch]"""

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""numbers of these parameters of glibc's `mallopt(3)`"""
KEEP_BYTES = 2**30
"""blocks smaller than this come from memory that stays with the process"""
KEEP_BYTES_THEN = 2**25
"""the most that older versions allow"""
MOST_BYTES = 2**31 - 1
SET_BY_USERS = (
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_ARENA_MAX",
)


def prepare_process() -> None:
    """All of it; for commands and benchmarks, as it is for the whole process. Importing the package does none of it."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # its warnings are about the workings of Orbax
    use_compilation_cache()
    keep_freed_memory()
    use_available_device()


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed arrays for the next ones.

    By default glibc maps every array above a few MB afresh, and each page is zeroed on first write. On CPUs that costs
    several times the arithmetic of element-wise operations: a training step of the hit transformer takes half the time
    if freed memory is kept. The process then holds on to the most memory that it ever needed. All threads share one
    arena, as others give large blocks back to the system whatever the thresholds.

    Returns:
        Whether it will: False where users have set the allocator up themselves, and with allocators other than glibc's.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SET_BY_USERS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    kept = any(mallopt(M_MMAP_THRESHOLD, size) for size in (KEEP_BYTES, KEEP_BYTES_THEN))  # the first that it takes
    return all([kept, mallopt(M_TRIM_THRESHOLD, MOST_BYTES), mallopt(M_ARENA_MAX, 1)])


def use_compilation_cache() -> None:
    """Keep compiled programs between processes, in the user's cache folder, unless JAX was told where to.

    One folder per kind of processor: homes are shared, and a program compiled for one CPU may not run on another.
    """
    if os.environ.get(CACHE_VARIABLE) is not None:
        return
    try:
        flags = next(
            line
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.lower().startswith(("flags", "features"))
        )
    except (OSError, StopIteration):
        flags = ""
    cpu = hashlib.sha256(flags.encode()).hexdigest()[:8]
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / f"compiled-{cpu}"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
