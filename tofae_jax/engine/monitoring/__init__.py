"""Optional instruments of a run: a recorder of arrays, a timer, profilers. Explicit objects; off means not made.

Each is a context manager that ends properly on every way out, an exception included.
"""

from tofae_jax.engine.monitoring.profiler import StepProfiler, python_profile
from tofae_jax.engine.monitoring.recorder import (
    KINDS,
    Kind,
    Recorder,
    Recording,
    activations_of,
    read_recording,
    split_parameters,
)
from tofae_jax.engine.monitoring.timer import Timer
from tofae_jax.runs.timeline import Span, Timeline, Total, read_timeline

__all__ = [
    "KINDS",
    "Kind",
    "Recorder",
    "Recording",
    "Span",
    "StepProfiler",
    "Timeline",
    "Timer",
    "Total",
    "activations_of",
    "python_profile",
    "read_recording",
    "read_timeline",
    "split_parameters",
]
