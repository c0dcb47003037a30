"""Where the benchmark's patterns and noise come from: nothing is trained on, nothing used twice."""

import numpy as np
import pytest
from places import ROOT
from quality_benchmark import FULL, drawn, sources

from tofae_jax.config import Config, read_toml
from tofae_jax.data.events import Events
from tofae_jax.data.simulated.lhcb_torch import ModuleEvents
from tofae_jax.data.simulated.mixtures import simulate_patterns
from tofae_jax.lhcb_torch.simulation import ORIGINS


@pytest.mark.slow
def test_held_out_no_event_is_trained_on_or_used_twice():
    seeds = {read_toml(recipe, Config).data.simulate.seed for recipe in (ROOT / "configs").glob("*.toml")}
    assert not seeds & set(range(sources.HELD_OUT_SEED, sources.HELD_OUT_SEED + 1000))
    training = next(iter(simulate_patterns(0, 1000, detector=FULL, weights={"v": 1}, chunk_events=1000)))
    known = {part.tobytes() for part in np.split(training.hits, training.offsets[1:-1]) if len(part) > 10}
    validation, test = (drawn("v", part, n_events=50).patterns for part in ("validation", "test"))
    both = [{pattern.tobytes() for pattern in patterns if len(pattern) > 10} for patterns in (validation, test)]
    assert not both[0] & both[1]
    assert not known & (both[0] | both[1])
    assert min(map(len, both)) > 30


def test_held_out_legacy_patterns_are_dealt_once():
    validation, test = (drawn("legacy", part, n_events=200) for part in ("validation", "test"))
    assert (len(validation), len(test)) == (40, 80)
    with np.load(sources.LEGACY_FILE) as file:
        stored = [
            file[name][file[name][:, 0] == i][:, 1:].astype(np.int16).tobytes()
            for name in ("rdt", "pdt")
            for i in range(60)
        ]
    assert sorted(pattern.tobytes() for pattern in validation.patterns + test.patterns) == sorted(stored)


class FakeModule:
    """Two simulated events: hits of every origin, those of an origin all in its own column."""

    def __init__(self, detector, **_):
        pass

    def draw(self, numbers):
        origin = np.tile(np.repeat(np.arange(5), 20), len(numbers)).astype(np.int8)
        hits = np.column_stack([origin, np.arange(len(origin)) % 128, np.arange(len(origin)) + 1]).astype(np.int16)
        per_event = np.arange(len(numbers) + 1)
        columns = {"origin": origin, "track": np.where(origin < 2, 7, -1)}
        window = {"window_start_ns": np.full(len(numbers), 30.0, np.float32)}
        return Events(hits, 100 * per_event, columns, window, per_event, {"x_mm": np.arange(len(numbers))}), 0


@pytest.mark.parametrize("name", sources.MODULES)
def test_held_out_module_noise_is_one_kind_of_background(name, monkeypatch):
    noise = sources.MODULES[name]
    ModuleEvents(FULL, backgrounds=noise.backgrounds).check()
    monkeypatch.setattr(sources, "ModuleEvents", FakeModule)
    event = drawn(name, n_events=2, n_signal=10, n_noise=15, seed=99)
    assert (event.hits[event.is_signal][:, 0] == 0).all()
    columns = set(event.hits[event.filled & ~event.is_signal][:, 0].tolist())
    assert columns == {ORIGINS.index(noise.origin)} if noise.origin else len(columns) > 5
    assert (event.filled & ~event.is_signal).sum() == 2 * 15
    seen = event.as_events()
    assert (seen.n_events, seen.n_hits, set(seen.hit_columns)) == (2, 50, set())  # no truth of the hits
    assert event.first(1).tracks["x_mm"].tolist() == [0]
