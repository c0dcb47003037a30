"""Confidence intervals: as wide as theory says, about the number itself; and single events that add up to all."""

import math
import sys

import jax
import numpy as np
import pytest
from tiny import settings_from

from tofae_jax.core.detector import Detector
from tofae_jax.data.batches import EvaluationSource
from tofae_jax.data.dataset import Dataset
from tofae_jax.data.simulated.dataset import simulated_dataset
from tofae_jax.engine.build import build_run, step_settings
from tofae_jax.engine.evaluator import Evaluator, evaluation_key
from tofae_jax.metrics import Confusion, EventCounts, ImageSums, Metrics, OutputMetrics, bootstrap, compute

HITS = 30
QUANTILE = 1.959964  # of the normal distribution, two-sided 95 %


@pytest.fixture(autouse=True)
def as_many_resamples_as_ever(monkeypatch):
    monkeypatch.setattr(sys.modules["tofae_jax.metrics.bootstrap"], "N_RESAMPLES", 1000)


def events(found, *, of=HITS, loss=None, noise=10, noise_left=2, **image):
    """Metrics of single events in which so many of `of` hits are found."""
    found = np.asarray(found)
    n, ones = len(found), np.ones(len(found))
    zeros = np.zeros(n, int)
    hits = zeros + of
    confusion = Confusion(found, zeros + noise_left, hits - found, zeros + noise, zeros + noise_left)
    sums = {"squared_error": 0.1 * ones, "absolute_error": 0.2 * ones, "psnr_db": 9 * ones, "power_snr_db": ones}
    counts = dict.fromkeys(("n_pixels_right", "n_pixels_in_time", "n_pixels_near_in_time"), found)
    flat = ImageSums(
        means=np.ones((n, 5)), spreads=np.ones((n, 3)), n_target_pixels=hits, **(sums | counts | {"ssim": ones} | image)
    )
    output = OutputMetrics(confusion, flat)
    return Metrics(
        EventCounts(np.ones(n, int), *[hits] * 7), ones if loss is None else loss, None, None, output, output, output
    )


def total(per_event):
    return jax.tree.map(lambda leaf: leaf.sum(axis=0), per_event)


def found(per_event, **options):
    return bootstrap(per_event, threshold=0.5, **options)


def computed(per_event, **options):
    return compute(total(per_event), threshold=0.5, **options)


def width(limits):
    return limits[1] - limits[0]


def names(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_efficiency_s_interval_is_that_of_the_binomial_distribution(share):
    per_event = events(np.random.default_rng(1).binomial(HITS, share, size=400))
    limits = found(per_event)["masked"]["efficiency"]
    point = computed(per_event)["masked"]["efficiency"]
    expected = 2 * QUANTILE * math.sqrt(point * (1 - point) / (HITS * 400))
    assert width(limits) == pytest.approx(expected, rel=0.1)
    assert limits[0] < point < limits[1]
    assert (limits[0] + limits[1]) / 2 == pytest.approx(point, abs=0.1 * expected)


def test_hits_of_an_event_that_stand_or_fall_together_make_it_wider():
    """The negative control: were hits drawn instead of events, this would be as narrow as above."""
    per_event = events(HITS * np.random.default_rng(1).binomial(1, 0.5, size=400))
    expected = 2 * QUANTILE * math.sqrt(0.25 / 400)
    assert width(found(per_event)["masked"]["efficiency"]) == pytest.approx(expected, rel=0.1)


def test_a_mean_s_interval_is_that_of_the_normal_distribution():
    loss = np.random.default_rng(2).normal(5, 2, size=300)
    limits = found(events(np.full(300, 3), loss=loss))["loss"]
    assert width(limits) == pytest.approx(2 * QUANTILE * loss.std() / math.sqrt(300), rel=0.1)
    assert limits[0] < loss.mean() < limits[1]


def test_in_most_experiments_the_truth_lies_within():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(16):
        low, high = found(events(rng.binomial(HITS, 0.7, size=60)))["direct"]["efficiency"]
        inside += low <= 0.7 <= high
    assert inside >= 13  # of 16: 15.2 expected, less than 13 in one case of 140


def test_a_wider_level_is_wider():
    per_event = events(np.random.default_rng(1).binomial(HITS, 0.5, size=200))
    widths = [width(found(per_event, level=level)["masked"]["efficiency"]) for level in (0.68, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[1] / widths[0] == pytest.approx(QUANTILE / 0.994458, rel=0.1)


@pytest.mark.parametrize("n", [5001, 12_345])
def test_many_events_are_drawn_in_groups_and_none_is_lost(n):
    per_event = events(np.random.default_rng(4).binomial(HITS, 0.5, size=n))
    limits = found(per_event)["masked"]["efficiency"]
    point = computed(per_event)["masked"]["efficiency"]
    assert width(limits) == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / (HITS * n)), rel=0.1)
    assert (limits[0] + limits[1]) / 2 == pytest.approx(point, abs=0.1 * width(limits))


def test_the_same_events_and_seed_give_the_same_interval():
    per_event = events(np.random.default_rng(1).binomial(HITS, 0.5, size=50))
    assert found(per_event) == found(per_event)
    assert found(per_event, seed=1) != found(per_event)


@pytest.mark.parametrize("n", [0, 1])
def test_of_fewer_than_two_events_nothing_is_said(n):
    assert found(events(np.full(n, 3))) == {}


def test_two_events_are_enough():
    assert found(events([0, HITS]))["masked"]["efficiency"] == [0, 1]


def test_without_variance_the_interval_is_the_number():
    per_event = events(np.full(20, 12))
    result = computed(per_event)
    for output, metric in (
        ("masked", "efficiency"),
        ("direct", "mse"),
        ("input", "f1"),
        ("masked", "detection_snr_db"),
    ):
        limits = found(per_event)[output][metric]
        if metric != "detection_snr_db":  # a half is added to each of its counts
            assert limits == pytest.approx([result[output][metric]] * 2, rel=1e-12)
        assert limits[0] == limits[1]


def test_events_without_signal_or_noise_have_finite_intervals():
    per_event = events(np.zeros(20, int), of=0, noise=0, noise_left=0)
    limits = found(per_event)["masked"]
    for metric in ("efficiency", "purity", "f1", "noise_rejection"):
        assert limits[metric] == [1, 1]
    assert all(math.isfinite(limit) for pair in limits.values() for limit in pair)


def test_a_loss_that_is_not_finite_spoils_itself_alone():
    loss = np.ones(20)
    loss[3] = math.nan
    limits = found(events(np.full(20, 12), loss=loss))
    assert all(math.isnan(limit) for limit in limits["loss"])
    assert limits["masked"]["efficiency"] == [0.4, 0.4]


def test_intervals_are_of_numbers_that_compute_gives_and_not_of_counts():
    per_event = events(np.random.default_rng(1).binomial(HITS, 0.5, size=20))
    result = computed(per_event)
    known, of = set(names(result)), set(names(found(per_event)))
    assert of <= known
    assert {"loss", "masked.f1", "direct.ssim", "input.correlation", "masked.false_positives_per_event"} <= of
    is_count = {name for name in known if isinstance(_at(result, name), int)}
    assert not of & is_count
    assert known - of == is_count  # nothing else is left out
    assert "masked.nmi" not in of


def test_an_output_without_times_has_no_intervals_of_them():
    per_event = events(np.random.default_rng(1).binomial(HITS, 0.5, size=20))
    limits = found(per_event, direct_has_time=False)
    assert "mse" not in limits["direct"]
    assert {"efficiency", "true_positive_xy_percent"} <= set(limits["direct"])
    assert "mse" in limits["masked"]


def _at(tree, name):
    for key in name.split("."):
        tree = tree[key]
    return tree


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
    evaluator, settings = Evaluator(setup), step_settings(config)
    source = EvaluationSource(Dataset(path), np.arange(55), batch=16, max_hits=24)
    inputs = (setup.fresh_state().variables, source, evaluation_key(3), settings)
    return evaluator.details(*inputs, n_views=2), evaluator.sums(*inputs), evaluator.result(*inputs)


def test_single_events_add_up_to_the_whole(details):
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


def test_an_evaluation_has_intervals_about_its_numbers(details):
    found, _, result = details
    assert {name: part for name, part in found.result.items() if name != "intervals"} == result
    for name in names(found.result["intervals"]):
        low, high = _at(found.result["intervals"], name)
        assert low <= high
        if not name.endswith("correlation"):  # no mean: a resample of few events may lie to one side
            assert low - 1e-6 * abs(low) <= _at(result, name) <= high + 1e-6 * abs(high), name
