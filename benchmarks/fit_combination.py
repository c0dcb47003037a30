"""What the blind model's search and its network should weigh in a hit's score: logistic regression on fresh events.

    python benchmarks/fit_combination.py RUN [--config RECIPE] [--events 256]

It prints the three settings of `model.lhcb_torch`, and log loss and F1 of what each of both says (`bounded`: of the
network, what it expects of the event as a whole is taken out) and of them together. Half of the events have 30 signal
and 200 noise hits, half the ranges of the recipe, whose search is used too; without one, both are the run's.
scikit-learn comes with the extra `report`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import msgspec
import numpy as np

from tofae_jax.config import Config, read_toml
from tofae_jax.engine import process
from tofae_jax.engine.build import build_run
from tofae_jax.engine.evaluate import with_degradation
from tofae_jax.engine.evaluator import evaluation_key
from tofae_jax.engine.events import evaluation_source, open_events, splits_of
from tofae_jax.engine.load import LoadedRun, load_run
from tofae_jax.models.interface import HitInput
from tofae_jax.models.lhcb_torch_blind import Evidence, LhcbTorch, bounded
from tofae_jax.steps.inputs import degrade_batch

SEED = 901  # no recipe and no benchmark simulates with it
USUAL = 30, 200


def evidence_of(run: LoadedRun, config: Config, n_events: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounded evidence `[n, 2]` of all hits of fresh events, and which of them are signal `[n]`."""
    setup, store = build_run(config), open_events(config, print)
    settings = setup.step_settings()
    source = evaluation_source(config, store, splits_of(store, config.data).test[:n_events])

    @jax.jit
    def step(variables: Any, batch: Any) -> tuple[Evidence, Any, Any]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(evaluation_key(config.seed), batch.event)
        degraded = degrade_batch(keys, batch, settings, setup.options).events
        is_hit = (degraded.hits[..., 2] > 0) & batch.is_event[:, None]
        evidence: Any = setup.model.module.apply(variables, HitInput(degraded.hits), method=LhcbTorch.evidence)
        return bounded(evidence, is_hit), degraded.is_signal, is_hit

    found, truth = [], []
    for i in range(len(source)):
        evidence, is_signal, is_hit = jax.device_get(step(run.variables, source[i]))
        found.append(np.stack(evidence, axis=-1)[is_hit])
        truth.append(is_signal[is_hit])
    return np.concatenate(found), np.concatenate(truth)


def described(log_odds: np.ndarray, is_signal: np.ndarray) -> str:
    """Log loss and F1 at even chance."""
    kept = log_odds > 0
    loss = np.logaddexp(0, np.where(is_signal, -log_odds, log_odds)).mean()
    return f"log loss {loss:.4f}, F1 {2 * (kept & is_signal).sum() / (kept.sum() + is_signal.sum()):.4f}"


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of model lhcb_torch")
    parser.add_argument("--config", help="recipe of the search and of the events")
    parser.add_argument("--events", type=int, default=256, help="of each half")
    arguments = parser.parse_args()
    from sklearn.linear_model import LogisticRegression

    process.prepare_process()
    run = load_run(arguments.run, best=False)
    own = read_toml(arguments.config, Config) if arguments.config else run.setup.config
    if own.model.name != "lhcb_torch" or not own.model.lhcb_torch.samples:
        raise ValueError("there is no search to be weighed: give a recipe of model lhcb_torch with samples by --config")
    data = msgspec.structs.replace(
        own.data, test_share=0.1, simulate=msgspec.structs.replace(own.data.simulate, seed=SEED)
    )
    own = msgspec.structs.replace(own, data=data)
    parts, counts = [], []
    for config in (with_degradation(own, n_signal=USUAL[0], n_noise=USUAL[1]), own):
        parts.append(evidence_of(run, config, arguments.events))
        counts.append(f"{config.degradation.n_signal} signal and {config.degradation.n_noise} noise hits")
    fit = LogisticRegression(C=1e4).fit(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    for name, (evidence, truth) in zip(counts, parts, strict=True):
        print(f"{name}:")
        for place, source in enumerate(Evidence._fields):
            print(f"  {source}: {described(evidence[:, place], truth)}")
        print(f"  together: {described(fit.decision_function(evidence), truth)}")
    (found_weight, network_weight), (offset,) = fit.coef_[0], fit.intercept_
    print(f"found_weight = {found_weight:.2f}\nnetwork_weight = {network_weight:.2f}\noffset = {offset:.2f}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"fit_combination: {error}")
