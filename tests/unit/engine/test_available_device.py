"""A device that is there is used, and one line says what was asked for and is not."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from places import ROOT

from tofae_jax.engine import available_device
from tofae_jax.engine.available_device import use_available_device

KNOWN = ("cpu", "tpu")
"""platforms that JAX knows without plugins"""


class StandIn:
    """JAX and its backends on a machine with these platforms; `broken` ones fail, unless they are not asked for."""

    def __init__(self, *there, broken=()):
        self.there, self.broken = there, broken
        self.config = SimpleNamespace(
            jax_platforms=os.environ.get("JAX_PLATFORMS"), jax_platform_name="", update=self._update
        )
        self.extend = SimpleNamespace(backend=self)
        self._started = {}

    def _update(self, name, value):
        assert hasattr(self.config, name)
        setattr(self.config, name, value)

    def clear_backends(self):
        self._started = {}

    def backends(self):
        if self._started:
            return self._started
        asked = self.config.jax_platforms
        aliases = {"gpu": ["cuda", "rocm", "oneapi"]}
        names = [own for name in asked.split(",") for own in aliases.get(name, [name])] if asked else self.there
        for name in names:
            if name == "cuda" and name not in self.there:
                continue  # as JAX does where it sees no GPU
            if name in self.broken or name not in self.there:
                is_known = name in (*KNOWN, *self.broken)
                why = "no driver" if is_known else f"Backend '{name}' is not in the list of known backends: ['cpu']"
                raise RuntimeError(f"Unable to initialize backend '{name}': {why} (set JAX_PLATFORMS='' to ...)")
            self._started[name] = name
        if not self._started:
            raise AssertionError  # without text
        return self._started

    def default_backend(self):
        if (name := self.config.jax_platform_name) and name not in self.backends():
            raise RuntimeError(f"Unknown backend: '{name}' requested")
        first = next(iter(self.backends()))
        return "gpu" if first == "cuda" else first


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine with these platforms, on which JAX is asked for others."""

    def make(asked, *there, **options):
        monkeypatch.delenv("JAX_PLATFORM_NAME", raising=False)
        monkeypatch.setenv("JAX_PLATFORMS", asked)
        stand_in = StandIn(*there, **options)
        monkeypatch.setattr(available_device, "jax", stand_in)
        monkeypatch.setattr(available_device, "backend", stand_in)
        return stand_in

    return make


@pytest.mark.backlog("B06")
@pytest.mark.parametrize(
    ("asked", "there", "found", "line"),
    [
        ("cuda", ["cpu"], "cpu", "JAX_PLATFORMS=cuda: there is no cuda here; available: cpu; computing on cpu"),
        ("foo", ["cpu"], "cpu", "JAX_PLATFORMS=foo: there is no foo here; available: cpu; computing on cpu"),
        (" ROCm ", ["cpu"], "cpu", "JAX_PLATFORMS=ROCm: there is no ROCm here; available: cpu; computing on cpu"),
        ("gpu", ["cpu"], "cpu", "JAX_PLATFORMS=gpu: there is no gpu here; available: cpu; computing on cpu"),
        ("cuda,cpu", ["cpu"], "cpu", "JAX_PLATFORMS=cuda,cpu: there is no cuda here; available: cpu; computing on"),
        ("foo, cpu", ["cpu"], "cpu", "JAX_PLATFORMS=foo, cpu: there is no foo here; available: cpu; computing on"),
        (
            "foo,cuda,cpu",
            ["cuda", "cpu"],
            "gpu",
            "JAX_PLATFORMS=foo,cuda,cpu: there is no foo here; available: cuda",
        ),
        ("rocm", ["cuda", "cpu"], "gpu", "JAX_PLATFORMS=rocm: there is no rocm here; available: cuda, cpu; computing"),
        (
            "tpu",
            ["cpu"],
            "cpu",
            "JAX_PLATFORMS=tpu: tpu does not start (Unable to initialize backend 'tpu': no",
        ),
        ("cuda,tpu", ["cpu"], "cpu", "JAX_PLATFORMS=cuda,tpu: there is no cuda here, tpu does not start (Unable to"),
    ],
)
def test_use_available_device_absent_device_is_named(machine, capsys, messages, asked, there, found, line):
    machine(asked, *there)
    assert use_available_device() == found
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"warning: {line}")
    assert said.endswith(f"computing on {found}")


@pytest.mark.parametrize(
    ("asked", "there", "found"),
    [
        ("", ["cpu"], "cpu"),
        (" ", ["cpu"], "cpu"),
        (",", ["cuda", "cpu"], "gpu"),
        ("cpu", ["cuda", "cpu"], "cpu"),
        ("CPU ", ["cuda", "cpu"], "cpu"),
        ("cpu,cuda", ["cpu"], "cpu"),
        ("cpu,tpu", ["cpu"], "cpu"),
        ("cuda", ["cuda", "cpu"], "gpu"),
        ("CUDA,cpu", ["cuda", "cpu"], "gpu"),
        ("gpu", ["cuda", "cpu"], "gpu"),
        ("METAL", ["METAL", "cpu"], "METAL"),
    ],
)
def test_use_available_device_present_device_says_nothing(machine, capsys, messages, asked, there, found):
    machine(asked, *there)
    assert use_available_device() == found
    assert capsys.readouterr().err == ""


@pytest.mark.backlog("B06")
def test_use_available_device_broken_accelerator_uses_cpu(machine, capsys, messages):
    machine("", "cuda", "cpu", broken=["cuda"])
    assert use_available_device() == "cpu"
    assert capsys.readouterr().err == ("warning: Unable to initialize backend 'cuda': no driver; computing on cpu\n")


def test_use_available_device_broken_cpu_is_one_error(machine):
    machine("", "cpu", broken=["cpu"])
    with pytest.raises(RuntimeError, match="JAX cannot compute on this machine: Unable to initialize backend 'cpu'"):
        use_available_device()


def test_use_available_device_old_variable_is_named(machine, monkeypatch, capsys, messages):
    machine("", "cpu")
    monkeypatch.setenv("JAX_PLATFORM_NAME", "GPU")
    assert use_available_device() == "cpu"
    assert "JAX_PLATFORM_NAME=GPU: " in capsys.readouterr().err


def test_use_available_device_logged_problems_are_one_line(machine, monkeypatch, capsys, messages):
    """JAX logs them with tracebacks."""
    stand_in = machine("", "cpu")
    real = stand_in.backends

    def backends():
        logger = logging.getLogger("jax._src.xla_bridge")
        logger.debug("of no interest")
        try:
            raise OSError("libcuda.so.1:\n cannot open")
        except OSError:
            logger.exception("Exception when calling %s.initialize()", "jax_plugins.one")
        logger.warning("An NVIDIA GPU may be present")
        stand_in.backends = real
        return real()

    stand_in.backends = backends
    assert use_available_device() == "cpu"
    assert capsys.readouterr().err == (
        "warning: Exception when calling jax_plugins.one.initialize(): OSError: libcuda.so.1: cannot open; "
        "An NVIDIA GPU may be present; computing on cpu\n"
    )
    assert not logging.getLogger("jax._src.xla_bridge").filters


@pytest.mark.parametrize(
    "source", ["raise OSError('no libcuda')", "import not_there", "raise SystemError('odd')", "raise ValueError"]
)
def test_use_available_device_broken_plugin_is_passed_over(machine, monkeypatch, tmp_path, capsys, messages, source):
    machine("", "cpu")
    (tmp_path / "broken_one.py").write_text(source)
    package = ModuleType("jax_plugins")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "jax_plugins", package)
    monkeypatch.delitem(sys.modules, "jax_plugins.broken_one", raising=False)
    assert use_available_device() == "cpu"
    said = capsys.readouterr().err
    assert said.startswith("warning: plugin jax_plugins.broken_one cannot be imported (")
    assert said.count("\n") == 1
    assert sys.modules.pop("jax_plugins.broken_one").initialize() is None
    assert Path(package.__path__[0]) == tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "raise OSError('no driver')",
        "def initialize():\n    raise RuntimeError('no driver')",
        "from jax._src import xla_bridge\ndef fail():\n    raise RuntimeError('no driver')\n"
        "def initialize():\n    xla_bridge.register_backend_factory('odd', fail, priority=400, fail_quietly=False)",
    ],
)
def test_use_available_device_jax_with_a_broken_plugin_computes(tmp_path, source):
    (tmp_path / "jax_plugins" / "odd").mkdir(parents=True)
    (tmp_path / "jax_plugins" / "odd" / "__init__.py").write_text(source)
    program = (
        "from tofae_jax.engine.available_device import use_available_device\n"
        "import jax.numpy as jnp\n"
        "print(use_available_device(), jnp.arange(4).sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "JAX_PLATFORMS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[1]) == (0, "6"), done.stderr
    (line,) = done.stderr.splitlines()
    assert "no driver" in line and "; computing on" in line
