"""Simulated events per second: toy patterns on the host, the LHCb TORCH module on the device.

    python benchmarks/bench_simulation.py [--rounds 5] [--out benchmarks/results/NAME.json]

Everything is drawn once first, which compiles; then the kinds take turns, each `rounds` times, and medians are
reported. `device`: dense patterns of one track as arrays, without backgrounds. `host`: complete events as training
reads them, with backgrounds and truth.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import tyro

from tofae_jax.core.detector import Detector
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.engine.build import describe_devices
from tofae_jax.lhcb_torch.simulation import ModuleSettings, choose_slots, simulate_batch
from tofae_jax.runs import environment


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """simulated events per second"""

    rounds: int = 5
    """turns of each kind"""
    out: str = ""
    """write the result as JSON to this file"""


def kinds(detector: Detector) -> dict[str, tuple[int, Callable[[int], Any]]]:
    """Events of a turn, and what draws those of a turn, by name."""
    settings = ModuleSettings()
    slots = choose_slots(settings, scale=float(settings.dense_factor))

    def device(turn: int) -> Any:
        batch = simulate_batch(
            jax.random.key(0),
            settings,
            n_events=128,
            first_event=128 * turn,
            shape_xyt=detector.shape,
            bin_ns=detector.bin_ns,
            slots=slots,
            scale=settings.dense_factor,
        )
        return jax.block_until_ready(batch)

    def host(photons: Any) -> Callable[[int], Any]:
        module = ModuleEvents(detector, photons=photons)
        return lambda turn: module.draw(np.arange(128) + 128 * turn)

    def toy(name: str) -> Callable[[int], Any]:
        return lambda turn: list(simulate_patterns(turn, 1000, detector=detector, weights={name: 1}))

    return {
        "lhcb_torch, dense, device": (128, device),
        "lhcb_torch, dense, host": (128, host("dense")),
        "lhcb_torch, detected, host": (128, host("detected")),
        **{name: (1000, toy(name)) for name in ("v", "line", "cross", "parabola", "hemisphere")},
    }


def main() -> None:
    """Measure, print, write JSON."""
    options = tyro.cli(Options)
    found = kinds(Detector())
    seconds: dict[str, list[float]] = {name: [] for name in found}
    first: dict[str, float] = {}
    for turn in range(options.rounds + 1):
        for name, (_, draw) in found.items():
            began = time.perf_counter()
            draw(turn)
            took = time.perf_counter() - began
            if turn:
                seconds[name].append(took)
            else:
                first[name] = took
    rates = {name: n / statistics.median(seconds[name]) for name, (n, _) in found.items()}
    result = {
        "events_per_s": rates,
        "first_call_s": first,
        "versions": environment.versions(),
        "system": environment.system_information(describe_devices()),
    }
    for name, rate in rates.items():
        print(f"{name:28s} {rate:12,.0f} events/s   first call {first[name]:.1f} s")
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
