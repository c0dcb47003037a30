"""Metrics as sums: batches, merging, and what is computed of them."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_images import assert_same, images

from tofae_jax import metrics as m


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


def computed(sums, **options):
    return m.compute(sums, threshold=0.5, **options)


def random_metrics(seed, n, is_event=None):
    """Metrics of random events, as an evaluation step makes them."""
    rng = np.random.default_rng([seed, 7])
    is_hit = rng.random((n, 12)) < 0.8
    is_signal, kept = rng.random((n, 12)) < 0.3, rng.random((n, 12)) < 0.5
    y, t, noise = images(seed, n), images(seed + 1, n), images(seed + 2, n) > 0
    return batch_metrics(*(jnp.asarray(a) for a in (kept, is_signal, is_hit, y, t, noise)), is_event=is_event)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 100), st.sets(st.integers(1, 7), max_size=3), st.sampled_from([8, 11]))
def test_merge_any_batches_give_the_same(seed, cuts, slots):
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


def test_compute_ints_are_ints_and_no_events_are_defined():
    nothing = computed(m.to_host(random_metrics(0, 2, is_event=jnp.zeros(2, bool))))
    assert nothing["events"] == 0
    assert nothing["masked"]["f1"] == nothing["masked"]["nmi"] == 1
    assert nothing["masked"]["true_positive_tof_percent"] == 100
    assert nothing["masked"]["correlation"] == nothing["masked"]["mse"] == nothing["loss"] == 0
    result = computed(m.to_host(random_metrics(0, 2)))
    for name in ("true_positives", "false_positives", "false_negatives", "noise_left", "noise_made"):
        assert type(result["masked"][name]) is int
    assert all(type(count) is int for count in result["counts"].values())


def test_to_host_counts_do_not_overflow():
    large = jax.tree.map(lambda leaf: jnp.full((), 2**30, leaf.dtype), random_metrics(0, 1))
    total = m.to_host(large)
    for _ in range(7):
        total = m.merge(total, m.to_host(large))
    assert int(total.direct.confusion.n_false_positives) == 8 * 2**30


def test_compute_outputs_without_time_have_no_image_metrics():
    result = computed(m.to_host(random_metrics(0, 2)), direct_has_time=False)
    assert result["direct"]["mse"] is None
    assert result["direct"]["true_positive_tof_percent"] is None
    assert result["direct"]["true_positive_xy_percent"] is not None
    assert result["masked"]["mse"] is not None
