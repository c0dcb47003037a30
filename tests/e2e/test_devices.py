"""Devices: an absent accelerator falls back to the CPU with one message, and data are moved to the device once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

COMPUTE = """
from tofae_jax.engine.process import prepare_process
prepare_process()
import jax.numpy as jnp
print(jnp.arange(4.0).sum(), jnp.ones(1).device.platform)
"""


def run(*command, platforms):
    environment = {"JAX_PLATFORMS": platforms, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.mark.backlog("B06")
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has an accelerator")
@pytest.mark.parametrize("platforms", ["cuda", "tpu", "cuda,cpu"])
def test_prepare_process_absent_accelerator_uses_cpu(platforms):
    answer = run("-c", COMPUTE, platforms=platforms)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "6.0 cpu\n"
    (line,) = answer.stderr.splitlines()
    assert line.removeprefix("warning: ").startswith(f"JAX_PLATFORMS={platforms}: ")
    assert line.endswith("; available: cpu; computing on cpu")


@pytest.mark.backlog("B06")
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has the accelerator asked for")
def test_denoise_absent_accelerator_is_named(tmp_path):
    answer = run("-m", "tofae_jax", "denoise", str(tmp_path / "none"), "in.csv", "out.csv", platforms="cuda")
    assert answer.returncode == 2
    warning, error = answer.stderr.splitlines()
    assert "JAX_PLATFORMS=cuda" in warning and "cpu" in warning
    assert "no such run" in error
