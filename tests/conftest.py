"""Set up before anything of the package is imported: types and shapes are checked at run time, programs are cached."""

import os
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# most of the time goes into compiling programs that run once: little optimisation halves it
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # another version may not know the option, and would refuse to start
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# shells ignore Ctrl-C in background jobs, and nohup SIGHUP: the runs that tests interrupt would inherit that
for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), usual)

import jax
import jaxtyping
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

install_import_hook("tofae_jax", "typecheck.typecheck")

# one cache for all workers and later runs on this machine: the tests spend most of their time compiling
CACHE = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", Path(tempfile.gettempdir()) / "tofae_jax-test-programs"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

os.environ["XDG_CACHE_HOME"] = str(CACHE.with_name("tofae_jax-test-cache"))  # which files have been verified

import tofae_jax.metrics  # noqa: F401

# every run ends with confidence intervals, and where types are checked at run time a thousand resamples take seconds
sys.modules["tofae_jax.metrics.bootstrap"].N_RESAMPLES = 50

settings.register_profile(
    "tofae_jax", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tofae_jax")

from places import REFERENCE

from tofae_jax.runs.messages import messages_on_stderr


@pytest.fixture
def strict():
    """No silent promotion of dtypes or ranks while a test runs."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def untyped():
    """Types are not checked while a test runs, as for users: it gives what the package's own checks must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def messages():
    """Messages appear on stderr, as on the command line, also where a test calls functions directly."""
    with messages_on_stderr():
        yield


@pytest.fixture(scope="session")
def reference():
    """Numbers made by running the predecessor, by file name."""
    import numpy as np

    def load(name):
        return np.load(REFERENCE / f"{name}.npz", allow_pickle=False)

    return load


@pytest.fixture(scope="session")
def measured(tmp_path_factory):
    """A dataset of events of the LHCb TORCH module as a detector sees them, with one or two tracks each."""
    from module_datasets import simulate_module

    return simulate_module(tmp_path_factory.mktemp("measured") / "data", tracks=(1, 2))
