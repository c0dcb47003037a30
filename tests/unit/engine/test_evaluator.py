"""Evaluation of many events: single events add up to the whole, and nothing is left from one evaluation to the next."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from metric_trees import metric_paths, value_at
from small_training import DETECTOR, config

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import EvaluationSource
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.simulated.simulated_dataset import simulated_dataset
from tofae_jax.engine.build import build_run
from tofae_jax.engine.evaluator import evaluation_key, run_evaluator
from tofae_jax.steps import Batch


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """An evaluation whose last batch is filled up: its inputs, its numbers by every way, and what each batch gave."""
    path = tmp_path_factory.mktemp("intervals") / "d"
    simulated_dataset(path, detector=Detector(**DETECTOR), weights={"v": 1, "blank": 1}, n_events=60, seed=1)
    setup = build_run(config(data={"path": str(path)}))
    evaluator = run_evaluator(setup)
    source = EvaluationSource(Dataset(path), np.arange(55), batch=16, max_hits=24)
    inputs = (setup.fresh_state().variables, source, evaluation_key(3), setup.step_settings())
    seen = []
    details = evaluator.details(*inputs, n_views=2, each=lambda batch, output: seen.append((batch, output)))
    return SimpleNamespace(
        evaluator=evaluator,
        inputs=inputs,
        details=details,
        sums=evaluator.sums(*inputs),
        result=evaluator.result(*inputs),
        seen=seen,
    )


def test_details_single_events_add_up_to_the_whole(evaluation):
    """Counts exactly, other sums up to rounding; fillings of the last batch are no events."""
    found, sums = evaluation.details, evaluation.sums
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


def test_details_intervals_are_about_the_numbers(evaluation):
    found, result = evaluation.details, evaluation.result
    assert {name: part for name, part in found.result.items() if name != "intervals"} == result
    for name in metric_paths(found.result["intervals"]):
        low, high = value_at(found.result["intervals"], name)
        assert low <= high
        if not name.endswith("correlation"):  # no mean: a resample of few events may lie to one side
            assert low - 1e-6 * abs(low) <= value_at(result, name) <= high + 1e-6 * abs(high), name


@pytest.mark.backlog("B32", "B01")
def test_result_evaluations_leave_no_state_behind(evaluation):
    """The same numbers whatever was evaluated before, with the same evaluator."""
    variables, source, key, settings = evaluation.inputs
    fewer = EvaluationSource(source.dataset, np.arange(30, 50), batch=16, max_hits=24)
    other = evaluation.evaluator.result(variables, fewer, key, settings)
    assert other["events"] == 20
    assert other["masked"] != evaluation.result["masked"]
    assert evaluation.evaluator.result(*evaluation.inputs) == evaluation.result
    assert evaluation.evaluator.result(variables, fewer, key, settings) == other
    again = evaluation.evaluator.details(*evaluation.inputs)
    assert again.result == evaluation.details.result
    assert len(again.per_event.loss) == 55


@pytest.mark.backlog("B33", "B12", "B43")
def test_result_telemetry_equals_numpy(evaluation):
    """Raw outputs about the threshold, and the true counts beside them, from what each batch gave."""
    real = [batch.is_event for batch, _ in evaluation.seen]
    raw, lit, hits, is_signal = (
        np.concatenate([np.asarray(part)[keep] for part, keep in zip(parts, real, strict=True)])
        for parts in zip(
            *(
                (o.output, o.direct > 0, o.degraded.events.hits, o.degraded.events.is_signal)
                for _, o in evaluation.seen
            ),
            strict=True,
        )
    )
    assert raw.shape == lit.shape == (55, 16, 12)
    bins = np.clip((raw.astype(np.float32) * np.float32(50)).astype(int), 0, 49)
    filled = hits[..., 2] > 0
    expected = {
        "threshold": 0.5,
        "above": int(lit.sum()),
        "below": int((~lit).sum()),
        "not_finite": 0,
        "histogram": np.bincount(bins.ravel(), minlength=50).tolist(),
    }
    assert evaluation.result["outputs"] == expected
    assert 0 < expected["above"] < raw.size
    counts = evaluation.result["counts"]
    assert counts["signal_hits"] == (filled & is_signal).sum() > 0
    assert counts["noise_hits"] == (filled & ~is_signal).sum() > counts["signal_hits"]
    patterns = np.concatenate([batch.hits[batch.is_event] for batch, _ in evaluation.seen])
    assert counts["pattern_hits"] == (patterns[..., 2] > 0).sum()


@pytest.mark.backlog("B06")
def test_sums_every_batch_is_moved_once(evaluation, monkeypatch):
    moved, compiled = [], evaluation.evaluator._sums
    device_put = jax.device_put

    def counted(tree, *where):
        moved.append(tree)
        return device_put(tree, *where)

    def step(variables, batch, key, settings):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((variables, batch, key, settings)))
        return compiled(variables, batch, key, settings)

    monkeypatch.setattr(jax, "device_put", counted)
    monkeypatch.setattr(evaluation.evaluator, "_sums", step)
    evaluation.evaluator.sums(*evaluation.inputs)
    assert [type(tree) for tree in moved] == [Batch] * 4
