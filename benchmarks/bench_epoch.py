"""Events per second of each part of an epoch, compile times and peak memory.

    python benchmarks/bench_epoch.py [--config RECIPE] [--batch 250] [--rounds 5] [--out benchmarks/results/NAME.json]

A recipe's model, loss and counts of hits are measured on its own events, 4000 of them, which are simulated beforehand.

Method: everything is compiled and run once first (that time is reported as compile time, with the persistent cache
off); then the parts take turns, `rounds` times, each on a few batches and blocking until the device is done; medians
are reported. Peak memory is the process's largest resident set.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from tofae_jax.config import Config, read_toml
from tofae_jax.core.degradation import degrade
from tofae_jax.data.batches import EvaluationSource, TrainSource, batches
from tofae_jax.data.dataset import Dataset
from tofae_jax.engine.build import RunSetup, build_run, describe_devices
from tofae_jax.engine.denoiser import run_denoiser
from tofae_jax.engine.evaluator import evaluation_key, run_evaluator
from tofae_jax.engine.events import write_simulation
from tofae_jax.engine.training.loop import compiled_train_step
from tofae_jax.models import MODELS
from tofae_jax.runs import environment
from tofae_jax.steps import Batch, StepSettings, eval_step


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """speed of each part of an epoch"""

    config: str = ""
    """recipe; empty: all settings as they are without one"""
    batch: int | None = None
    """events per step; none given: the recipe's"""
    rounds: int = 5
    """turns of each part"""
    batches: int = 4
    """batches per turn"""
    out: str = ""
    """write the result as JSON to this file"""


INPUT_BATCHES = 40  # reading is quick: a turn of it takes more batches


class Parts:
    """Each method does a turn of its part and returns how many events it went through."""

    def __init__(self, setup: RunSetup, dataset: Dataset, n_batches: int) -> None:
        self.setup, self.n = setup, n_batches
        self.settings = setup.step_settings()
        batch, slots = setup.config.train.batch, setup.config.data.max_hits
        events = np.arange(len(dataset))
        self.source = TrainSource(dataset, events, batch=batch, max_hits=slots, seed=0)
        self.batches = [jax.device_put(self.source[i]) for i in range(n_batches)]
        self.evaluation = EvaluationSource(dataset, events[: n_batches * batch], batch=batch, max_hits=slots)
        self.state = setup.fresh_state()
        self.step = compiled_train_step(setup)
        self.evaluator = run_evaluator(setup)
        self.degrade = jax.jit(self._degrade)
        self.loss_alone = jax.jit(self._loss_alone)
        self.measured = list(dataset.events(0, n_batches * batch))
        trained = jax.tree.map(jnp.copy, self.state.variables)  # training steps reuse the state's memory
        self.denoiser = run_denoiser(setup, trained)
        self.iterator = batches(self.source, threads=0, prefetch=1)  # nothing read before the clock starts

    def _loss_alone(self, variables: Any, key: jax.Array, settings: StepSettings, batch: Batch) -> jax.Array:
        evaluated = eval_step(variables, batch, key, settings, model=self.setup.model, options=self.setup.options)
        return evaluated.metrics.loss

    def _degrade(self, key: jax.Array, batch: Any) -> jax.Array:
        options = self.setup.options
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch.event)

        def one(key: jax.Array, hits: jax.Array) -> jax.Array:
            return degrade(
                key,
                hits,
                self.settings.degradation,
                shape_xyt=options.shape_xyt,
                max_signal=options.max_signal,
                max_noise=options.max_noise,
            ).hits

        return jax.vmap(one)(keys, batch.hits)

    def input(self) -> int:
        """Read, shuffle, pad."""
        return sum(len(next(self.iterator).hits) for _ in range(INPUT_BATCHES))

    def degradation(self) -> int:
        """Sparsify, smear, add noise, on hit lists."""
        key = jax.random.key(0)
        jax.block_until_ready([self.degrade(key, batch) for batch in self.batches])
        return self.n * len(self.batches[0].hits)

    def training(self) -> int:
        """Whole training steps: degradation, images, network, gradient, update."""
        for batch in self.batches:
            self.state, metrics = self.step(self.state, batch, self.settings)
        jax.block_until_ready(metrics)
        return self.n * len(self.batches[0].hits)

    def evaluation_with_metrics(self) -> int:
        """Input, degradation, network and all metrics."""
        self.evaluator.sums(self.state.variables, self.evaluation, evaluation_key(0), self.settings)
        return len(self.evaluation.events)

    def evaluation_with_loss_alone(self) -> int:
        """The same without the metrics: what they cost is the difference."""
        inputs = (self.state.variables, evaluation_key(0), self.settings)
        losses = [self.loss_alone(*inputs, self.evaluation[i]) for i in range(len(self.evaluation))]
        jax.block_until_ready(losses)
        return len(self.evaluation.events)

    def denoising(self) -> int:
        """Measured hits in, scored hits out, on the host."""
        return sum(events.n_events for events in self.denoiser(iter(self.measured)))


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """The result as JSON values."""
    config = read_toml(options.config, Config) if options.config else Config()
    train = msgspec.structs.replace(config.train, batch=options.batch or config.train.batch)
    config = msgspec.structs.replace(config, train=train)
    if MODELS[config.model.name].of_module:
        raise SystemExit(f"{options.config}: model {config.model.name} knows tracks, which are not among these parts")
    simulate = msgspec.structs.replace(config.data.simulate, events=max(4000, 4 * train.batch))
    dataset = write_simulation(str(folder / "events"), simulate, detector=config.detector)
    began = time.perf_counter()
    parts = Parts(build_run(config), dataset, options.batches)
    compile_s = {"initial state": time.perf_counter() - began}
    names = ("input", "degradation", "training", "evaluation_with_metrics", "evaluation_with_loss_alone", "denoising")
    for name in names:
        began = time.perf_counter()
        getattr(parts, name)()
        compile_s[name] = time.perf_counter() - began
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            began = time.perf_counter()
            n_events = getattr(parts, name)()
            rates[name].append(n_events / (time.perf_counter() - began))
    parts.iterator.close()
    return {
        "recipe": options.config or None,
        "model": config.model.name,
        "batch": train.batch,
        "rounds": options.rounds,
        "events_per_s": {name: float(np.median(rate)) for name, rate in rates.items()},
        "events_per_s_range": {name: [min(rate), max(rate)] for name, rate in rates.items()},
        "first_call_s": compile_s,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "batch_hits_kib": parts.source[0].hits.nbytes / 1024,
        "versions": environment.versions(),
        "system": environment.system_information(describe_devices()),
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    table = Table(title=f"{result['model']}, batch {result['batch']}, median of {result['rounds']} turns")
    for heading in ("part", "events/s", "range", "first call, s"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name, rate in result["events_per_s"].items():
        low, high = result["events_per_s_range"][name]
        table.add_row(name, f"{rate:.0f}", f"{low:.0f}-{high:.0f}", f"{result['first_call_s'][name]:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"initial state: {result['first_call_s']['initial state']:.2f} s")
    console.print(
        f"peak memory {result['peak_memory_mib']:.0f} MiB, hits of a batch {result['batch_hits_kib']:.0f} KiB"
    )
    with_metrics, alone = (result["events_per_s"][f"evaluation_with_{part}"] for part in ("metrics", "loss_alone"))
    console.print(f"evaluation with all metrics takes {alone / with_metrics:.2f} times that with the loss alone")
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
        console.print(f"written: {options.out}")


if __name__ == "__main__":
    main()
