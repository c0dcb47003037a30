from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import normalized_mutual_information, peak_signal_noise_ratio, structural_similarity

from tofae_jax import metrics as m
from tofae_jax.core import hits


def images(seed, n=3, shape=(20, 16), density=0.2):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, *shape)) < density, rng.random((n, *shape)), 0).astype(np.float32)


def test_ssim_equals_the_reference(reference):
    data = reference("metrics")
    y, t = data["prediction"][:, 0], data["target"][:, 0]
    ours = m.ssim(jnp.asarray(y / 1000), jnp.asarray(t / 1000))
    np.testing.assert_allclose(np.mean(ours), data["unit|SSIM_range1"], rtol=1e-5)
    in_bins = m.ssim(jnp.asarray(y), jnp.asarray(t), data_range=1.0)
    np.testing.assert_allclose(np.mean(in_bins), data["tof|SSIM_range1"], rtol=2e-3)


def test_ssim_map_agrees_with_scikit_image_inside():
    y, t = images(0, 1)[0], images(1, 1)[0]
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, full = structural_similarity(y.astype(float), t.astype(float), full=True, **options)
    pad = m.SSIM_RADIUS_PIXELS  # their edges repeat the outermost pixel, ours mirror about it
    padded = [np.pad(a, pad, mode="reflect") for a in (y, t)]
    _, theirs = structural_similarity(*(a.astype(float) for a in padded), full=True, **options)
    np.testing.assert_allclose(m.ssim(jnp.asarray(y), jnp.asarray(t)), theirs[pad:-pad, pad:-pad].mean(), rtol=1e-5)
    assert not np.isclose(full.mean(), theirs[pad:-pad, pad:-pad].mean(), rtol=1e-5)  # the check can fail


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (12, 4)])
def test_ssim_of_equal_images_is_1_at_any_size(shape):
    image = jnp.asarray(images(0, 2, shape, 0.5))
    np.testing.assert_allclose(m.ssim(image, image), 1, rtol=1e-6)
    np.testing.assert_allclose(m.ssim(jnp.zeros((1, *shape)), jnp.zeros((1, *shape))), 1)


def test_pixel_counts_equal_the_reference(reference):
    data = reference("metrics")
    y, t = jnp.asarray(data["prediction"][:, 0]), jnp.asarray(data["target"][:, 0])
    counts = m.pixel_confusion(y > 0, t > 0, jnp.zeros(y.shape, bool), jnp.ones(3, bool))
    assert int(counts.n_true_positives) == data["tof|true_positives_xy"]
    assert int(counts.n_false_positives) == data["tof|false_positives"]
    assert int(counts.n_false_negatives) == data["tof|false_negatives"]


def in_bins(y, t, n_t=1000, **options):
    """What is computed for images in time bins."""
    y, t = jnp.asarray(y, jnp.float32), jnp.asarray(t, jnp.float32)
    sums = m.image_sums(y, t, jnp.ones(len(y), bool), n_t=n_t, **options)
    return m.compute_images(m.to_host(sums), len(y))


def test_image_metrics_equal_the_reference(reference):
    data = reference("metrics")
    y, t = data["prediction"][:, 0], data["target"][:, 0]
    result = in_bins(y, t)
    names = {
        "mse": "MSE",
        "mae": "MAE",
        "psnr_db": "PSNR_range1",
        "power_snr_db": "SNR_power_db",
        "correlation": "CC",
        "ssim": "SSIM_range1",
        "nmi": "NMI_minus_1",
        "true_positive_xy_percent": "true_positive_xy_percent",
        "true_positive_tof_percent": "true_positive_tof_percent",
        "true_positives_xy": "true_positives_xy",
        "true_positives_tof": "true_positives_tof",
    }
    for ours, theirs in names.items():
        assert result[ours] == pytest.approx(float(data[f"unit|{theirs}"]), rel=1e-4), ours
    right = in_bins(t, t)
    assert [right[f"true_positive_{name}_percent"] for name in ("xy", "tof", "tof_near")] == [100, 100, 100]
    assert right["correlation"] == pytest.approx(1)
    assert right["nmi"] == pytest.approx(1)


def test_psnr_agrees_with_scikit_image():
    y, t = images(3, 1), images(4, 1)
    assert in_bins(y * 10, t * 10, n_t=10)["psnr_db"] == pytest.approx(
        peak_signal_noise_ratio(t, y, data_range=1), rel=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_agrees_with_scikit_image(seed):
    rng = np.random.default_rng(seed)
    t = np.round(images(seed, 3) * 1000)
    y = np.where(rng.random(t.shape) < 0.5, t, np.round(images(seed + 9, 3) * 1000))
    for image in (y, t):
        image.flat[:2] = 0, 1000  # their bins are as wide as the data, ours as the time range
    assert in_bins(y, t)["nmi"] == pytest.approx(normalized_mutual_information(y, t) - 1, rel=1e-5)


@pytest.mark.parametrize("n_t", [7, 115, 230, 700, 1000])
def test_every_whole_bin_falls_where_it_belongs(n_t):
    times = np.arange(n_t + 1)
    cells = jax.jit(lambda t: m.time_cells(t, jnp.zeros_like(t), t >= 0, n_t=n_t))(times.astype(np.float32))
    np.testing.assert_array_equal(cells // 100, np.minimum(times * 100 // n_t, 99))


@pytest.mark.parametrize("level", [300.0, 1000 / 3, 700.0])
def test_correlation_of_flat_and_nearly_flat_images(level):
    rng = np.random.default_rng(0)
    flat = np.full((8, 128, 88), level)
    sparse = np.where(rng.random(flat.shape) < 0.01, 500.0, 0)
    for y, t in ((flat, flat), (flat, sparse), (sparse, flat)):
        assert in_bins(y, t)["correlation"] == 0
    grainy = (flat + 0.05 * rng.standard_normal(flat.shape)).astype(np.float32)
    assert in_bins(grainy, grainy)["correlation"] == pytest.approx(1)
    expected = np.corrcoef(grainy.ravel().astype(np.float64), sparse.ravel())[0, 1]
    assert in_bins(grainy, sparse)["correlation"] == pytest.approx(expected, rel=0.01)
    steps = flat * np.arange(1, 9)[:, None, None] / 8  # each event flat, but not the same
    assert in_bins(steps, steps)["correlation"] == pytest.approx(1)
    assert in_bins(steps, steps[::-1])["correlation"] == pytest.approx(-1)


def test_mutual_information_of_independent_constant_and_equal_images():
    assert m.normalised_mutual_information(np.full((4, 4), 7)) == pytest.approx(0)
    assert m.normalised_mutual_information(np.diag([3, 4, 5])) == pytest.approx(1)
    one_cell = np.zeros((3, 3))
    assert m.normalised_mutual_information(one_cell) == 1  # nothing at all
    one_cell[1, 2] = 5
    assert m.normalised_mutual_information(one_cell) == 1


def test_times_count_as_right_within_half_a_bin_and_as_near_within_the_tolerance():
    t = [[[5.0, 5.0, 5.0, 0.0, 5.0, 5.0]]]
    y = [[[5.4, 5.6, 0.0, 5.0, 4.6, 9.0]]]
    result = in_bins(y, t, n_t=100, tolerance_bins=3.0)
    assert [result[f"true_positives_{name}"] for name in ("xy", "tof", "tof_near")] == [4, 2, 3]
    assert result["true_positive_tof_near_percent"] == pytest.approx(60)
    assert in_bins(y, t, n_t=100, tolerance_bins=4.0)["true_positives_tof_near"] == 4


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_empty_and_flat_images_give_finite_numbers(level):
    flat = np.full((2, 4, 4), 10 * level)
    result = in_bins(flat, flat, n_t=10)
    assert result["psnr_db"] == pytest.approx(100, rel=1e-4)
    assert (result["correlation"], result["nmi"], result["true_positive_xy_percent"]) == (0, 1, 100)
    assert result["power_snr_db"] == pytest.approx(0 if level == 0 else 94, abs=0.1)
    assert all(np.isfinite(value) for value in result.values())


def test_no_prediction_and_no_target_are_defined():
    lit, dark = np.full((1, 3, 3), 4.0), np.zeros((1, 3, 3))
    missed, invented = in_bins(dark, lit), in_bins(lit, dark)
    assert (missed["true_positive_xy_percent"], missed["true_positive_tof_percent"]) == (0, 0)
    assert (invented["true_positive_xy_percent"], invented["true_positives_xy"]) == (100, 0)  # nothing was missed
    for result in (missed, invented):
        assert all(np.isfinite(value) for value in result.values())


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0, 3, 40]))
def test_sparse_images_may_be_compared_by_their_hits_alone(seed, k):
    rng = np.random.default_rng([seed, 3])
    event = jnp.asarray(rng.integers(0, [6, 5, 9], (2, k, 3)))  # empty slots, shared pixels, equal hits
    image = hits.embed(event, n_x=6, n_y=5)
    output = hits.mask(image, jnp.asarray(rng.integers(0, 2, image.shape)))
    is_event = jnp.asarray(rng.random(2) < 0.8)
    sums = m.pixel_sums(
        hits.at_hits(output, event),
        hits.at_hits(image, event),
        is_event,
        counts=hits.is_one_at_pixel(event, image),
        n_t=9,
        n_pixels=30,
    )
    batch_metrics = m.image_sums(output, image, is_event, n_t=9)._replace(ssim=None)
    n = int(is_event.sum())
    assert_same(m.compute_images(m.to_host(sums), n), m.compute_images(m.to_host(batch_metrics), n))


@pytest.mark.backlog("B12")
def test_output_counts_are_python_ints_and_add_up():
    output = jnp.array([[[0.0, 0.019, 0.02, 0.49]], [[0.51, 1.0, 1.7, -3.0]], [[0.9, 0.9, 0.9, 0.9]]])
    sums = m.output_sums(output, output > 0.5, jnp.array([True, True, False]))
    result = m.compute_outputs(m.to_host(sums), 0.5)
    assert (result["threshold"], result["above"], result["below"]) == (0.5, 3, 5)
    assert [i for i, n in enumerate(result["histogram"]) for _ in range(n)] == [0, 0, 0, 1, 24, 25, 49, 49]
    assert all(type(n) is int for n in [result["above"], result["below"], *result["histogram"]])


def test_output_counts_survive_nan():
    output = jnp.full((70, 1, 2), jnp.nan, jnp.float16)
    result = m.compute_outputs(m.to_host(m.output_sums(output, output > 0.5, jnp.ones(70, bool))), 0.5)
    assert (result["above"], result["below"], result["not_finite"]) == (0, 0, 140)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_outputs_fall_into_the_right_bins(dtype):
    every = jnp.asarray(np.arange(2**16, dtype=np.uint16)).view(dtype)
    every = every[(every >= 0) & (every <= 1)][None, None]
    sums = m.output_sums(every, every > 0.9, jnp.ones(1, bool))
    expected = np.minimum(np.asarray(every, np.float32).ravel() * np.float32(50), 49).astype(int)
    np.testing.assert_array_equal(sums.histogram, np.bincount(expected, minlength=50))


@pytest.mark.backlog("B42", "B32")
def test_detection_snr_is_finite_without_false_positives():
    only_right = m.compute_confusion(m.Confusion(9, 0, 0, 0, 0), 1)
    only_wrong = m.compute_confusion(m.Confusion(0, 9, 0, 9, 9), 1)
    assert only_right["detection_snr_db"] == pytest.approx(10 * np.log10(19))
    assert only_wrong["detection_snr_db"] == pytest.approx(-10 * np.log10(19))


def computed(sums, **options):
    return m.compute(sums, threshold=0.5, **options)


def random_metrics(seed, n, is_event=None):
    """Metrics of random events, as an evaluation step makes them."""
    rng = np.random.default_rng([seed, 7])
    is_hit = rng.random((n, 12)) < 0.8
    is_signal, kept = rng.random((n, 12)) < 0.3, rng.random((n, 12)) < 0.5
    y, t, noise = images(seed, n), images(seed + 1, n), images(seed + 2, n) > 0
    return batch_metrics(*(jnp.asarray(a) for a in (kept, is_signal, is_hit, y, t, noise)), is_event=is_event)


@jax.jit
def batch_metrics(kept, is_signal, is_hit, y, t, noise, is_event=None):
    is_event = jnp.ones(len(kept), bool) if is_event is None else is_event
    image = m.image_sums(y * 1000, t * 1000, is_event, n_t=1000)
    by_hits = m.OutputMetrics(m.hit_confusion(kept, is_signal, is_hit, is_event), image)
    by_pixels = m.OutputMetrics(m.pixel_confusion(y > 0, t > 0, noise, is_event), image)
    count = jnp.sum(is_event, dtype=jnp.int32)
    outputs = m.output_sums(y, y > 0.5, is_event)
    untouched = m.OutputMetrics(by_hits.confusion, image._replace(ssim=None))
    scores = m.score_sums(kept * 0.8, jnp.zeros(kept.shape), is_signal, is_hit, is_event)
    counts = m.EventCounts(*[count] * 8)
    return m.Metrics(counts, jnp.sum(is_event * 1.5), outputs, scores, untouched, by_pixels, by_hits)


@settings(max_examples=20)
@given(st.integers(0, 100), st.sets(st.integers(1, 7), max_size=3), st.sampled_from([8, 11]))
def test_any_cutting_into_batches_gives_the_same(seed, cuts, slots):
    n = 8
    rng = np.random.default_rng([seed, 1])
    hits = [jnp.asarray(rng.random((n, 12)) < p) for p in (0.5, 0.3, 0.8)]
    pictures = [jnp.asarray(images(seed, n)), jnp.asarray(images(seed + 1, n)), jnp.asarray(images(seed + 2, n) > 0)]
    whole = computed(m.to_host(batch_metrics(*hits, *pictures)))
    parts, ends = [], [0, *sorted(cuts), n]
    for start, end in pairwise(ends):
        cut = [
            jnp.pad(a[start:end], [(0, slots - (end - start))] + [(0, 0)] * (a.ndim - 1), constant_values=1)
            for a in hits + pictures
        ]
        parts.append(batch_metrics(*cut, is_event=jnp.arange(slots) < end - start))
    merged = parts[0]
    for part in parts[1:]:
        merged = m.merge(merged, part)
    assert_same(computed(m.to_host(merged)), whole)
    on_host = m.to_host(parts[-1])
    for part in parts[-2::-1]:
        on_host = m.merge(on_host, m.to_host(part))
    assert_same(computed(on_host), whole)


def assert_same(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, int | list):
        assert first == second
    else:
        assert first == pytest.approx(second, rel=1e-5)


def test_hit_counts_by_hand():
    flags = [[1, 1, 0, 0, 1, 1]], [[1, 0, 1, 0, 0, 1]], [[1, 1, 1, 1, 1, 0]]
    kept, signal, is_hit = (jnp.array(flag, bool) for flag in flags)
    counts = m.hit_confusion(kept, signal, is_hit, jnp.ones(1, bool))
    result = m.compute_confusion(jax.device_get(counts), 1)
    assert (result["true_positives"], result["false_positives"], result["false_negatives"]) == (1, 2, 1)
    assert result["efficiency"] == 1 / 2
    assert result["purity"] == 1 / 3
    assert result["f1"] == 2 / 5
    assert result["noise_rejection"] == 1 / 3
    assert (result["noise_left"], result["noise_made"]) == (2, 0)


def test_pixel_counts_tell_noise_left_over_from_noise_made():
    lit = jnp.array([[[1, 1, 1, 0, 0]]], bool)
    target = jnp.array([[[1, 0, 0, 1, 0]]], bool)
    noise = jnp.array([[[0, 1, 0, 0, 1]]], bool)
    counts = m.pixel_confusion(lit, target, noise, jnp.ones(1, bool))
    result = m.compute_confusion(jax.device_get(counts), 1)
    assert (result["false_positives"], result["noise_left"], result["noise_made"]) == (2, 1, 1)
    assert result["noise_rejection"] == 1 / 2


@pytest.mark.parametrize(
    ("kept", "signal", "is_hit", "efficiency", "purity", "rejection"),
    [
        (0, 0, 0, 1.0, 1.0, 1.0),  # nothing at all
        (0, 1, 1, 0.0, 1.0, 1.0),  # all signal, nothing kept
        (1, 0, 1, 1.0, 0.0, 0.0),  # all noise, all kept
        (1, 1, 1, 1.0, 1.0, 1.0),  # all signal, all kept
    ],
)
def test_shares_of_nothing_are_defined(kept, signal, is_hit, efficiency, purity, rejection):
    flags = [jnp.full((2, 3), bool(flag)) for flag in (kept, signal, is_hit)]
    result = m.compute_confusion(jax.device_get(m.hit_confusion(*flags, jnp.ones(2, bool))), 2)
    assert (result["efficiency"], result["purity"], result["noise_rejection"]) == (efficiency, purity, rejection)


def test_ints_are_ints_and_no_events_are_no_error():
    nothing = computed(m.to_host(random_metrics(0, 2, is_event=jnp.zeros(2, bool))))
    assert nothing["events"] == 0
    assert nothing["masked"]["f1"] == nothing["masked"]["nmi"] == 1
    assert nothing["masked"]["true_positive_tof_percent"] == 100
    assert nothing["masked"]["correlation"] == nothing["masked"]["mse"] == nothing["loss"] == 0
    result = computed(m.to_host(random_metrics(0, 2)))
    for name in ("true_positives", "false_positives", "false_negatives", "noise_left", "noise_made"):
        assert type(result["masked"][name]) is int
    assert all(type(count) is int for count in result["counts"].values())


def test_counts_do_not_overflow_on_the_host():
    large = jax.tree.map(lambda leaf: jnp.full((), 2**30, leaf.dtype), random_metrics(0, 1))
    total = m.to_host(large)
    for _ in range(7):
        total = m.merge(total, m.to_host(large))
    assert int(total.direct.confusion.n_false_positives) == 8 * 2**30


def test_outputs_without_time_have_no_image_metrics():
    result = computed(m.to_host(random_metrics(0, 2)), direct_has_time=False)
    assert result["direct"]["mse"] is None
    assert result["direct"]["true_positive_tof_percent"] is None
    assert result["direct"]["true_positive_xy_percent"] is not None
    assert result["masked"]["mse"] is not None
