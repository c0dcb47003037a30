"""Settings of TensorBoard, recorder, timer and profilers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tofae_jax.config.types import Count, Positive, PositiveCount, PositiveManyCount, Section


class TrackingConfig(Section, frozen=True):
    """TensorBoard"""

    tensorboard: bool = True
    """write TensorBoard files"""
    images_every: Count = 5
    """epochs between pictures of a validation event; 0: none"""
    histograms_every: Count = 5
    """epochs between histograms of the weights; 0: none"""
    dashboard: bool = False
    """start a TensorBoard server for the runs, where it is installed and there is a display"""
    dashboard_headless: bool = False
    """start it on a machine without a display too"""
    dashboard_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 6006
    """its port on 127.0.0.1; 0: any free one"""


class InstrumentsConfig(Section, frozen=True):
    """what may be measured and recorded beside; all off by default"""

    record_every: Count = 0
    """epochs between recordings of activations, weights and biases; 0: none"""
    record_flush_every: PositiveCount = 5
    """recorded epochs between writes"""
    record_memory_mib: Positive = 256.0
    """memory that recordings may take before they are written"""
    timer: bool = False
    """time the parts of the run, with a timeline plot"""
    profile_steps: Count = 0
    """training steps traced with JAX's profiler; 0: none"""
    profile_first_step: PositiveManyCount = 10
    """first of them, counted from 1, after the ones that compile"""
    profile_folder: str = ""
    """where the trace goes; empty: profile/ in the run folder"""
    python_profile: bool = False
    """profile the Python code of the whole run"""
    python_profile_viewer: bool = False
    """and open it in snakeviz, where that is installed"""
