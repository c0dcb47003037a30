"""Start JAX on a device that is there, and say so in one line where it is not the one asked for."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from itertools import takewhile
from types import ModuleType

import jax
from jax.extend import backend

from tofae_jax.core.text import one_line
from tofae_jax.runs.messages import warn

VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
"""which ask for platforms; the second is an old one"""
ALIASES = {"gpu": ("cuda", "rocm", "oneapi")}
"""names for several of JAX's platforms"""
PLUGINS = "jax_plugins"
"""package, and group of entry points, where JAX looks for its plugins"""
MOST_SHOWN = 500
"""characters of a warning"""


def use_available_device() -> str:
    """Start JAX on a device that is there; returns its platform.

    JAX itself stops where `JAX_PLATFORMS` names a platform that is not there, for `cuda` with an assertion without
    text, and where a plugin fails. Here the platforms asked for are tried one by one, whatever their case and spaces,
    then those that JAX chooses, then the CPU. One warning says what was asked for and is not there, or why an
    accelerator cannot be used, and what there is.
    """
    variable, asked = next(((name, value) for name in VARIABLES if (value := os.environ.get(name))), ("", ""))
    names = list(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    missing: dict[str, str] = {}
    with _noted_problems() as problems:
        _pass_over_broken_plugins(problems)
        if variable and asked != ",".join(names).lower():
            jax.config.update(variable.lower(), ",".join(names).lower() or None)
        problem = _problem_of_starting()
        if names:
            missing = _start_named(names) if problem is not None else _first_missing(names)
        elif problem is not None:
            problems.append(problem or "JAX does not start by itself")
            _start_any()
    found = jax.default_backend()
    if missing:
        parts = [
            f"{name} does not start ({why})" if why else f"there is no {name} here" for name, why in missing.items()
        ]
        problems.insert(
            0, f"{variable}={asked.strip()}: {', '.join(parts)}; available: {', '.join(backend.backends())}"
        )
    if problems:
        warn(f"{one_line('; '.join(problems), limit=MOST_SHOWN)}; computing on {found}")
    return found


def _problem_of_starting() -> str | None:
    """Start JAX's backends, where they are not started yet; returns None, or why that fails, if JAX says why."""
    try:
        jax.default_backend()
    except (RuntimeError, AssertionError) as error:
        if "not in the list of known backends" in (why := str(error)):
            return ""
        return why.partition(" (set JAX_PLATFORMS=")[0].partition(" (you may need to")[0]
    return None


def _problem_on(platforms: str | None) -> str | None:
    """Start JAX on these platforms, or those that it chooses; returns as `_problem_of_starting`."""
    jax.config.update("jax_platform_name", "")
    jax.config.update("jax_platforms", platforms)
    backend.clear_backends()
    return _problem_of_starting()


def _start_any() -> None:
    """Start on what JAX chooses, or on the CPU where that fails."""
    if _problem_on(None) is not None and (problem := _problem_on("cpu")) is not None:
        raise RuntimeError(f"JAX cannot compute on this machine: {problem}")


def _start_named(names: list[str]) -> dict[str, str]:
    """Start on the platforms of these that are there, or else on any; returns why the first ones do not start."""
    there: list[str] = []
    missing: dict[str, str] = {}
    for name in names:
        problems = {own: _problem_on(own) for own in _own_names(name)}
        there += [own for own, problem in problems.items() if problem is None]
        if not there:
            missing[name] = next((problem for problem in problems.values() if problem), "")
    if not there or _problem_on(",".join(there)) is not None:
        _start_any()
    return missing


def _first_missing(names: list[str]) -> dict[str, str]:
    """Find the platforms before the first one that JAX has started, as it passes over some in silence."""
    started = backend.backends()
    return dict.fromkeys(takewhile(lambda name: not any(own in started for own in _own_names(name)), names), "")


def _own_names(name: str) -> list[str]:
    """List the names that JAX may have for a platform: in lower case, and as they are."""
    return list(ALIASES.get(name.lower(), dict.fromkeys([name.lower(), name])))


@contextmanager
def _noted_problems() -> Iterator[list[str]]:
    """Collect what JAX logs about its backends and plugins, with tracebacks, while the context is open."""
    problems: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        problems.append(record.getMessage() + (f": {type(error).__name__}: {error}" if error is not None else ""))
        return False

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(note)
    try:
        yield problems
    finally:
        logger.removeFilter(note)


def _pass_over_broken_plugins(problems: list[str]) -> None:
    """Put modules that do nothing in place of JAX's plugins that cannot be imported: some would stop JAX altogether."""
    places = getattr(sys.modules.get(PLUGINS) or _imported(PLUGINS), "__path__", [])
    names = {module.name for module in pkgutil.iter_modules(places, f"{PLUGINS}.")}
    for name in sorted(names | {point.value for point in entry_points(group=PLUGINS)}):
        try:
            importlib.import_module(name)
        except Exception as error:  # a plugin is any code
            problems.append(f"plugin {name} cannot be imported ({type(error).__name__}: {error})")
            sys.modules[name] = module = ModuleType(name)
            module.__dict__["initialize"] = lambda: None


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
