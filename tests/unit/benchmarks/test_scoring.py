"""Numbers of the benchmark against slow loops, and their confidence intervals."""

import math

import numpy as np
import pytest
from quality_benchmark import hit_lists, random_events, scoring

QUANTILE = 1.959964  # of the normal distribution, two-sided 95 %


def latest(hits):
    """Image of hits as a dict, by a loop."""
    image = {}
    for x, y, t in hits:
        image[x, y] = max(t, image.get((x, y), 0))
    return image


def test_of_kept_counts_equal_a_loop():
    event = random_events()
    kept = np.random.default_rng(1).random(event.filled.shape) < 0.5
    found = scoring.of_kept(event, kept)
    for i in range(len(event)):
        pairs = [
            (bool(kept[i, j]), bool(event.is_signal[i, j])) for j in range(kept.shape[1]) if event.hits[i, j, 2] > 0
        ]
        assert found.true_positives[i] == pairs.count((True, True))
        assert found.false_positives[i] == found.noise_left[i] == pairs.count((True, False))
        assert found.false_negatives[i] == pairs.count((False, True))
        assert found.noise[i] == pairs.count((True, False)) + pairs.count((False, False))
        target = latest(hit_lists(event, event.is_signal)[i])
        image = latest(hit_lists(event, kept & event.filled)[i])
        assert found.target_pixels[i] == len(target)
        assert found.pixels_in_time[i] == sum(image.get(pixel) == t for pixel, t in target.items())


def test_of_images_counts_equal_a_loop():
    event = random_events(seed=2)
    rng = np.random.default_rng(3)
    images = (rng.integers(0, 20, event.image.shape) * (rng.random(event.image.shape) < 0.5)).astype(np.float32)
    found = scoring.of_images(event, images, event.signal_image)
    for i in range(len(event)):
        lit, target, noise = images[i] > 0, event.signal_image[i] > 0, set()
        for x, y, t in hit_lists(event, event.filled & ~event.is_signal)[i]:
            if event.image[i, y, x] == t and not target[y, x]:
                noise.add((x, y))
        assert found.true_positives[i] == np.sum(lit & target)
        assert found.false_positives[i] == np.sum(lit & ~target)
        assert found.false_negatives[i] == np.sum(~lit & target)
        assert found.noise[i] == len(noise)
        assert found.noise_left[i] == sum(lit[y, x] for x, y in noise)


def test_of_images_perfect_and_inverted_output():
    event = random_events(n=6)
    perfect = scoring.estimates(scoring.of_kept(event, event.is_signal))
    for name in scoring.QUALITIES:
        assert perfect[name] == pytest.approx((1, 1, 1), abs=1e-6), name
    inverted = scoring.estimates(scoring.of_kept(event, ~event.is_signal))
    by_chance = {"ssim": 0.99, "full_tof_accuracy": 0.2}  # noise may have the signal's pixel and time
    for name in scoring.QUALITIES:
        assert inverted[name].value <= by_chance.get(name, 0), name


def of_binomial(found, of=30):
    found = np.asarray(found)
    zeros, hits = np.zeros_like(found), np.full_like(found, of)
    return scoring.OfEach(found, zeros, hits - found, zeros, zeros, hits, found, found / of)


def test_estimates_intervals_are_binomial_and_cover_the_truth():
    rng, covered, experiments = np.random.default_rng(3), 0, 40
    for _ in range(experiments):
        estimate = scoring.estimates(of_binomial(rng.binomial(30, 0.7, 100)))["efficiency"]
        covered += estimate.low <= 0.7 <= estimate.high
        assert estimate.low < estimate.value < estimate.high
    assert covered >= 33  # 38 expected; less than 33 in one case of a hundred
    estimate = scoring.estimates(of_binomial(rng.binomial(30, 0.5, 400)))["full_tof_accuracy"]
    assert estimate.high - estimate.low == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / 12000), rel=0.12)
    # negative control: hits of an event that stand or fall together
    together = scoring.estimates(of_binomial(30 * rng.binomial(1, 0.5, 400)))["efficiency"]
    assert together.high - together.low == pytest.approx(2 * QUANTILE * math.sqrt(0.25 / 400), rel=0.12)


def test_estimates_of_one_event_and_of_none():
    assert scoring.estimates(of_binomial([12]))["efficiency"] == (0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match="no events"):
        scoring.estimates(of_binomial([]))
