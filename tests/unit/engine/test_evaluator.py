"""Evaluation of many events: single events add up to the whole, and nothing is left from one evaluation to the next."""

import jax
import numpy as np
import pytest
from metric_trees import metric_paths, value_at
from tiny import settings_from

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import EvaluationSource
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run
from tofae_jax.engine.evaluator import Evaluator, evaluation_key

DETECTOR = {"n_x": 12, "n_y": 16, "n_t": 40}


@pytest.fixture(scope="module")
def details(tmp_path_factory):
    """Of an evaluation whose last batch is filled up, and the sums and the numbers of the very same."""
    path = tmp_path_factory.mktemp("intervals") / "d"
    simulated_dataset(path, detector=Detector(**DETECTOR), weights={"v": 1, "blank": 1}, n_events=60, seed=1)
    tree = {
        "detector": DETECTOR,
        "data": {"path": str(path), "max_hits": 24},
        "degradation": {"n_signal": 8, "n_noise": [10, 20]},
        "model": {"autoencoder": {"latent": 4, "fc": 16}},
        "train": {"batch": 16},
    }
    config = settings_from(tree)
    setup = build_run(config)
    evaluator, settings = Evaluator(setup), build_run(config).step_settings()
    source = EvaluationSource(Dataset(path), np.arange(55), batch=16, max_hits=24)
    inputs = (setup.fresh_state().variables, source, evaluation_key(3), settings)
    return evaluator.details(*inputs, n_views=2), evaluator.sums(*inputs), evaluator.result(*inputs)


def test_details_single_events_add_up_to_the_whole(details):
    """Counts exactly, other sums up to rounding; fillings of the last batch are no events."""
    found, sums, _ = details
    assert len(found.per_event.loss) == 55
    whole = sums._replace(
        outputs=None,
        scores=None,
        **{name: _without_joint(getattr(sums, name)) for name in ("input", "direct", "masked")},
    )
    parts = jax.tree.map(
        lambda leaf: np.asarray(leaf).astype(np.float64 if leaf.dtype.kind == "f" else np.int64).sum(axis=0),
        found.per_event,
    )
    assert jax.tree.structure(parts) == jax.tree.structure(whole)
    n_counts = 0
    for part, expected in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        if np.asarray(expected).dtype.kind in "iu":
            np.testing.assert_array_equal(part, expected)
            n_counts += 1
        else:
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)
    assert n_counts > 20
    assert parts.events.n_events == 55


def _without_joint(output):
    return output._replace(image=output.image._replace(joint=None))


def test_details_intervals_are_about_the_numbers(details):
    found, _, result = details
    assert {name: part for name, part in found.result.items() if name != "intervals"} == result
    for name in metric_paths(found.result["intervals"]):
        low, high = value_at(found.result["intervals"], name)
        assert low <= high
        if not name.endswith("correlation"):  # no mean: a resample of few events may lie to one side
            assert low - 1e-6 * abs(low) <= value_at(result, name) <= high + 1e-6 * abs(high), name
